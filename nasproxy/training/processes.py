"""Processes that train: each gets candidates as lines of JSON and answers with one line per training.

A *crew* takes jobs and gives results back. :class:`Inline` trains in this process; :class:`Processes` keeps one process
per core or several per GPU busy, and outlives their deaths: a job whose worker died, hung or ran out of memory is tried
again with no other beside it, and after ``MAX_ATTEMPTS`` its failure is recorded.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from filelock import FileLock, Timeout

from nasproxy.core.errors import NasproxyError
from nasproxy.training.images import NO_IMAGES
from nasproxy.training.jobs import BEAT_SECONDS, Crew, Inline, Job, Result
from nasproxy.training.results import FailureKind, Fit, failed_fit

MAX_ATTEMPTS = 3
HANG_SECONDS = 900.0
THREADS_PER_WORKER = 2
WORKER_BYTES = 2**30  # of memory, for torch, the net and its activations
FOLDER, LOCK = "nasproxy-workers-", "lock"  # of what a crew's workers read


@contextlib.contextmanager
def hire(
    size: int | None, device: torch.device, *, keep: Path | None = None, tell: Callable[[str], None] | None = None
) -> Iterator[Crew]:
    """A crew of ``size`` on ``device``, ended afterwards; of one: in this process. None: :func:`default_size`."""
    size = size or default_size(device)
    if size == 1:
        yield Inline(device, keep=keep)
    else:
        with Processes(size, device, threads=max(1, torch.get_num_threads() // size), keep=keep, tell=tell) as crew:
            yield crew


def default_size(device: torch.device) -> int:
    """On a CPU one worker per two threads that torch would use, as far as memory goes; on a GPU one.

    Two threads train one candidate as fast as two workers train two, and leave no core without work at the end of a
    round (benchmarks/RESULTS.md); on a GPU nothing has been measured yet.
    """
    if device.type != "cpu":
        return 1
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else WORKER_BYTES
    return max(1, min(torch.get_num_threads() // THREADS_PER_WORKER, pages // WORKER_BYTES))


@dataclass
class _Worker:
    """One process as the coordinator sees it."""

    process: subprocess.Popen[str]
    job: Job | None = None
    open_seeds: list[int] = field(default_factory=list)
    heard: float = 0.0

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its end is noticed by its reader
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def end(self) -> str:
        """Ends it, whatever it does; how it ended, in words."""
        self.process.kill()
        code = self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit status {code}"


class Processes:
    """A crew of ``size`` processes on one device, each with ``threads`` CPU threads. Use it as a context manager.

    Args:
        hang_seconds: a worker that is busy and has not been heard of for so long is ended.
        tell: gets a line for a person when a worker died.
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
        _remove_abandoned()
        self._folder = tempfile.TemporaryDirectory(prefix=FOLDER)
        self._lock = FileLock(Path(self._folder.name) / LOCK)
        self._lock.acquire()
        self._files: dict[Hashable, tuple[Path, object]] = {}
        self._inbox: queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]] = queue.SimpleQueue()
        self._attempts: dict[tuple[str, str, str], int] = {}
        self._by_themselves: list[Job] = []  # to be done with no other beside them
        self._alone: _Worker | None = None
        self._workers: list[_Worker] = []  # started with the first job

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
        if self._by_themselves or self._alone is not None:
            return 0
        if not self._workers:
            return self.size
        return sum(worker.job is None for worker in self._workers)

    def submit(self, job: Job) -> None:
        if not self._workers:
            self._workers = [self._start() for _ in range(self.size)]
        if job.task.alone:
            self._by_themselves.append(job)
            return
        self._hand(next(worker for worker in self._workers if worker.job is None), job)

    def results(self, timeout: float, beat: Callable[[], None]) -> list[Result]:
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
        """Ends all workers; what they were training is lost."""
        for worker in self._workers:
            worker.end()
        self._workers = []
        self._lock.release()
        self._folder.cleanup()

    def _start(self) -> _Worker:
        environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
        process = subprocess.Popen(
            [sys.executable, "-m", "nasproxy.training.worker", str(self.device), str(self.threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        worker = _Worker(process)

        def read() -> None:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    self._inbox.put((worker, json.loads(line)))
            except ValueError:
                pass  # cut in the middle of a line, or closed
            self._inbox.put((worker, None))

        threading.Thread(target=read, daemon=True).start()
        return worker

    def _hand(self, worker: _Worker, job: Job) -> None:
        worker.job, worker.open_seeds, worker.heard = job, list(job.seeds), time.monotonic()
        task = replace(job.task, held_out=NO_IMAGES)  # which many tasks share
        worker.send(
            {
                "task": self._file((job.task.score, job.task.setting), task),
                "held_out": self._file(id(job.task.held_out), job.task.held_out),
                "builder": self._file(job.builder.hash, job.builder),
                "candidate": job.candidate,
                "params": job.params,
                "seeds": job.seeds,
                "keep": None if self.keep is None else str(self.keep),
            }
        )

    def _file(self, key: Hashable, content: object) -> str:
        """``content`` for all workers: one file, mapped into memory by each of them."""
        if key not in self._files:
            path = Path(self._folder.name) / f"{len(self._files)}.pt"
            torch.save(content, path, pickle_protocol=pickle.HIGHEST_PROTOCOL)
            self._files[key] = path, content
        return str(self._files[key][0])

    def _take(self, worker: _Worker, message: dict[str, Any] | None) -> list[Result]:
        """What a worker's message means; None: it has ended."""
        if worker not in self._workers:
            return []  # replaced meanwhile
        worker.heard = time.monotonic()
        if message is None:
            return self._replace(worker, "")
        if "bug" in message:
            raise RuntimeError(f"A worker failed with an error that it does not know:\n{message['bug']}")
        job = worker.job
        if "seed" not in message or job is None:
            return []
        seed, curve, kind = message.pop("seed"), message.pop("curve"), message.pop("failure_kind")
        if message["joules"] is not None:  # the device's, while all were at work
            message["joules"] /= self.size
        fit = Fit(
            **message,
            failure_kind=None if kind is None else FailureKind(kind),
            curve=tuple((epoch, value) for epoch, value in curve),
        )
        if (
            fit.failure_kind is FailureKind.OUT_OF_MEMORY and self.size > 1 and self._alone is not worker
        ):  # the others may have taken the memory
            self._by_themselves.append(replace(job, seeds=tuple(worker.open_seeds)))
            self._idle(worker)
            worker.end()
            self._workers[self._workers.index(worker)] = self._start()
            return []
        worker.open_seeds.remove(seed)
        finished = not worker.open_seeds
        if finished:
            self._idle(worker)
        return [Result(job, job.evaluation(seed, fit), finished)]

    def _idle(self, worker: _Worker) -> None:
        worker.job = None
        if self._alone is worker:
            self._alone = None

    def _replace(self, worker: _Worker, reason: str) -> list[Result]:
        """A worker has ended: starts another one; its job is tried again, alone, or given up."""
        how = worker.end()
        reason = reason or how
        self._workers[self._workers.index(worker)] = self._start()
        job, seeds = worker.job, tuple(worker.open_seeds)
        self._idle(worker)
        if job is None:
            if reason.startswith("ended"):  # by itself, before it had anything to do
                raise NasproxyError(f"A worker process {reason} before its first candidate: see its message above.")
            return []
        attempts = self._attempts[job.key] = self._attempts.get(job.key, 0) + 1
        if attempts < MAX_ATTEMPTS:
            if self._tell is not None:
                self._tell(f"a worker {reason} while it trained {job.candidate}: tried again, alone")
            self._by_themselves.append(replace(job, seeds=seeds))
            return []
        failed = failed_fit(FailureKind.WORKER_DIED, f"its worker {reason}, and {attempts} attempts ended so", 0.0)
        return [Result(job, job.evaluation(seed, failed), finished=seed == seeds[-1]) for seed in seeds]

    def _hand_one_alone(self) -> None:
        if self._by_themselves and all(worker.job is None for worker in self._workers):
            self._alone = self._workers[0]
            self._hand(self._alone, self._by_themselves.pop(0))

    def _end_hanging(self) -> list[Result]:
        found: list[Result] = []
        for worker in list(self._workers):
            if worker.job is not None and time.monotonic() - worker.heard > self.hang_seconds:
                found += self._replace(worker, f"hung for {self.hang_seconds:g} s")
        return found


def _remove_abandoned() -> None:
    """Removes the folders of crews that were killed: their locks are free. One that is just being made has none yet."""
    for lock in Path(tempfile.gettempdir()).glob(f"{FOLDER}*/{LOCK}"):
        with contextlib.suppress(Timeout, OSError), FileLock(lock, timeout=0):
            shutil.rmtree(lock.parent, ignore_errors=True)
