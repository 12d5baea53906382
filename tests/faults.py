"""Searches that end badly, for the tests: run as a program, it does what its first argument says.

``killed RUN LOG SEED``: forks a search of ``TRIALS`` candidates and kills it, 20 times at random moments, then lets it
end. ``search RUN LOG STORAGE SEED``: one coordinator of several. Every training writes a line into LOG.
``killed-spend`` and ``spend`` do the same with a search for a stated compute.
"""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import optuna
import torch
from toy import toy_dataset, toy_proxy

from nasproxy.config import ComputeConfig, SearchConfig
from nasproxy.core.devices import choose_device
from nasproxy.picking.plan import PickPlan
from nasproxy.scores.proxy import proxy_task
from nasproxy.search.compute import search_by_compute
from nasproxy.search.compute_plan import ComputePlan
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


def search(parts, run, **options):
    """A search on a proxy set; options that are not those of :func:`logged_session` are settings of the search."""
    _, task, inspection = parts
    known = {name: options.pop(name) for name in ("log", "word", "pause", "storage", "crew", "tell") if name in options}
    with logged_session(run, **known) as session:
        return run_search(inspection, task, SearchConfig(**({"trials": TRIALS} | options)), session)


COMPUTE_SHORT, COMPUTE_FULL = 12, 5


def spend(parts, run, *, seed=0, plan=None, **options):
    """A search for a stated compute, by a plan that no clock has a say in."""
    _, _, inspection = parts
    fixed = ComputePlan(PickPlan(8.0, 20, COMPUTE_SHORT, COMPUTE_FULL, 1e-3, 0.1), 4, None, 1, 1.0, 0.1, 1e-3)
    with logged_session(run, **options) as session:
        config = ComputeConfig(compute=8.0, seed=seed)
        return search_by_compute(inspection, toy_dataset(), config, session, plan or (lambda: fixed))


@contextmanager
def logged_session(run, *, log=None, word="", pause=0.0, storage=None, crew=None, tell=None):
    """A session whose trainings write ``word`` and the candidate's parameters into ``log`` as they begin."""
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
        yield Session(run, ledger, crew or Inline(CPU), choose_device("cpu"))
    finally:
        tasks.train_candidate = real
        ledger.close()


def main(what, run, log, *rest):
    run = Path(run)
    run.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    own = parts(run)
    if what in ("search", "spend"):
        storage, seed = rest
        print("ready", flush=True)
        shared = {"log": log, "word": str(os.getpid()), "pause": 0.1, "storage": storage, "seed": int(seed)}
        if what == "search":
            search(own, run, sampler="random", **shared)
        else:
            spend(own, run, **shared)
        print("done", flush=True)
        return
    action, total = (search, TRIALS) if what == "killed" else (spend, COMPUTE_SHORT + COMPUTE_FULL)
    (seed,) = rest
    stream = random.Random(int(seed))
    longest, last = 0.4, 0  # seconds until a kill, at most: so that a slow or a fast machine finishes some in between
    for number in range(KILLS + 1):
        before = list(_rows(run))
        finished, last = len(before) - last, len(before)
        if last < total:
            longest *= 1.5 if finished == 0 else 0.6 if finished > 3 else 1.0
        with Path(log).open("a") as file:
            file.write(f"known {number} {len(before)} {sorted(before)}\n")
        child = os.fork()
        if child == 0:
            action(own, run, log=log, word=f"trained {number}")
            os._exit(0)
        if number < KILLS:
            time.sleep(stream.uniform(0.0, longest))
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def trials_of(run):
    """The trials of a run in files."""
    return optuna.load_study(study_name="tiny", storage=f"sqlite:///{run / 'study.sqlite'}").trials


def _rows(run):
    """Parameters of every training that is in the ledger."""
    import sqlite3

    if not (run / "evaluations.sqlite").exists():
        return
    connection = sqlite3.connect(run / "evaluations.sqlite")
    try:
        import json

        trained = "SELECT params FROM evaluations WHERE score IN ('proxy', 'full', 'test')"
        yield from (str(json.loads(text)) for (text,) in connection.execute(trained))
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
