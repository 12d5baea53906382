"""Several coordinators on one PostgreSQL database, as on several hosts. Skipped where no server can be started."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import faults
import optuna
import pytest
from faults import start
from optuna.trial import TrialState
from toy import evaluation

from nasproxy.training.ledger import Ledger

pytestmark = pytest.mark.integration

psycopg = pytest.importorskip("psycopg", reason="the driver is not installed: pip install 'nasproxy[postgres]'")

KEY = ("abc", "proxy", "s")


def _programs():
    """The folder of initdb and pg_ctl, or None."""
    found = shutil.which("pg_ctl")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # where Debian has them, off the path
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


class Server:
    """A PostgreSQL server of the tests' own, behind a socket in its folder."""

    def __init__(self, programs):
        self.programs = programs
        # PostgreSQL refuses to be run by root: Debian's package brings a user of its own.
        self.user = "postgres" if hasattr(os, "geteuid") and os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="nasproxy-postgres-"))
        if self.user:
            shutil.chown(self.folder, self.user)
        self._run("initdb", "-D", self.folder / "data", "-U", "nasproxy", "-A", "trust", "--no-sync")
        self.number = 0
        self.start()

    def _run(self, program, *arguments):
        done = subprocess.run(
            [self.programs / program, *map(str, arguments)],
            user=self.user,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout

    def start(self):
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off"
        self._run("pg_ctl", "-D", self.folder / "data", "-l", self.folder / "log", "-o", options, "-w", "start")

    def stop(self):
        self._run("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "-w", "stop")

    def database(self):
        """The URL of a new, empty database."""
        self.number += 1
        name = f"test{self.number}"
        with psycopg.connect(f"host={self.folder} user=nasproxy dbname=postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql://nasproxy@/{name}?host={self.folder}"


@pytest.fixture(scope="module")
def server():
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    found = Server(programs)
    yield found
    found.stop()
    shutil.rmtree(found.folder)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return faults.parts(tmp_path_factory.mktemp("space"))


@pytest.fixture(scope="module")
def alone(parts, tmp_path_factory):
    """Proposals and answers of the same search on one host, in files."""
    run = tmp_path_factory.mktemp("alone")
    faults.search(parts, run, sampler="random", seed=5)
    return optuna.load_study(study_name="tiny", storage=f"sqlite:///{run / 'study.sqlite'}").trials


def trials_of(url):
    storage = optuna.storages.RDBStorage(url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        (name,) = optuna.get_all_study_names(storage)
        return optuna.load_study(study_name=name, storage=storage).trials
    finally:
        storage.remove_session()
        storage.engine.dispose()


def seen(trials):
    return [(t.number, t.state, t.params, t.value) for t in trials]


def trainings(log):
    """(process, candidate) of every training that began."""
    return [line.split(" ", 1) for line in log.read_text().splitlines()]


def test_rows_and_claims(server):
    url = server.database()
    ours, theirs = Ledger(url), Ledger(url, lease=2)
    assert ours.claim(*KEY)
    assert not theirs.claim(*KEY)
    ours.add(evaluation(0, 0.25))
    theirs.add(evaluation(0, 0.75))
    assert theirs.get(*KEY, 0) == evaluation(0, 0.25)
    time.sleep(3.5)
    assert theirs.claim(*KEY)
    assert not ours.claim(*KEY)
    theirs.release(*KEY)
    assert ours.claim(*KEY)
    ours.close()
    theirs.close()


@pytest.mark.slow
def test_two_coordinators_one_of_them_killed(server, alone, tmp_path):
    """Every candidate is trained by exactly one; the killed one's is taken over; the result is that of one host."""
    url, log = server.database(), tmp_path / "log"
    first, second = (start("search", tmp_path / name, log, url, 5) for name in ("a", "b"))
    for process in (first, second):
        assert process.stdout.readline() == "ready\n"
    ends = time.monotonic() + 60
    while not log.exists() or len({pid for pid, _ in trainings(log)}) < 2 or len(trainings(log)) < 10:
        assert time.monotonic() < ends, "two coordinators do not share the work"
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert second.wait(120) == 0
    first.stdout.close()
    second.stdout.close()
    began = trainings(log)
    lost = [candidate for pid, candidate in began if pid == str(first.pid)][-1]
    per_candidate = {}
    for pid, candidate in began:
        per_candidate.setdefault(candidate, []).append(pid)
    twice = {candidate for candidate, pids in per_candidate.items() if len(pids) > 1}
    assert twice <= {lost}
    assert len(per_candidate) == faults.TRIALS
    assert seen(trials_of(url)) == seen(alone)


@pytest.mark.slow
def test_two_hosts_spend_one_compute(server, parts, tmp_path):
    """They train each candidate once, by one plan, and end as one host does, with the same pick."""
    url, log = server.database(), tmp_path / "log"
    both = [start("spend", tmp_path / name, log, url, 0) for name in ("a", "b")]
    for process in both:
        assert process.wait(120) == 0
        process.stdout.close()
    run = tmp_path / "alone"
    run.mkdir()
    alone = faults.spend(parts, run)
    began = [candidate for _, candidate in trainings(log)]
    assert len(began) == faults.COMPUTE_SHORT + faults.COMPUTE_FULL + 1  # and the pick's test accuracy
    assert len({pid for pid, _ in trainings(log)}) == 2, "one host did all the work"
    files = optuna.load_study(study_name="tiny", storage=f"sqlite:///{run / 'study.sqlite'}").trials
    assert seen(trials_of(url)) == seen(files)
    assert alone.pick is not None


@pytest.mark.slow
def test_the_storage_goes_and_comes_back(server, alone, tmp_path):
    url, log = server.database(), tmp_path / "log"
    process = start("search", tmp_path / "a", log, url, 5)
    assert process.stdout.readline() == "ready\n"
    while not log.exists() or len(trainings(log)) < 5:
        time.sleep(0.02)
    server.stop()
    time.sleep(2.0)
    assert process.poll() is None, "the search did not wait for its storage"
    server.start()
    assert process.wait(120) == 0
    process.stdout.close()
    assert len(trainings(log)) == faults.TRIALS
    assert seen(trials_of(url)) == seen(alone)


@pytest.mark.slow
def test_the_command_line_on_a_database(server, tmp_path):
    """Two runs of one command in different folders, as on two hosts: the second finds everything done."""
    url = server.database()
    env = os.environ | {"NASPROXY_CACHE_DIR": str(tmp_path / "cache"), "NASPROXY_STORAGE": url}

    def nasproxy(folder, *arguments):
        folder.mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", "nasproxy", *map(str, arguments)],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    nasproxy(tmp_path / "a", "build-proxy", "--method", "random", "--out", tmp_path / "proxy.safetensors")
    arguments = ["search", "--space", "convnet_small", "--proxy", tmp_path / "proxy.safetensors", "--trials", "3"]
    arguments += ["--epochs", "2", "--sample", "2", "--top", "1", "--full-epochs", "1", "--full-images", "200"]
    first, second = (nasproxy(tmp_path / name, *arguments) for name in ("a", "b"))
    other = arguments[: arguments.index("--epochs")]
    unequal = subprocess.run(
        [sys.executable, "-m", "nasproxy", *map(str, other)], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert unequal.returncode == 2
    assert "give --budget" in " ".join(unequal.stderr.split())
    assert not list(tmp_path.glob("*/reports/*/*.sqlite"))
    assert [line for line in first.splitlines() if line.startswith("top")] == [
        line for line in second.splitlines() if line.startswith("top")
    ]
    (settings,) = (tmp_path / "a" / "reports").glob("*/run.json")
    assert "postgresql" in settings.read_text()
    assert len([trial for trial in trials_of(url) if trial.state == TrialState.COMPLETE]) == 3
