"""How long a build takes and on how many threads it is fastest, by timing its first units of work."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import torch

FEWER_THREADS = 0.9  # of the time with twice as many: below, fewer are taken; timings scatter by some percent
PACE_UNITS, PACE_SECONDS = 20, 3.0  # units of work that are timed: whatever comes first


@dataclass(frozen=True)
class Estimate:
    """How long a build takes, and how it runs fastest.

    Args:
        seconds: of the whole build.
        threads: of the CPU; None on a CUDA device.
        compile: whether first-order passes are compiled.
        precision: of first-order passes.
    """

    seconds: float
    threads: int | None
    compile: bool = False
    precision: str = "float32"


class _Enough(BaseException):
    """Ends a build that was only timed. It is no ``Exception``, so that nothing in between handles it."""


def pace(build: Callable[[Callable[[int, int, str], None]], object]) -> float:
    """Seconds that ``build`` takes in all, from its first units of work.

    Args:
        build: does the work and calls its argument after each unit with units done, units in total and a note. It is
            ended by an exception once enough units are timed.
    """
    marks: list[tuple[float, int]] = []
    whole = 0

    def progress(done: int, total: int, note: str) -> None:
        nonlocal whole
        whole = total
        marks.append((time.perf_counter(), done))
        if len(marks) > PACE_UNITS or (len(marks) > 2 and marks[-1][0] - marks[0][0] > PACE_SECONDS):
            raise _Enough

    start = time.perf_counter()
    with suppress(_Enough):
        build(progress)
    if len(marks) < 2:
        return time.perf_counter() - start
    (first, before), (last, after) = marks[0], marks[-1]  # the first unit warms up
    return whole * (last - first) / (after - before)


def fewest_threads(seconds: Callable[[int], float], precision: str = "float32") -> Estimate:
    """Halves the number of CPU threads as long as that is clearly faster.

    Small nets can be slower on many threads, and on a busy machine all threads wait for the slowest one.

    Args:
        seconds: times a build with a number of threads.
        precision: is kept with the result.
    """
    threads = torch.get_num_threads()
    best = Estimate(seconds(threads), threads, precision=precision)
    while threads > 1:
        threads //= 2
        fewer = replace(best, seconds=seconds(threads), threads=threads)
        if fewer.seconds > FEWER_THREADS * best.seconds:
            break
        best = fewer
    return best
