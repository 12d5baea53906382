"""Searches that end badly, for the tests: run as a program, it does what its first argument says.

``killed RUN LOG SEED``: forks a search of ``TRIALS`` candidates and kills it, 20 times at random moments, then lets it
end. ``search RUN LOG STORAGE SEED``: one coordinator of several. Every training writes a line into LOG.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from toy import toy_dataset, toy_proxy

from nasproxy.config import SearchConfig
from nasproxy.core.devices import choose_device
from nasproxy.scores.proxy import proxy_task
from nasproxy.search.loop import run_search
from nasproxy.spaces import inspect_space, load_space
from nasproxy.training import tasks
from nasproxy.training.crew import Inline
from nasproxy.training.ledger import Ledger
from nasproxy.training.session import Session

CPU = torch.device("cpu")
TRIALS, KILLS = 40, 20
LEASE = 4

SPACE = """
name: tiny
network: convnet
parameters:
  width: {range: [2, 30]}
  depth: [1, 2, 4]        # four poolings of 8×8 leave nothing
  activation: [relu, sigmoid]
"""


def parts(folder):
    path = folder / "tiny.yaml"
    path.write_text(SPACE)
    space = load_space(path)
    dataset = toy_dataset()
    task = proxy_task(toy_proxy(dataset, epochs=2), dataset)
    return space, task, inspect_space(space, dataset.input_shape, dataset.num_classes)


def search(parts, run, *, log=None, word="", pause=0.0, storage=None, crew=None, tell=None, **settings):
    """A search whose trainings write ``word`` and the candidate's parameters into ``log`` as they begin."""
    _, task, inspection = parts
    real = tasks.train_candidate

    def logged(build, *arguments, **named):
        if log is not None:
            with Path(log).open("a") as file:
                file.write(f"{word} {build.args[0]}\n")
        time.sleep(pause)
        return real(build, *arguments, **named)

    tasks.train_candidate = logged
    ledger = Ledger(storage or run / "evaluations.sqlite", lease=LEASE, tell=tell)
    try:
        session = Session(run, ledger, crew or Inline(CPU), choose_device("cpu"))
        return run_search(inspection, task, SearchConfig(**({"trials": TRIALS} | settings)), session)
    finally:
        tasks.train_candidate = real
        ledger.close()


def main(what, run, log, *rest):
    run = Path(run)
    run.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    own = parts(run)
    if what == "search":
        storage, seed = rest
        print("ready", flush=True)
        search(own, run, log=log, word=str(os.getpid()), pause=0.1, storage=storage, seed=int(seed), sampler="random")
        print("done", flush=True)
        return
    (seed,) = rest
    stream = random.Random(int(seed))
    longest, last = 0.4, 0  # seconds until a kill, at most: so that a slow or a fast machine finishes some in between
    for number in range(KILLS + 1):
        before = list(_rows(run))
        finished, last = len(before) - last, len(before)
        if last < TRIALS:
            longest *= 1.5 if finished == 0 else 0.6 if finished > 3 else 1.0
        with Path(log).open("a") as file:
            file.write(f"known {number} {len(before)} {sorted(before)}\n")
        child = os.fork()
        if child == 0:
            search(own, run, log=log, word=f"trained {number}")
            os._exit(0)
        if number < KILLS:
            time.sleep(stream.uniform(0.0, longest))
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _rows(run):
    """Parameters of every training that is in the ledger."""
    import sqlite3

    if not (run / "evaluations.sqlite").exists():
        return
    connection = sqlite3.connect(run / "evaluations.sqlite")
    try:
        import json

        yield from (str(json.loads(text)) for (text,) in connection.execute("SELECT params FROM evaluations"))
    except sqlite3.OperationalError:
        return  # killed before the table was there
    finally:
        connection.close()


if __name__ == "__main__":
    main(*sys.argv[1:])


FAULTS = Path(__file__)


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, str(FAULTS), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(FAULTS.parent)},
    )
