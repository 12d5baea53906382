"""Crews do jobs: a crew of one trains in this process, a larger one in processes of its own. ``hire`` makes one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch

from nasproxy.training.jobs import Job, Result
from nasproxy.training.processes import Processes
from nasproxy.training.trainer import Trainer

THREADS_PER_WORKER = 2
WORKER_BYTES = 2**30  # of memory: torch, the net and its activations


class Crew(Protocol):
    """Takes jobs while it is ``free``, and gives their results back."""

    @property
    def keep(self) -> Path | None:
        """The folder of checkpoints of long trainings. A checkpoint may be removed once its result is stored.

        With None, an interrupted training starts again.
        """

    @property
    def size(self) -> int:
        """Jobs that it can work on at the same time."""

    @property
    def free(self) -> int:
        """Jobs that it would start now."""

    def submit(self, job: Job) -> None:
        """Starts ``job``; only while ``free``."""

    def results(self, timeout: float, beat: Callable[[], None]) -> list[Result]:
        """What was measured since the last call. Waits at most ``timeout`` seconds, and calls ``beat`` meanwhile."""


class Inline:
    """A crew of one that trains in this process."""

    size = 1

    def __init__(self, device: torch.device, *, keep: Path | None = None) -> None:
        self.keep = keep
        self._trainer = Trainer(device)
        self._job: Job | None = None

    @property
    def free(self) -> int:
        return 1 if self._job is None else 0

    def submit(self, job: Job) -> None:
        self._job = job

    def results(self, timeout: float, beat: Callable[[], None]) -> list[Result]:
        """Trains one seed of the job, however long it takes."""
        job = self._job
        if job is None:
            time.sleep(timeout)
            return []
        seed, *rest = job.seeds
        fits = self._trainer.train(job, seed, beat, self.keep)
        self._job = replace(job, seeds=tuple(rest)) if rest else None
        return [job.result(seed, fits, finished=not rest)]


@contextmanager
def hire(
    size: int | None, device: torch.device, *, keep: Path | None = None, tell: Callable[[str], None] | None = None
) -> Iterator[Crew]:
    """A crew for the time of a ``with`` block; its processes end with the block.

    Args:
        size: how many jobs at the same time; 1 trains in this process. None: :func:`default_size`.
        device: where all of them train.
        keep: the folder of checkpoints of long trainings; None keeps nothing.
        tell: is called with a line for people when a worker died.
    """
    size = size or default_size(device)
    if size == 1:
        yield Inline(device, keep=keep)
    else:
        with Processes(size, device, threads=max(1, torch.get_num_threads() // size), keep=keep, tell=tell) as crew:
            yield crew


def default_size(device: torch.device) -> int:
    """How many workers to start: on a CPU one per two of torch's threads, as far as memory allows; on a GPU one.

    Two threads train one candidate as fast as two workers train two, and leave no core idle at the end of a round
    (benchmarks/RESULTS.md). On a GPU nothing has been measured yet.
    """
    if device.type != "cpu":
        return 1
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else WORKER_BYTES
    return max(1, min(torch.get_num_threads() // THREADS_PER_WORKER, free // WORKER_BYTES))
