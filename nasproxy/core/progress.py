"""Shows progress: a bar with the remaining time on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nasproxy.core.distributed import own_rank

Progress = Callable[[int, int, str], None]

LOG_EVERY_SECONDS = 30.0


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Yields a function ``progress(done, total, note)`` that draws on standard error.

    Nothing is drawn before its first call. Of several processes, process 0 draws.
    """
    if own_rank() > 0:
        yield lambda done, total, note: None
    elif sys.stderr.isatty():
        yield from _bar(title)
    else:
        yield from _log(title)


def _bar(title: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Bar(*columns, console=Console(stderr=True), refresh_per_second=4) as bar:
        task = bar.add_task(title, total=None, note="")
        yield lambda done, total, note: bar.update(task, completed=done, total=total, note=note)


def _log(title: str) -> Iterator[Progress]:
    started = last = time.monotonic()
    first: int | None = None
    last_done: tuple[int, int] | None = None

    def line(done: int, total: int, note: str) -> None:
        elapsed = time.monotonic() - started
        worked = done - (first or 0)
        left = f", about {elapsed / worked * (total - done):.0f} s left" if worked > 0 and done < total else ""
        print(
            f"{title}: {done}/{total}, {elapsed:.0f} s{left}{', ' + note if note else ''}", file=sys.stderr, flush=True
        )

    def update(done: int, total: int, note: str) -> None:
        nonlocal first, last, last_done
        if first is None:
            first = done  # a resumed job did the first ones before
        now = time.monotonic()
        finished = done >= total and last_done != (done, total)
        if finished or now - last >= LOG_EVERY_SECONDS:
            line(done, total, note)
            last = now
        last_done = (done, total)

    yield update
