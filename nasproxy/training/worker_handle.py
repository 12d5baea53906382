"""One worker process, as the process that started it sees it."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from typing import Self

import torch

from nasproxy.training.jobs import Job
from nasproxy.training.messages import Answer, Order

Inbox = queue.SimpleQueue[tuple["WorkerHandle", Answer | None]]


class WorkerHandle:
    """A process of ``nasproxy.training.worker``, and the job that it works on.

    Attributes:
        job: None while it has nothing to do.
        open_seeds: the seeds of the job that have no answer yet.
        heard: when its last message came, by ``time.monotonic``.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.job: Job | None = None
        self.open_seeds: list[int] = []
        self.heard = 0.0

    @classmethod
    def start(cls, device: torch.device, threads: int, inbox: Inbox) -> Self:
        """Starts a process; its answers go to ``inbox`` with its handle, and None when it has ended."""
        process = subprocess.Popen(
            [sys.executable, "-m", "nasproxy.training.worker", str(device), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        )
        handle = cls(process)

        def read() -> None:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    inbox.put((handle, Answer.from_line(line)))
            except ValueError:
                pass  # a line was cut, or the pipe was closed
            inbox.put((handle, None))

        threading.Thread(target=read, daemon=True).start()
        return handle

    def hand(self, job: Job, order: Order) -> None:
        """Gives it ``job``, which ``order`` describes."""
        self.job, self.open_seeds, self.heard = job, list(job.seeds), time.monotonic()
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the thread that reads its answers notices that it has ended
            self.process.stdin.write(order.to_line())
            self.process.stdin.flush()

    def silent_for(self) -> float:
        """Seconds since its last message; 0 while it has nothing to do."""
        return 0.0 if self.job is None else time.monotonic() - self.heard

    def end(self) -> int:
        """Kills the process, if it has not ended; returns its exit status, or minus the signal that ended it."""
        self.process.kill()
        code = self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        return code


def how_it_ended(code: int) -> str:
    """The value of :meth:`WorkerHandle.end` in words."""
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit status {code}"
