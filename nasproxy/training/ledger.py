"""The table of all trainings, so that none is done twice: in SQLite, or in PostgreSQL for several hosts.

A *claim* says that a process works on a candidate. It must be renewed, so that the work of a process that died becomes
free again. All times are by the database's clock, because the clocks of hosts may differ.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
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
    sql.Column("curve", sql.Text),  # (epoch, accuracy) as JSON; empty unless the training was watched
    sql.Column("joules", sql.Double),
    sql.Column("train_losses", sql.Text),  # as JSON; empty for a score without training and in rows before version 0.2
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
    """The database URL of ``target``.

    Args:
        target: the path of an SQLite file, or a URL, which gets the driver that nasproxy installs.

    Raises:
        NasproxyError: for another database than SQLite or PostgreSQL, or when its driver is missing.
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
    """``url`` without its password, to show to people."""
    return sql.make_url(url).render_as_string()


class Ledger:
    """The table of evaluations. Every row is on disk when :meth:`add` returns.

    Several processes may share a table in PostgreSQL. An SQLite file has one writer; a search makes sure of that by
    :func:`~nasproxy.search.run_folder.run_lock`.

    Args:
        target: the path of an SQLite file, or the URL of a database.
        lease: seconds after which a claim that was not renewed is free.
        tell: is called with a line for people when the disk is full or the database cannot be reached.

    Raises:
        NasproxyError: when ``target`` is no readable table of evaluations.
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
                if self.local:  # another program may look into the file
                    patiently(self._prepare, tell=tell, passing=("database is locked",))
                else:
                    self._prepare()
        except DatabaseError as error:
            self._engine.dispose()
            reason = str(error.orig).strip().splitlines()[0]
            raise NasproxyError(
                f"'{target if self.local else hidden(self.url)}' is no readable table of evaluations ({reason}): "
                + ("move it away." if self.local else "check the address, and that the server runs.")
            ) from None

    @property
    def local(self) -> bool:
        """Whether the table is a file, which has one writer."""
        return self.url.startswith("sqlite")

    def _prepare(self) -> None:
        """Makes the tables, and adds columns that one of an earlier version lacks; they are empty in its rows."""
        _TABLES.create_all(self._engine)
        known = {column["name"] for column in sql.inspect(self._engine).get_columns(_EVALUATIONS.name)}
        with self._engine.begin() as connection:
            for column in _EVALUATIONS.c:
                if column.name not in known:
                    kind = column.type.compile(self._engine.dialect)
                    connection.execute(sql.text(f"ALTER TABLE {_EVALUATIONS.name} ADD COLUMN {column.name} {kind}"))

    def patiently(self, action: Callable[[], T]) -> T:
        """:func:`patiently`, with this ledger's ``tell``."""
        return patiently(action, tell=self._tell)

    def get(self, candidate: str, score: str, setting: str, seed: int) -> Evaluation | None:
        """The stored evaluation with this key; None when there is none."""
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
        own = {
            "params": json.loads(row["params"]),
            "curve": curve,
            "failure_kind": kind and FailureKind(kind),
            "train_losses": tuple(json.loads(row["train_losses"] or "[]")),
        }
        return Evaluation(**{**row, **own})

    def add(self, *evaluations: Evaluation) -> None:
        """Stores ``evaluations`` on disk, all or none. Of two with the same key, the first is kept."""
        rows = [self._row_of(evaluation) for evaluation in evaluations]

        def write() -> None:
            try:
                with self._engine.begin() as connection:
                    connection.execute(sql.insert(_EVALUATIONS), rows)
            except IntegrityError:
                if len(evaluations) > 1:
                    for evaluation in evaluations:
                        self.add(evaluation)

        self.patiently(write)

    @staticmethod
    def _row_of(evaluation: Evaluation) -> dict[str, Any]:
        curve = json.dumps(evaluation.curve) if evaluation.curve else None
        kind = None if evaluation.failure_kind is None else evaluation.failure_kind.value
        values = asdict(evaluation)
        losses = json.dumps(evaluation.train_losses) if evaluation.train_losses else None
        own = {"params": json.dumps(evaluation.params), "curve": curve, "failure_kind": kind, "train_losses": losses}
        return values | own

    def claim(self, candidate: str, score: str, setting: str) -> bool:
        """Claims a training for this process.

        Returns:
            True when this process may do it: no other has a claim, or its claim was not renewed for ``lease`` seconds.
        """
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
        """Ends a claim of this process."""
        key = dict(zip(_KEY, (candidate, score, setting), strict=True)) | {"owner": self.owner}

        def write() -> None:
            with self._engine.begin() as connection:
                connection.execute(sql.delete(_CLAIMS).where(*_where(_CLAIMS, key)))

        self.patiently(write)

    def beat(self) -> None:
        """Renews the claims of this process, if they are old enough. Call it often."""
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
        """A lock called ``name``: of all processes that share the database, one at a time is in the ``with`` block.

        A file is used by one process, and needs no lock.
        """
        if self.local:
            yield
            return
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        with self._engine.begin() as connection:  # the lock ends with the connection, however that ends
            connection.execute(sql.select(sql.func.pg_advisory_xact_lock(number)))
            yield

    def close(self) -> None:
        """Closes the connections."""
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


# Errors of SQLite that end by themselves, or when a person frees space.
_PASSING = ("disk is full", "disk i/o error", "database is locked", "unable to open database file")
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between two tries


def patiently(
    action: Callable[[], T], *, tell: Callable[[str], None] | None = None, passing: Sequence[str] = _PASSING
) -> T:
    """Repeats ``action`` while the disk is full or the database cannot be reached, so that no result is lost.

    Args:
        tell: is called once, with a line for people, when it has to wait.
        passing: words of errors that pass.

    Returns:
        The result of ``action``. An error for another reason is raised at once.
    """
    pause, told = FIRST_PAUSE, False
    while True:
        try:
            return action()
        except Exception as error:
            reason = passing_reason(error, passing)
            if reason is None:
                raise
            if not told and tell is not None:
                tell(f"cannot write: {reason}. Nothing is lost; waiting until it can be written.")
            told = True
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def passing_reason(error: BaseException, passing: Sequence[str] = _PASSING) -> str | None:
    """Why a database operation failed, if it may succeed later; else None.

    Args:
        error: the database's error, or one of Optuna that has it as its cause.
        passing: words of errors that pass.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DBAPIError):
            text = str(cause.orig).strip()
            lost = cause.connection_invalidated or (
                isinstance(cause, OperationalError) and not isinstance(cause.orig, sqlite3.Error)
            )
            if lost or any(word in text.lower() for word in passing):
                return text.splitlines()[0] if text else type(cause).__name__
            return None
        cause = cause.__cause__ or cause.__context__
    return None
