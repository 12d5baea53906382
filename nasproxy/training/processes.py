"""A crew of worker processes: one per core or several per GPU, and what to do when one dies.

A worker that dies or hangs is replaced, and its job is done again while all other workers are idle. After
``MAX_ATTEMPTS`` such deaths the job's failure is recorded. A job that runs out of memory is also done again alone; if
it runs out of memory then, too, that is its result.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from nasproxy.core.errors import NasproxyError
from nasproxy.training.images import NO_IMAGES
from nasproxy.training.jobs import Job, Result
from nasproxy.training.messages import Answer, Order
from nasproxy.training.results import FailureKind, Fit, failed_fit
from nasproxy.training.shared_files import SharedFiles
from nasproxy.training.worker import BEAT_SECONDS
from nasproxy.training.worker_handle import Inbox, WorkerHandle, how_it_ended

MAX_ATTEMPTS = 3
HANG_SECONDS = 900.0


class Processes:
    """A crew of ``size`` processes on one device, each with ``threads`` CPU threads. Use it as a context manager.

    Args:
        size: how many jobs at the same time.
        device: where all of them train.
        threads: CPU threads of each process.
        hang_seconds: a worker that is busy and sent no message for so long is killed.
        keep: the folder of checkpoints of long trainings; None keeps nothing.
        tell: is called with a line for people when a worker died.
    """

    def __init__(
        self,
        size: int,
        device: torch.device,
        *,
        threads: int = 1,
        hang_seconds: float = HANG_SECONDS,
        keep: Path | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.size = size
        self.keep = keep
        self.device = device
        self.threads = threads
        self.hang_seconds = hang_seconds
        self._tell = tell
        self._shared = SharedFiles()
        self._inbox: Inbox = queue.SimpleQueue()
        self._attempts: dict[tuple[str, str, str], int] = {}
        self._for_one_alone: list[Job] = []  # jobs to do while all other workers are idle
        self._alone: WorkerHandle | None = None  # the worker that does one of these
        self._workers: list[WorkerHandle] = []  # started with the first job

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """The workers' process numbers."""
        return [worker.process.pid for worker in self._workers]

    @property
    def free(self) -> int:
        """Jobs that it would start now."""
        if self._for_one_alone or self._alone is not None:
            return 0
        if not self._workers:
            return self.size
        return sum(worker.job is None for worker in self._workers)

    def submit(self, job: Job) -> None:
        """Starts ``job``; only while ``free``."""
        if not self._workers:
            self._workers = [self._start() for _ in range(self.size)]
        if job.task.alone:
            self._for_one_alone.append(job)
            return
        self._hand(next(worker for worker in self._workers if worker.job is None), job)

    def results(self, timeout: float, beat: Callable[[], None]) -> list[Result]:
        """What was measured since the last call. Waits at most ``timeout`` seconds, and calls ``beat`` meanwhile.

        Raises:
            RuntimeError: with the worker's traceback, for an error in a worker that is a bug.
            NasproxyError: when a worker ends by itself before it had anything to do.
        """
        ends = time.monotonic() + timeout
        found: list[Result] = []
        while not found and (left := ends - time.monotonic()) > 0:
            beat()
            self._hand_one_alone()
            with contextlib.suppress(queue.Empty):
                found += self._take(*self._inbox.get(timeout=min(left, BEAT_SECONDS)))
                while True:
                    found += self._take(*self._inbox.get_nowait())
            found += self._end_hanging()
        return found

    def close(self) -> None:
        """Kills all workers; what they were training is lost."""
        for worker in self._workers:
            worker.end()
        self._workers = []
        self._shared.close()

    # ---- handing out

    def _start(self) -> WorkerHandle:
        return WorkerHandle.start(self.device, self.threads, self._inbox)

    def _hand(self, worker: WorkerHandle, job: Job) -> None:
        without_held_out = replace(job.task, held_out=NO_IMAGES)  # many tasks share the held-out images
        order = Order(
            task=self._shared.file((job.task.score, job.task.others, job.task.setting), without_held_out),
            held_out=self._shared.file(id(job.task.held_out), job.task.held_out),
            builder=self._shared.file(job.builder.hash, job.builder),
            candidate=job.candidate,
            params=job.params,
            seeds=job.seeds,
            keep=None if self.keep is None else str(self.keep),
        )
        worker.hand(job, order)

    def _hand_one_alone(self) -> None:
        """Starts a job that must run alone, once all workers are idle."""
        if self._for_one_alone and all(worker.job is None for worker in self._workers):
            self._alone = self._workers[0]
            self._hand(self._alone, self._for_one_alone.pop(0))

    # ---- taking back

    def _take(self, worker: WorkerHandle, answer: Answer | None) -> list[Result]:
        """What an answer means; None says that the worker has ended."""
        if worker not in self._workers:
            return []  # it was replaced before
        worker.heard = time.monotonic()
        if answer is None:
            return self._ended(worker)
        if answer.bug is not None:
            raise RuntimeError(f"A worker failed with an unexpected error:\n{answer.bug}")
        job = worker.job
        if answer.fits is None or answer.seed is None or job is None:
            return []  # a sign of life
        short_of_memory = any(fit.failure_kind is FailureKind.OUT_OF_MEMORY for fit in answer.fits.values())
        if short_of_memory and self.size > 1 and self._alone is not worker:
            self._ran_out_of_memory(worker, job)
            return []
        worker.open_seeds.remove(answer.seed)
        finished = not worker.open_seeds
        if finished:
            self._set_idle(worker)
        shares = {score: self._own_share(fit) for score, fit in answer.fits.items()}
        return [job.result(answer.seed, shares, finished=finished)]

    def _own_share(self, fit: Fit) -> Fit:
        """``fit`` with a share of the joules, which are those of the device while all workers were busy."""
        return fit if fit.joules is None else replace(fit, joules=fit.joules / self.size)

    def _ran_out_of_memory(self, worker: WorkerHandle, job: Job) -> None:
        """The other workers may have taken the memory: the job is done again, alone, in a fresh process."""
        self._for_one_alone.append(replace(job, seeds=tuple(worker.open_seeds)))
        worker.end()
        self._replace(worker)

    def _end_hanging(self) -> list[Result]:
        hanging = [worker for worker in self._workers if worker.silent_for() > self.hang_seconds]
        return [result for worker in hanging for result in self._ended(worker, f"hung for {self.hang_seconds:g} s")]

    def _ended(self, worker: WorkerHandle, reason: str | None = None) -> list[Result]:
        """Replaces a worker that died or hangs. Its job is done again, alone, or fails after ``MAX_ATTEMPTS``."""
        code = worker.end()
        reason = reason or how_it_ended(code)
        job, seeds = worker.job, tuple(worker.open_seeds)
        self._replace(worker)
        if job is None:
            if code >= 0:  # it ended by itself, before it had anything to do: another one would, too
                raise NasproxyError(f"A worker process {reason} before its first candidate: see its message above.")
            return []
        attempts = self._attempts[job.key] = self._attempts.get(job.key, 0) + 1
        if attempts < MAX_ATTEMPTS:
            if self._tell is not None:
                self._tell(f"a worker {reason} while it trained {job.candidate}: tried again, alone")
            self._for_one_alone.append(replace(job, seeds=seeds))
            return []
        failed = failed_fit(FailureKind.WORKER_DIED, f"its worker {reason}, and {attempts} attempts ended so", 0.0)
        return [job.result(seed, {job.task.score: failed}, finished=seed == seeds[-1]) for seed in seeds]

    def _replace(self, worker: WorkerHandle) -> None:
        """Puts a fresh process in the place of ``worker``, which has ended."""
        self._set_idle(worker)
        self._workers[self._workers.index(worker)] = self._start()

    def _set_idle(self, worker: WorkerHandle) -> None:
        worker.job = None
        if self._alone is worker:
            self._alone = None
