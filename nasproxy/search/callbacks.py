"""Callbacks of a search: the live table on the terminal, JSON lines, and the trackers TensorBoard and MLflow.

A :class:`SearchCallback` is told of every trial that ended, once, in the order in which they ended. Another tracker is
a class with its two methods and a line in ``TRACKERS``.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
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
class FinishedTrial:
    """A trial that ended.

    Args:
        number: of the trial, from 0.
        candidate: its id.
        state: "complete", "pruned" at a rung, or "failed".
        score: of a complete trial.
        against: what is minimised at the same time, by name.
        rungs: the value of each rung that was measured.
        before: whether it ended in an earlier process of the same search.
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


class SearchCallback(Protocol):
    """Is called while a search runs. It must be quick: the search waits for it."""

    def update(self, done: int, total: int, finished: Sequence[FinishedTrial]) -> None:
        """``done`` of ``total`` candidates have an outcome; ``finished`` ended since the last call."""

    def close(self) -> None:
        """Is called when the search has ended or was interrupted."""


class SearchProgress:
    """The progress of a search: the best trials so far, the rate, the time left, and how the others ended."""

    def __init__(self) -> None:
        self.best: list[FinishedTrial] = []
        self._states: dict[str, str] = {}  # by candidate: a copy counts once
        self._before: set[str] = set()
        self._started = time.monotonic()
        self.done, self.total = 0, 0

    def add(self, done: int, total: int, finished: Sequence[FinishedTrial]) -> None:
        self.done, self.total = done, total
        for one in finished:
            self._states.setdefault(one.candidate, one.state)
            if one.before:
                self._before.add(one.candidate)
        ranked = {one.candidate: one for one in (*self.best, *finished) if one.score is not None}
        self.best = sorted(ranked.values(), key=lambda one: (-(one.score or 0.0), one.number))[:NUM_SHOWN]

    def text(self) -> str:
        """``12 of 100 candidates, 3.1 per minute, about 28 min left, 4 pruned at a rung, 1 failed``"""
        words = [f"{self.done} of {self.total} candidates"]
        minutes = (time.monotonic() - self._started) / 60
        fresh = self.done - len(self._before)
        if fresh > 0 and minutes > 0:
            rate = fresh / minutes
            words.append(f"{rate:.3g} per minute")
            if self.done < self.total:
                left = 60 * (self.total - self.done) / rate
                words.append(f"about {f'{left:.0f} s' if left < 90 else f'{left / 60:.0f} min'} left")
        counts = Counter(self._states.values())
        words += [
            f"{counts[state]} {text}"
            for state, text in (("pruned", "pruned at a rung"), ("failed", "failed"))
            if counts[state]
        ]
        return ", ".join(words)


class LiveTable:
    """On a terminal: a table of the best candidates, updated in place. In a log file: one line every now and then."""

    def __init__(self, show: Callable[[float], str], out: TextIO | None = None) -> None:
        self._show = show
        self._out = out or sys.stderr
        self._tally = SearchProgress()
        self._live: Any = None
        self._last = time.monotonic()

    def update(self, done: int, total: int, finished: Sequence[FinishedTrial]) -> None:
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
    """One JSON object in a line for each trial, for programs."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def update(self, done: int, total: int, finished: Sequence[FinishedTrial]) -> None:
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
        """Writes the line of an event."""
        print(json.dumps({"event": event} | values, ensure_ascii=False, allow_nan=False), file=self._out, flush=True)

    def close(self) -> None:
        pass


class TensorBoard:
    """Writes the score and the best score by trial into ``RUN/tensorboard``, and the settings as text."""

    def __init__(self, run: Path, settings: Mapping[str, Any]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise NasproxyError("TensorBoard is missing: python -m pip install 'nasproxy[tensorboard]'.") from None
        self._writer = SummaryWriter(str(run / "tensorboard"))
        self._writer.add_text("settings", "\n".join(f"    {name}={value}" for name, value in settings.items()))
        self._best: float | None = None

    def update(self, done: int, total: int, finished: Sequence[FinishedTrial]) -> None:
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
    """Logs the settings and the score of every trial to one MLflow run, at ``MLFLOW_TRACKING_URI``.

    Another process of the same search continues the same MLflow run.
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

    def update(self, done: int, total: int, finished: Sequence[FinishedTrial]) -> None:
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
    """With ``wanted``, standard output holds JSON lines only; what is printed for people goes to standard error."""
    if not wanted:
        yield None
        return
    lines = JsonLines(sys.stdout)
    with redirect_stdout(sys.stderr):
        yield lines


@contextmanager
def all_callbacks(callbacks: Sequence[SearchCallback]) -> Iterator[SearchCallback]:
    """All ``callbacks`` as one; they are closed at the end."""
    try:
        yield _All(callbacks)
    finally:
        for callback in callbacks:
            callback.close()


class _All:
    def __init__(self, callbacks: Sequence[SearchCallback]) -> None:
        self._callbacks = callbacks

    def update(self, done: int, total: int, finished: Sequence[FinishedTrial]) -> None:
        for callback in self._callbacks:
            callback.update(done, total, finished)

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


def make_tracker(name: str, run: Path, settings: Mapping[str, Any]) -> SearchCallback:
    """The tracker called ``name`` for the run folder ``run``.

    Raises:
        NasproxyError: when its package is not installed.
    """
    return TRACKERS[name](run, settings)


TRACKERS: dict[str, Callable[[Path, Mapping[str, Any]], SearchCallback]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
}
