"""The process of one worker: it reads jobs from standard input and answers with a line for each training."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from nasproxy.training.jobs import BEAT_SECONDS, Job, Trainer


def work(device: torch.device, threads: int) -> None:
    """What a worker process does: one job per line of its standard input, until that is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the coordinator's
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a user's network prints is no answer
    torch.set_num_threads(threads)
    loaded: dict[str, Any] = {}
    trainer = Trainer(device)
    last = 0.0

    def say(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")

    def beat() -> None:
        nonlocal last
        if time.monotonic() - last > BEAT_SECONDS:
            last = time.monotonic()
            say({})

    try:
        for line in sys.stdin:
            message = json.loads(line)
            for path in (message["task"], message["held_out"], message["builder"]):
                if path not in loaded:  # whole objects, written by the coordinator to a folder of its own
                    loaded[path] = torch.load(path, mmap=True, weights_only=False)
            task = replace(loaded[message["task"]], held_out=loaded[message["held_out"]])
            job = Job(task, loaded[message["builder"]], message["candidate"], message["params"], ())
            keep = None if message["keep"] is None else Path(message["keep"])
            for seed in message["seeds"]:
                say({"seed": seed, **asdict(trainer.train(job, seed, beat, keep))})
    except BrokenPipeError:
        os._exit(0)  # the coordinator is gone
    except Exception:  # noqa: BLE001  # told to the coordinator, who raises it
        import traceback

        say({"bug": traceback.format_exc()})


if __name__ == "__main__":
    work(torch.device(sys.argv[1]), int(sys.argv[2]))
