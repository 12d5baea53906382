import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy import toy_dataset, toy_proxy, toy_sets

from nasproxy.scores.proxy import proxy_task
from nasproxy.spaces import load_space
from nasproxy.training import checkpoint
from nasproxy.training import crew as crew_module
from nasproxy.training.coordinator import Coordinator
from nasproxy.training.crew import Inline, default_size, hire
from nasproxy.training.jobs import Job
from nasproxy.training.ledger import Ledger
from nasproxy.training.processes import Processes

CPU = torch.device("cpu")

# A user's network that misbehaves, in workers only.
NETS = """
import os, sys, time
from pathlib import Path
from nasproxy.networks import convnet

def build(input_shape, num_classes, *, does, width=4, folder=""):
    main = sys.modules["__main__"].__spec__
    if main is not None and main.name == "nasproxy.training.worker":
        marks = Path(folder)
        number = len(list(marks.glob(f"{does}-*")))
        (marks / f"{does}-{number}").write_text(str(os.getpid()))
        if does == "print":
            print("this is no answer", flush=True)
        if does == "die" or (does == "die once" and number == 0):
            os.kill(os.getpid(), 9)
        if does == "exit":
            os._exit(3)
        if does == "hang" or (does == "hang once" and number == 0):
            time.sleep(1000)
        if does == "memory" or (does == "memory once" and number == 0):
            import torch
            raise torch.OutOfMemoryError("this device has no room")
        if does == "bug":
            raise KeyError("a bug")
    return convnet(input_shape, num_classes, width=width, depth=1)
"""


@pytest.fixture
def space(tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "space.yaml").write_text(
        f"""
name: misbehaving
network: nets.py:build
parameters:
  does: [well, print, die, die once, exit, hang, hang once, memory, memory once, bug]
  width: [2, 4, 8, 16]
  folder: '{marks}'
"""
    )
    return load_space(tmp_path / "space.yaml")


@pytest.fixture(scope="module")
def task():
    dataset = toy_dataset()
    return proxy_task(toy_proxy(dataset, epochs=2), dataset)


def job(space, task, does, width=4, seeds=(0,)):
    candidate = space.candidate({"does": does, "width": width})
    return Job(task, space, candidate.id, candidate.params, tuple(seeds))


def train(crew, jobs, timeout=90.0):
    """All results of ``jobs``, by behaviour, in the order in which they came."""
    found = {}
    waiting, open_jobs = list(jobs), {one.key for one in jobs}
    ends = time.monotonic() + timeout
    while open_jobs:
        assert time.monotonic() < ends, f"no answer for {open_jobs}"
        while waiting and crew.free:
            crew.submit(waiting.pop(0))
        for result in crew.results(1.0, lambda: None):
            found.setdefault((result.job.params["does"], result.job.params["width"]), []).extend(result.evaluations)
            if result.finished:
                open_jobs.discard(result.job.key)
    return found


def alike(evaluations):
    """What two trainings of one seed share: not their seconds."""
    return [(e.candidate, e.seed, e.value, e.loss, e.failure) for e in evaluations]


def test_a_seed_trains_on_its_own_set_alone(space):
    dataset = toy_dataset()
    proxy = toy_sets(dataset, epochs=2)
    (own,) = train(Inline(CPU), [job(space, proxy_task(proxy, dataset), "well", seeds=(0, 1, 2, 3))]).values()
    for seed, number in enumerate((0, 1, 2, 0)):
        alone = replace(proxy, images=proxy.images[number : number + 1], labels=proxy.labels[:1])
        ((expected,),) = train(Inline(CPU), [job(space, proxy_task(alone, dataset), "well", seeds=(seed,))]).values()
        assert alike([own[seed]]) == alike([expected])


@pytest.mark.slow
def test_processes_give_what_this_process_gives(space, task):
    jobs = [job(space, task, "well", width, seeds=(0, 1, 2)) for width in (2, 4, 8, 16)] + [job(space, task, "print")]
    dataset = toy_dataset()
    jobs.append(job(space, proxy_task(toy_sets(dataset, epochs=2), dataset), "print", width=8, seeds=(0, 1)))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        here = train(Inline(CPU), jobs)
    finally:
        torch.set_num_threads(threads)
    with Processes(2, CPU) as crew:
        there = train(crew, jobs)
        first = crew.pids
        assert len(set(first)) == 2
    assert here.keys() == there.keys()
    for key in here:
        assert alike(here[key]) == alike(sorted(there[key], key=lambda e: e.seed))
    for pid in first:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_its_job_tried_again_alone(space, task, tmp_path):
    told = []
    with Processes(2, CPU, tell=told.append) as crew:
        found = train(crew, [job(space, task, does) for does in ("die once", "well", "die", "exit")])
    assert found["well", 4][0].failure is None
    assert found["die once", 4][0].failure is None
    assert "was killed by signal 9, and 3 attempts ended so" in found["die", 4][0].failure
    assert "ended with exit status 3" in found["exit", 4][0].failure
    assert len(list((tmp_path / "marks").glob("die-*"))) == 3
    assert sum("tried again, alone" in line for line in told) == 1 + 2 + 2


@pytest.mark.slow
def test_a_worker_killed_from_outside_costs_nothing(space, task, tmp_path):
    with Processes(2, CPU) as crew:
        jobs = [job(space, task, "well", width, seeds=range(3)) for width in (2, 4, 8)]
        crew.submit(jobs[0])
        os.kill(crew.pids[0], signal.SIGKILL)
        found = train(crew, jobs[1:])
        while ("well", 2) not in found or len(found["well", 2]) < 3:
            for result in crew.results(1.0, lambda: None):
                found.setdefault((result.job.params["does"], result.job.params["width"]), []).extend(result.evaluations)
    assert {key: sorted(e.seed for e in own) for key, own in found.items()} == {
        ("well", width): [0, 1, 2] for width in (2, 4, 8)
    }
    assert all(e.failure is None for own in found.values() for e in own)


@pytest.mark.slow
def test_a_worker_that_hangs_is_ended(space, task):
    told = []
    # A worker is waited for while it starts, too, which takes four seconds, and more beside other work.
    with Processes(2, CPU, hang_seconds=20.0, tell=told.append) as crew:
        found = train(crew, [job(space, task, does) for does in ("hang once", "well")])
    assert found["well", 4][0].failure is None
    assert found["hang once", 4][0].failure is None
    assert told == [line for line in told if "hung for 20 s" in line]
    assert len(told) == 1


@pytest.mark.slow
def test_out_of_memory_is_tried_alone_and_then_recorded(space, task):
    with Processes(2, CPU) as crew:
        found = train(crew, [job(space, task, does, seeds=(0, 1)) for does in ("memory once", "well", "memory")])
    assert [e.failure for e in found["memory once", 4]] == [None, None]
    assert [e.failure for e in found["memory", 4]] == ["out of memory: this device has no room"] * 2
    assert [e.failure for e in found["well", 4]] == [None, None]


@pytest.mark.slow
def test_a_bug_is_raised_with_its_traceback(space, task):
    with pytest.raises(RuntimeError, match="KeyError: 'a bug'"), Processes(2, CPU) as crew:
        train(crew, [job(space, task, "bug")])


def test_folders_of_crews_that_were_killed_are_removed_and_others_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = (
        "import os, torch, nasproxy.training.processes as w\n"
        "crew = w.Processes(2, torch.device('cpu')); print('ready', flush=True); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(tmp_path)}, capture_output=True)
    (abandoned,) = tmp_path.iterdir()
    with Processes(2, CPU) as first, Processes(2, CPU) as second:
        kept = {Path(first._shared.path), Path(second._shared.path)}
        assert set(tmp_path.iterdir()) == kept
        assert abandoned not in kept
    assert not list(tmp_path.iterdir())


def test_a_crew_of_one_is_this_process():
    with hire(1, CPU) as crew:
        assert isinstance(crew, Inline)
        assert crew.size == 1


def test_as_many_workers_as_threads_and_memory(monkeypatch):
    monkeypatch.setattr(crew_module.torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(crew_module.os, "sysconf", lambda name: {"SC_AVPHYS_PAGES": 2**19, "SC_PAGE_SIZE": 4096}[name])
    assert default_size(CPU) == 2
    assert default_size(torch.device("cuda")) == 1


@pytest.mark.slow
def test_a_long_training_goes_on_in_another_process(space, task, tmp_path, monkeypatch):
    """Ended in this process, finished by a worker, forgotten when it is on record."""
    monkeypatch.setattr(checkpoint, "CHECKPOINT_SECONDS", -1.0)
    keep, ledger = tmp_path / "checkpoints", Ledger(tmp_path / "ledger.sqlite")
    one = job(space, replace(task, recipe=replace(task.recipe, epochs=9)), "well")
    whole = train(Inline(CPU), [one])["well", 4][0]
    updates = 0

    def end_in_the_middle():
        nonlocal updates
        updates += 1
        if updates == 5:
            raise KeyboardInterrupt

    crew = Inline(CPU, keep=keep)
    crew.submit(one)
    with pytest.raises(KeyboardInterrupt):
        crew.results(1.0, end_in_the_middle)
    (path,) = keep.iterdir()
    kept = torch.load(path, weights_only=True)
    assert 0 < kept["epoch"] < 9
    torch.save(kept | {"seconds": 1000.0}, path)
    with Processes(2, CPU, keep=keep) as crew:
        ((row,),) = Coordinator(crew, ledger).finish([one])
    ledger.close()
    assert row.seconds > 1000
    assert (row.value, row.loss) == (whole.value, whole.loss)
    assert not list(keep.iterdir())
