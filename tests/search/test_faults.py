"""What may happen to a search, and what must not come of it."""

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import faults
import pytest
from faults import FAULTS, start, trials_of
from optuna.trial import TrialState

from nasproxy.training import processes, tasks
from nasproxy.training.results import FailureKind, failed_fit


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return faults.parts(tmp_path_factory.mktemp("space"))


@pytest.fixture(scope="module")
def whole(parts, tmp_path_factory):
    """The trials of a search that nothing happens to."""
    run = tmp_path_factory.mktemp("whole")
    faults.search(parts, run)
    return trials_of(run)


def seen(trials):
    """What two equal searches share: not times."""
    return [(t.number, t.state, t.params, t.value) for t in trials]


@pytest.mark.slow
def test_kill_9_at_twenty_random_moments_changes_nothing(whole, tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    process = start("killed", run, log, 0)
    assert process.wait(300) == 0
    process.stdout.close()
    assert seen(trials_of(run)) == seen(whole)  # as asked, each once, none left running
    known, finished = {}, []
    for line in log.read_text().splitlines():
        kind, number, rest = line.split(" ", 2)
        if kind == "known":
            known[number] = set(ast.literal_eval(rest.split(" ", 1)[1]))
            finished.append(len(known[number]))
        else:
            assert rest not in known[number], "trained again"
    assert finished == sorted(finished)
    assert finished[-1] > 3, "nothing was finished between the kills: they say nothing"


@pytest.mark.slow
def test_workers_end_with_their_coordinator_and_the_search_goes_on(parts, whole, tmp_path):
    code = (
        "import sys; from pathlib import Path; import faults, nasproxy.training.processes as w\n"
        "run = Path(sys.argv[1]); run.mkdir(); parts = faults.parts(run)\n"
        "with w.Processes(2, faults.CPU) as crew:\n"
        "    submit = crew.submit\n"
        "    def told(job):\n"
        "        submit(job); print(*crew.pids, flush=True)\n"
        "    crew.submit = told\n"
        "    faults.search(parts, run, crew=crew)\n"
    )
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(run)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(FAULTS.parent)},
    )
    for _ in range(8):
        pids = [int(word) for word in process.stdout.readline().split()]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert len(pids) == 2
    ends = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids) if Path("/proc").exists() else False:
        assert time.monotonic() < ends, "workers outlive their coordinator"
        time.sleep(0.1)
    with processes.Processes(2, faults.CPU) as crew:
        faults.search(parts, run, crew=crew)
    assert seen(trials_of(run)) == seen(whole)


def test_a_search_whose_candidates_all_diverge_ends_and_says_so(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(
        tasks, "train_candidate", lambda *a, **k: failed_fit(FailureKind.DIVERGED, "diverged: nan", 0.1)
    )
    result = faults.search(parts, tmp_path, trials=5)
    assert result.ranking == ()
    assert len(result.failed) == 5
    assert {t.state for t in trials_of(tmp_path)} <= {TrialState.FAIL, TrialState.PRUNED}


def test_a_full_disk_pauses_a_search(parts, whole, tmp_path, monkeypatch):
    """The ledger has no room for a while; the search goes on where it was."""
    import sqlalchemy as sql

    from nasproxy.training import ledger

    room = {"pages": 5}

    def limited(connection, _):
        connection.execute(f"PRAGMA max_page_count = {room['pages']}")

    told, pauses = [], []

    def sleep(seconds):
        if seconds > 0:
            pauses.append(seconds)
            room["pages"] += 1

    real = sql.create_engine

    def engine(*arguments, **named):
        made = real(*arguments, poolclass=sql.pool.NullPool, **named)  # the limit holds for one connection
        sql.event.listen(made, "connect", limited)
        return made

    monkeypatch.setattr(ledger.sql, "create_engine", engine)
    monkeypatch.setattr(ledger.time, "sleep", sleep)
    faults.search(parts, tmp_path, tell=told.append)
    assert pauses
    assert all("disk is full" in line for line in told)
    assert told
    assert seen(trials_of(tmp_path)) == seen(whole)
