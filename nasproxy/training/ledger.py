"""The table of every training ever done, so that nothing is trained twice: in SQLite, or in PostgreSQL for many hosts.

A *claim* says that one process is at work on a candidate; it must be renewed, so that the work of a process that died
is free again. Times are the database's, so clocks of hosts may differ.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sql
from sqlalchemy.exc import DatabaseError, DBAPIError, IntegrityError, OperationalError

from nasproxy.core.errors import NasproxyError
from nasproxy.training.results import Evaluation, FailureKind

_TABLES = sql.MetaData()
_KEY = ("candidate", "score", "setting")
_EVALUATIONS = sql.Table(
    "evaluations",
    _TABLES,
    sql.Column("candidate", sql.String(64), primary_key=True),
    sql.Column("score", sql.String(64), primary_key=True),
    sql.Column("setting", sql.String(64), primary_key=True),
    sql.Column("seed", sql.BigInteger, primary_key=True, autoincrement=False),
    sql.Column("params", sql.Text),
    sql.Column("value", sql.Double),
    sql.Column("loss", sql.Double),
    sql.Column("seconds", sql.Double),
    sql.Column("failure", sql.Text),
    sql.Column("curve", sql.Text),  # accuracies by epoch as JSON; empty where it was not watched
    sql.Column("joules", sql.Double),
    sql.Column("failure_kind", sql.String(32)),  # a FailureKind; a row of an earlier version has none
)
_CLAIMS = sql.Table(
    "claims",
    _TABLES,
    *(sql.Column(name, sql.String(64), primary_key=True) for name in _KEY),
    sql.Column("owner", sql.String(200)),
    sql.Column("beat", sql.BigInteger),  # seconds since 1970 by the database's clock
)
_NOW = sql.cast(sql.extract("epoch", sql.func.current_timestamp()), sql.BigInteger)

T = TypeVar("T")


def database_url(target: Path | str) -> str:
    """A path as the URL of an SQLite file; a URL as it is, with the driver that nasproxy installs.

    Raises:
        NasproxyError: for another database than SQLite or PostgreSQL, or without its driver.
    """
    if isinstance(target, Path):
        return f"sqlite:///{target}"
    try:
        url = sql.make_url(target)
    except sql.exc.ArgumentError:
        raise NasproxyError(
            f"A storage is written postgresql://user:password@host/database, but got '{target}'."
        ) from None
    kind = url.get_backend_name()
    if kind == "postgresql":
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        try:
            url.get_dialect().import_dbapi()
        except ImportError:
            raise NasproxyError("PostgreSQL needs its driver: python -m pip install 'nasproxy[postgres]'.") from None
    elif kind != "sqlite":
        raise NasproxyError(f"A storage is SQLite or PostgreSQL, but got '{kind}': use postgresql://….")
    return url.render_as_string(hide_password=False)


def hidden(url: str) -> str:
    """``url`` for people: without its password."""
    return sql.make_url(url).render_as_string()


class Ledger:
    """The table of evaluations at ``target``, a path or a URL; every row is on disk when ``add`` returns.

    Several processes may share one in PostgreSQL. An SQLite file has one writer: see
    :func:`~nasproxy.search.run_folder.run_lock`.

    Args:
        lease: seconds after which a claim that nobody renewed is free.
        tell: gets a line for a person, when the disk is full or the database is gone.
    """

    def __init__(self, target: Path | str, *, lease: int = 120, tell: Callable[[str], None] | None = None) -> None:
        self.url = database_url(target)
        self.lease = lease
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._tell = tell
        self._last_beat = time.monotonic()
        if isinstance(target, Path):
            target.parent.mkdir(parents=True, exist_ok=True)
        self._engine = sql.create_engine(self.url, pool_pre_ping=not self.local)
        if self.local:
            sql.event.listen(self._engine, "connect", _durable)
        try:
            with self.exclusive("schema"):
                _TABLES.create_all(self._engine)
                self._add_columns()
        except DatabaseError as error:
            self._engine.dispose()
            reason = str(error.orig).strip().splitlines()[0]
            raise NasproxyError(
                f"'{target if self.local else hidden(self.url)}' is no readable table of evaluations ({reason}): "
                + ("move it away." if self.local else "check the address, and that the server runs.")
            ) from None

    @property
    def local(self) -> bool:
        """Whether it is a file with one writer."""
        return self.url.startswith("sqlite")

    def _add_columns(self) -> None:
        """Columns that a table of an earlier version lacks; its rows have nothing in them."""
        known = {column["name"] for column in sql.inspect(self._engine).get_columns(_EVALUATIONS.name)}
        with self._engine.begin() as connection:
            for column in _EVALUATIONS.c:
                if column.name not in known:
                    kind = column.type.compile(self._engine.dialect)
                    connection.execute(sql.text(f"ALTER TABLE {_EVALUATIONS.name} ADD COLUMN {column.name} {kind}"))

    def patiently(self, action: Callable[[], T]) -> T:
        """Repeats ``action`` while the disk is full or the database is gone, so that nothing is lost by it."""
        return patiently(action, tell=self._tell)

    def get(self, candidate: str, score: str, setting: str, seed: int) -> Evaluation | None:
        """The stored evaluation, or None."""
        columns = _EVALUATIONS.c
        query = sql.select(_EVALUATIONS).where(
            columns.candidate == candidate, columns.score == score, columns.setting == setting, columns.seed == seed
        )

        def read() -> Any:
            with self._engine.connect() as connection:
                return connection.execute(query).mappings().one_or_none()

        row = self.patiently(read)
        if row is None:
            return None
        curve = tuple((int(epoch), float(value)) for epoch, value in json.loads(row["curve"] or "[]"))
        kind = row["failure_kind"] or _kind_of(row["failure"])
        own = {"params": json.loads(row["params"]), "curve": curve, "failure_kind": kind and FailureKind(kind)}
        return Evaluation(**{**row, **own})

    def add(self, evaluation: Evaluation) -> None:
        """Stores ``evaluation`` durably. Of two with the same key the first is kept."""
        curve = json.dumps(evaluation.curve) if evaluation.curve else None
        kind = None if evaluation.failure_kind is None else evaluation.failure_kind.value
        values = asdict(evaluation)
        values |= {"params": json.dumps(evaluation.params), "curve": curve, "failure_kind": kind}

        def write() -> None:
            try:
                with self._engine.begin() as connection:
                    connection.execute(sql.insert(_EVALUATIONS).values(**values))
            except IntegrityError:
                return

        self.patiently(write)

    def claim(self, candidate: str, score: str, setting: str) -> bool:
        """Whether this process may train it: nobody else does, or whoever did has not been heard of for ``lease``."""
        key = dict(zip(_KEY, (candidate, score, setting), strict=True))
        mine = {"owner": self.owner, "beat": _NOW}

        def write() -> bool:
            try:
                with self._engine.begin() as connection:
                    connection.execute(sql.insert(_CLAIMS).values(**key, **mine))
                return True
            except IntegrityError:
                pass
            free = sql.or_(_CLAIMS.c.owner == self.owner, _CLAIMS.c.beat < _NOW - self.lease)
            with self._engine.begin() as connection:
                taken = connection.execute(sql.update(_CLAIMS).where(*_where(_CLAIMS, key), free).values(**mine))
            return taken.rowcount == 1

        return self.patiently(write)

    def release(self, candidate: str, score: str, setting: str) -> None:
        """Gives a claim of this process back."""
        key = dict(zip(_KEY, (candidate, score, setting), strict=True)) | {"owner": self.owner}

        def write() -> None:
            with self._engine.begin() as connection:
                connection.execute(sql.delete(_CLAIMS).where(*_where(_CLAIMS, key)))

        self.patiently(write)

    def beat(self) -> None:
        """Renews this process's claims, when they are old enough: call it often."""
        now = time.monotonic()
        if now - self._last_beat < self.lease / 8:
            return
        self._last_beat = now

        def write() -> None:
            with self._engine.begin() as connection:
                connection.execute(sql.update(_CLAIMS).where(_CLAIMS.c.owner == self.owner).values(beat=_NOW))

        self.patiently(write)

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """One process at a time, of all that share the database, holds ``name``. A file has one process anyway."""
        if self.local:
            yield
            return
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        with self._engine.begin() as connection:  # given back when the connection ends, however it ends
            connection.execute(sql.select(sql.func.pg_advisory_xact_lock(number)))
            yield

    def close(self) -> None:
        """Closes its connections."""
        self._engine.dispose()


def _kind_of(failure: str | None) -> FailureKind | None:
    """The kind of a failure in a row of an earlier version, which has the text alone."""
    if failure is None:
        return None
    if failure.startswith("undefined"):
        return FailureKind.MINUS_INFINITY if failure.endswith("is -inf") else FailureKind.UNDEFINED
    beginnings = {
        "out of memory": FailureKind.OUT_OF_MEMORY,
        "diverged": FailureKind.DIVERGED,
        "its worker": FailureKind.WORKER_DIED,
    }
    return next((kind for text, kind in beginnings.items() if failure.startswith(text)), FailureKind.NET_ERROR)


def _where(table: sql.Table, values: dict[str, str]) -> list[Any]:
    return [table.c[name] == value for name, value in values.items()]


def _durable(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


# What passes by itself, or when a person makes room: SQLite's words, and what psycopg calls a lost connection.
_PASSING = ("disk is full", "disk i/o error", "database is locked", "unable to open database file")
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between two tries


def patiently(action: Callable[[], T], *, tell: Callable[[str], None] | None = None) -> T:
    """The result of ``action``, repeated while the disk is full or the database cannot be reached.

    What the database refuses for another reason is raised at once.
    """
    pause, told = FIRST_PAUSE, False
    while True:
        try:
            return action()
        except Exception as error:
            reason = passing_reason(error)
            if reason is None:
                raise
            if not told and tell is not None:
                tell(f"cannot write: {reason}. Nothing is lost; waiting until it can be written.")
            told = True
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def passing_reason(error: BaseException) -> str | None:
    """Why a database operation failed, when trying again may help; Optuna wraps the database's own error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DBAPIError):
            text = str(cause.orig).strip()
            lost = cause.connection_invalidated or (
                isinstance(cause, OperationalError) and not isinstance(cause.orig, sqlite3.Error)
            )
            if lost or any(word in text.lower() for word in _PASSING):
                return text.splitlines()[0] if text else type(cause).__name__
            return None
        cause = cause.__cause__ or cause.__context__
    return None
