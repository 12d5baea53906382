"""Who looks on while a search runs: a table on the terminal, lines of JSON, TensorBoard, MLflow.

All are a :class:`Watcher`: told of every candidate that got its answer, once, in the order of the answers. Another one
is a class with these two methods and a line in ``TRACKERS``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO

from nasproxy.core.errors import NasproxyError, unknown
from nasproxy.core.progress import LOG_EVERY_SECONDS
from nasproxy.spaces import Params

NUM_SHOWN = 5  # rows of the live table


@dataclass(frozen=True)
class Finished:
    """A candidate that got its answer as trial ``number``: "complete", "pruned" at a rung, or "failed".

    ``score`` and what it is held ``against`` of a complete one; ``rungs`` as far as it came. ``before``: in an earlier
    process of the same search.
    """

    number: int
    candidate: str
    params: Params
    state: str
    score: float | None = None
    against: Mapping[str, float] = field(default_factory=dict)
    rungs: Sequence[float] = ()
    before: bool = False

    @property
    def label(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.params.items())


class Watcher(Protocol):
    """Looks on; what it does must be quick, for the search waits for it."""

    def update(self, done: int, total: int, finished: Sequence[Finished]) -> None:
        """``done`` of ``total`` candidates have their answers, and ``finished`` got theirs since the last call."""

    def close(self) -> None:
        """The search has ended, or was interrupted."""


class Tally:
    """What a person wants to know meanwhile: the best so far, the rate, the time left, and how others ended."""

    def __init__(self) -> None:
        self.best: list[Finished] = []
        self.counts = {"complete": 0, "pruned": 0, "failed": 0}
        self._started = time.monotonic()
        self._before = 0
        self.done, self.total = 0, 0

    def add(self, done: int, total: int, finished: Sequence[Finished]) -> None:
        self.done, self.total = done, total
        for one in finished:
            self.counts[one.state] += 1
            self._before += one.before
        ranked = {one.candidate: one for one in (*self.best, *finished) if one.score is not None}
        self.best = sorted(ranked.values(), key=lambda one: (-(one.score or 0.0), one.number))[:NUM_SHOWN]

    def text(self) -> str:
        """``12 of 100 candidates, 3.1 per minute, about 28 min left, 4 ended at a rung, 1 failed``"""
        words = [f"{self.done} of {self.total} candidates"]
        minutes = (time.monotonic() - self._started) / 60
        fresh = self.done - self._before
        if fresh > 0 and minutes > 0:
            rate = fresh / minutes
            words.append(f"{rate:.3g} per minute")
            if self.done < self.total:
                left = 60 * (self.total - self.done) / rate
                words.append(f"about {f'{left:.0f} s' if left < 90 else f'{left / 60:.0f} min'} left")
        words += [
            f"{self.counts[state]} {text}"
            for state, text in (("pruned", "ended at a rung"), ("failed", "failed"))
            if self.counts[state]
        ]
        return ", ".join(words)


class LiveTable:
    """On a terminal: the best candidates and a line of numbers, in place; in a log: that line, now and then."""

    def __init__(self, show: Callable[[float], str], out: TextIO | None = None) -> None:
        self._show = show
        self._out = out or sys.stderr
        self._tally = Tally()
        self._live: Any = None
        self._last = time.monotonic()

    def update(self, done: int, total: int, finished: Sequence[Finished]) -> None:
        self._tally.add(done, total, finished)
        if self._out.isatty():
            if self._live is None:
                from rich.console import Console
                from rich.live import Live

                self._live = Live(console=Console(file=self._out), refresh_per_second=2, transient=True)
                self._live.start()
            self._live.update(self._table())
        elif finished and (time.monotonic() - self._last >= LOG_EVERY_SECONDS or done >= total):
            self._last = time.monotonic()
            best = f", best {self._show(self._tally.best[0].score or 0.0)}" if self._tally.best else ""
            print(f"searching: {self._tally.text()}{best}", file=self._out, flush=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            print(f"searching: {self._tally.text()}", file=self._out, flush=True)

    def _table(self) -> Any:
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE, caption=self._tally.text(), caption_justify="left", expand=False)
        table.add_column("best", justify="right", no_wrap=True)
        names = list(self._tally.best[0].against) if self._tally.best else []
        for name in names:
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("candidate", overflow="ellipsis", no_wrap=True)
        for one in self._tally.best:
            table.add_row(self._show(one.score or 0.0), *(f"{one.against[name]:.4g}" for name in names), one.label)
        return table


class JsonLines:
    """One JSON object per line and candidate, for machines."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def update(self, done: int, total: int, finished: Sequence[Finished]) -> None:
        for one in finished:
            if not one.before:
                self.say(
                    "candidate",
                    done=done,
                    total=total,
                    trial=one.number,
                    candidate=one.candidate,
                    params=one.params,
                    state=one.state,
                    score=one.score,
                    against=dict(one.against),
                    rungs=list(one.rungs),
                )

    def say(self, event: str, **values: Any) -> None:
        """A line of any kind."""
        print(json.dumps({"event": event} | values, ensure_ascii=False, allow_nan=False), file=self._out, flush=True)

    def close(self) -> None:
        pass


class TensorBoard:
    """Score and best score by trial, into ``RUN/tensorboard``, and what every parameter gave as a table of hparams."""

    def __init__(self, run: Path, settings: Mapping[str, Any]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise NasproxyError("TensorBoard is missing: python -m pip install 'nasproxy[tensorboard]'.") from None
        self._writer = SummaryWriter(str(run / "tensorboard"))
        self._writer.add_text("settings", "\n".join(f"    {name}={value}" for name, value in settings.items()))
        self._best: float | None = None

    def update(self, done: int, total: int, finished: Sequence[Finished]) -> None:
        for one in finished:
            if one.score is not None and (self._best is None or one.score > self._best):
                self._best = one.score
            if one.before:
                continue
            for rung, value in enumerate(one.rungs):
                self._writer.add_scalar(f"search/rung {rung}", value, one.number)
            if one.score is not None:
                self._writer.add_scalar("search/score", one.score, one.number)
                self._writer.add_scalar("search/best", self._best, one.number)
                for name, value in one.against.items():
                    self._writer.add_scalar(f"search/{name}", value, one.number)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class MLflow:
    """Settings and the score of every trial, as one run of MLflow where ``MLFLOW_TRACKING_URI`` says.

    Another process of the same search goes on with the same MLflow run.
    """

    def __init__(self, run: Path, settings: Mapping[str, Any]) -> None:
        try:
            import mlflow
        except ImportError:
            raise NasproxyError("MLflow is missing: python -m pip install 'nasproxy[mlflow]'.") from None
        self._mlflow = mlflow
        self._best: float | None = None
        known = run / ".mlflow-run"
        identity = known.read_text().strip() if known.exists() else None
        try:
            active = mlflow.start_run(run_id=identity, run_name=None if identity else run.name)
        except mlflow.exceptions.MlflowException as error:
            raise NasproxyError(f"MLflow does not start a run: {str(error).splitlines()[0]}") from None
        if identity is None:
            known.write_text(active.info.run_id)
            mlflow.log_params({name: value for name, value in settings.items() if value not in ("", None)})

    def update(self, done: int, total: int, finished: Sequence[Finished]) -> None:
        for one in finished:
            if one.score is not None and (self._best is None or one.score > self._best):
                self._best = one.score
            if one.score is not None and self._best is not None and not one.before:
                metrics = {"score": one.score, "best": self._best} | dict(one.against)
                self._mlflow.log_metrics(metrics, step=one.number)

    def close(self) -> None:
        self._mlflow.end_run()


@contextmanager
def json_lines(wanted: bool) -> Iterator[JsonLines | None]:
    """With ``wanted``, standard output belongs to lines of JSON, and what is printed for people goes to error."""
    if not wanted:
        yield None
        return
    lines = JsonLines(sys.stdout)
    with redirect_stdout(sys.stderr):
        yield lines


@contextmanager
def watched(watchers: Sequence[Watcher]) -> Iterator[Watcher]:
    """All of ``watchers`` as one, closed in the end."""
    try:
        yield _All(watchers)
    finally:
        for watcher in watchers:
            watcher.close()


class _All:
    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._watchers = watchers

    def update(self, done: int, total: int, finished: Sequence[Finished]) -> None:
        for watcher in self._watchers:
            watcher.update(done, total, finished)

    def close(self) -> None:
        pass


def tracker_names(text: str) -> tuple[str, ...]:
    """Names of trackers separated by commas; empty text is none.

    Raises:
        NasproxyError: for an unknown name.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in TRACKERS:
            raise unknown("tracker", name, TRACKERS)
    return names


def make_tracker(name: str, run: Path, settings: Mapping[str, Any]) -> Watcher:
    """The tracker called ``name`` for the run folder ``run``.

    Raises:
        NasproxyError: when its package is not installed.
    """
    return TRACKERS[name](run, settings)


TRACKERS: dict[str, Callable[[Path, Mapping[str, Any]], Watcher]] = {"tensorboard": TensorBoard, "mlflow": MLflow}
