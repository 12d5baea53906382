import sqlite3
from dataclasses import replace

import pytest
import sqlalchemy as sql
from toy import evaluation

from nasproxy.core.errors import NasproxyError
from nasproxy.training import ledger as module
from nasproxy.training.ledger import Ledger, database_url, hidden, passing_reason
from nasproxy.training.results import FailureKind

KEY = ("abc", "proxy", "s")


@pytest.fixture
def ledger(tmp_path):
    found = Ledger(tmp_path / "e.sqlite")
    yield found
    found.close()


def test_rows_are_kept_between_openings(tmp_path):
    rows = [evaluation(0), evaluation(2**62, None, "diverged")]
    ledger = Ledger(tmp_path / "e.sqlite")
    for row in rows:
        ledger.add(row)
    ledger.close()
    again = Ledger(tmp_path / "e.sqlite")
    assert [again.get(*KEY, seed) for seed in (0, 2**62)] == rows
    assert again.get("abc", "proxy", "other setting", 0) is None
    assert again.get("abc", "full", "s", 0) is None
    again.close()


def test_rows_are_on_disk_when_add_returns(ledger, tmp_path):
    ledger.add(evaluation())
    other = sqlite3.connect(tmp_path / "e.sqlite")
    assert other.execute("SELECT candidate, value FROM evaluations").fetchall() == [("abc", 0.5)]
    other.close()


def test_a_table_of_an_earlier_version_gets_its_columns(tmp_path):
    old = sqlite3.connect(tmp_path / "e.sqlite")
    old.execute(
        "CREATE TABLE evaluations (candidate VARCHAR(64), score VARCHAR(64), setting VARCHAR(64), seed BIGINT, "
        "params TEXT, value DOUBLE, loss DOUBLE, seconds DOUBLE, failure TEXT, "
        "PRIMARY KEY (candidate, score, setting, seed))"
    )
    old.execute("INSERT INTO evaluations VALUES ('abc', 'proxy', 's', 0, '{}', 0.5, 1.0, 2.0, NULL)")
    old.commit()
    old.close()
    ledger = Ledger(tmp_path / "e.sqlite")
    assert ledger.get(*KEY, 0).curve == ledger.get(*KEY, 0).train_losses == ()
    assert ledger.get(*KEY, 0).value == 0.5
    row = replace(evaluation(1), curve=((1, 0.25), (2, 0.5)), joules=12.5, train_losses=(2.5, 1.25))
    ledger.add(row)
    ledger.close()
    again = Ledger(tmp_path / "e.sqlite")
    assert again.get(*KEY, 1) == row
    again.close()


EARLIER_FAILURES = {
    None: None,
    "out of memory: no room": FailureKind.OUT_OF_MEMORY,
    "diverged: the training loss became nan": FailureKind.DIVERGED,
    "undefined: zen is nan": FailureKind.UNDEFINED,
    "undefined: jacob_cov is -inf": FailureKind.MINUS_INFINITY,
    "its worker was killed by signal 9, and 3 attempts ended so": FailureKind.WORKER_DIED,
    "RuntimeError: mat1 and mat2 shapes cannot be multiplied": FailureKind.NET_ERROR,
}


def test_a_failure_of_an_earlier_version_gets_its_kind(tmp_path):
    """Tables of earlier versions hold the text of a failure and no column for its kind."""
    old = sqlite3.connect(tmp_path / "e.sqlite")
    old.execute(
        "CREATE TABLE evaluations (candidate VARCHAR(64), score VARCHAR(64), setting VARCHAR(64), seed BIGINT, "
        "params TEXT, value DOUBLE, loss DOUBLE, seconds DOUBLE, failure TEXT, curve TEXT, joules DOUBLE, "
        "PRIMARY KEY (candidate, score, setting, seed))"
    )
    for seed, text in enumerate(EARLIER_FAILURES):
        old.execute(
            "INSERT INTO evaluations VALUES ('abc', 'proxy', 's', ?, '{}', NULL, NULL, 2.0, ?, NULL, NULL)",
            (seed, text),
        )
    old.commit()
    old.close()
    ledger = Ledger(tmp_path / "e.sqlite")
    rows = [ledger.get(*KEY, seed) for seed in range(len(EARLIER_FAILURES))]
    assert {row.failure: row.failure_kind for row in rows} == EARLIER_FAILURES
    ledger.close()


def test_of_two_rows_with_one_key_the_first_is_kept(ledger):
    ledger.add(evaluation(0, 0.25))
    ledger.add(evaluation(0, 0.75))
    assert ledger.get(*KEY, 0).value == 0.25
    ledger.add(evaluation(1, 0.5), evaluation(0, 0.75), evaluation(2, 1.0))  # the others are stored all the same
    assert [ledger.get(*KEY, seed).value for seed in range(3)] == [0.25, 0.5, 1.0]


def test_a_foreign_file_is_named(tmp_path):
    path = tmp_path / "e.sqlite"
    path.write_text("no database" * 1000)
    with pytest.raises(NasproxyError, match=r"e\.sqlite"):
        Ledger(path)


def test_a_claim_keeps_others_away_until_it_is_released(ledger, tmp_path):
    other = Ledger(tmp_path / "e.sqlite")
    assert ledger.claim(*KEY)
    assert ledger.claim(*KEY)  # its own
    assert not other.claim(*KEY)
    assert other.claim("abc", "full", "s")
    other.release(*KEY)  # not its own: nothing happens
    assert not other.claim(*KEY)
    ledger.release(*KEY)
    assert other.claim(*KEY)
    other.close()


def test_a_claim_that_is_not_renewed_is_free_after_the_lease(ledger, tmp_path):
    other = Ledger(tmp_path / "e.sqlite", lease=5)
    assert ledger.claim(*KEY)
    assert not other.claim(*KEY)
    with sqlite3.connect(tmp_path / "e.sqlite") as connection:
        connection.execute("UPDATE claims SET beat = beat - 10")
    connection.close()
    ledger._last_beat -= 1000
    ledger.beat()
    assert not other.claim(*KEY)
    with sqlite3.connect(tmp_path / "e.sqlite") as connection:
        connection.execute("UPDATE claims SET beat = beat - 10")
    connection.close()
    assert other.claim(*KEY)
    assert not ledger.claim(*KEY)
    other.close()


@pytest.mark.parametrize(
    ("target", "message"),
    [("mysql://host/db", "SQLite or PostgreSQL, but got 'mysql'"), ("postgres here", "is written postgresql://")],
)
def test_another_storage_is_refused(target, message):
    with pytest.raises(NasproxyError, match=message):
        database_url(target)


def test_a_password_is_not_shown():
    assert hidden("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"


def full_up(path):
    """The ledger of ``path`` on a disk with no room: SQLite's own error, by its own limit."""
    told = []
    ledger = Ledger(path, tell=told.append)

    def limit(connection, pages):
        connection.execute(f"PRAGMA max_page_count = {pages}")

    with ledger._engine.begin() as connection:
        pages = connection.execute(sql.text("PRAGMA page_count")).scalar()
    ledger._engine.dispose()
    sql.event.listen(ledger._engine, "connect", lambda connection, _: limit(connection, room[0]))
    room = [pages]
    return ledger, room, told


def test_a_full_disk_loses_nothing_and_goes_on_when_there_is_room(tmp_path, monkeypatch):
    ledger, room, told = full_up(tmp_path / "e.sqlite")
    pauses = []

    def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 4:
            room[0] = 10_000
            ledger._engine.dispose()

    monkeypatch.setattr(module.time, "sleep", sleep)
    for seed in range(200):
        ledger.add(evaluation(seed))
    assert [line for line in told if "disk is full" in line and "Nothing is lost" in line] == told
    assert len(told) == 1
    assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]
    assert all(ledger.get(*KEY, seed) is not None for seed in range(200))
    ledger.close()


def test_a_table_that_is_locked_at_the_start_is_waited_for(tmp_path, monkeypatch):
    tries, said, prepare = [], [], Ledger._prepare
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)

    def locked_at_first(self):
        tries.append(1)
        if len(tries) < 3:
            raise sql.exc.OperationalError("", {}, sqlite3.OperationalError("database is locked"))
        prepare(self)

    monkeypatch.setattr(Ledger, "_prepare", locked_at_first)
    Ledger(tmp_path / "e.sqlite", tell=said.append).close()
    assert said == ["cannot write: database is locked. Nothing is lost; waiting until it can be written."]
    assert len(tries) == 3


def test_what_will_not_pass_is_raised(ledger):
    with pytest.raises(sql.exc.OperationalError), ledger._engine.connect() as connection:
        ledger.patiently(lambda: connection.execute(sql.text("SELECT * FROM nothing")))
    assert passing_reason(ValueError("disk is full")) is None
