"""The program of one worker process: it reads orders from standard input and answers with a line for each training."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nasproxy.training.jobs import Job
from nasproxy.training.messages import Answer, Order
from nasproxy.training.trainer import Trainer

BEAT_SECONDS = 1.0  # between two signs of life


def work(device: torch.device, threads: int) -> None:
    """Does one order per line of standard input, until that is closed.

    Args:
        device: where it trains.
        threads: CPU threads of torch.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator's process handles Ctrl-C
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a user's network prints must not be read as an answer
    torch.set_num_threads(threads)
    loaded: dict[str, Any] = {}
    trainer = Trainer(device)
    last = 0.0

    def load(path: str) -> Any:
        if path not in loaded:  # whole objects, written by the coordinator's process to a folder of its own
            loaded[path] = torch.load(path, mmap=True, weights_only=False)
        return loaded[path]

    def say(answer: Answer) -> None:
        answers.write(answer.to_line())

    def beat() -> None:
        nonlocal last
        if time.monotonic() - last > BEAT_SECONDS:
            last = time.monotonic()
            say(Answer())

    try:
        for line in sys.stdin:
            order = Order.from_line(line)
            task = replace(load(order.task), held_out=load(order.held_out))
            job = Job(task, load(order.builder), order.candidate, order.params, ())
            keep = None if order.keep is None else Path(order.keep)
            for seed in order.seeds:
                say(Answer(seed, trainer.train(job, seed, beat, keep)))
    except BrokenPipeError:
        os._exit(0)  # the coordinator's process has ended
    except Exception:  # noqa: BLE001  # the coordinator's process raises it
        import traceback

        say(Answer(bug=traceback.format_exc()))


if __name__ == "__main__":
    work(torch.device(sys.argv[1]), int(sys.argv[2]))
