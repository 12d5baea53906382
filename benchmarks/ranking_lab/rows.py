"""The recorded rows: a CSV file that only grows. What is in it is never measured again.

A row is one number of one candidate. Its key is (space, candidate, signal, setting, seed). Rows of one training are
written by one call and are on the disk before the next training starts. A line that an interruption cut is removed
when the file is opened to write, and its training is repeated.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from nasproxy.core.errors import NasproxyError


class Key(NamedTuple):
    """What decides whether a measurement exists."""

    space: str
    candidate: str
    signal: str
    setting: str
    seed: int


@dataclass(frozen=True)
class Row:
    """One measured number.

    Attributes:
        space, candidate, signal, setting, seed: the key. ``setting`` says in words how it was measured.
        value: the number; None when the measurement failed, minus infinity for a score that ranks last.
        seconds: of the whole training or measurement, on ``device``.
        gflop: counted operations of it, in 10⁹.
        device: what it ran on.
        failure: why there is no value, else empty.
    """

    space: str
    candidate: str
    signal: str
    setting: str
    seed: int
    value: float | None
    seconds: float
    gflop: float
    device: str
    failure: str = ""

    @property
    def key(self) -> Key:
        """The key of the row."""
        return Key(self.space, self.candidate, self.signal, self.setting, self.seed)


COLUMNS = tuple(field.name for field in fields(Row))


def _line(values: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _cells(row: Row) -> list[object]:
    cells = list(astuple(row))
    cells[5] = "" if row.value is None else f"{row.value:.6g}"
    cells[6], cells[7] = f"{row.seconds:.3g}", f"{row.gflop:.4g}"
    cells[9] = " ".join(row.failure.split())  # one row is one line
    return cells


def read_rows(path: Path) -> list[Row]:
    """All complete rows of ``path``; none when there is no file. A last line without its end is left out.

    Raises:
        NasproxyError: naming the line, for a row that cannot be read or a key that is there twice.
    """
    if not path.is_file():
        return []
    text = path.read_text()
    lines = text[: text.rfind("\n") + 1].splitlines()
    if not lines:
        return []
    if tuple(lines[0].split(",")) != COLUMNS:
        raise NasproxyError(f"'{path}' must start with the line {','.join(COLUMNS)}, but starts with '{lines[0]}'.")
    rows: dict[Key, Row] = {}
    for number, cells in enumerate(csv.reader(lines[1:]), start=2):
        try:
            space, candidate, signal, setting, seed, value, seconds, gflop, device, failure = cells
            row = Row(
                space,
                candidate,
                signal,
                setting,
                int(seed),
                float(value) if value else None,
                float(seconds),
                float(gflop),
                device,
                failure,
            )
        except ValueError as error:
            raise NasproxyError(f"{path}:{number} is no row ({error}): correct it.") from None
        if row.key in rows:
            raise NasproxyError(f"{path}:{number} repeats {row.key}: keep the first, it is what was reported.")
        rows[row.key] = row
    return list(rows.values())


class Recorder:
    """Appends rows to a file. One process at a time; a second one is refused."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise NasproxyError(f"Another process writes '{path}': wait for it, or give --rows another file.") from None
        if path.is_file():
            content = path.read_bytes()
            os.truncate(path, content.rfind(b"\n") + 1)
        self.keys = {row.key for row in read_rows(path)}
        if not path.is_file() or path.stat().st_size == 0:
            self._append(_line(COLUMNS))

    def close(self) -> None:
        """Lets another process write."""
        self._lock.release()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, rows: Iterable[Row]) -> None:
        """Appends those of ``rows`` that are not there yet, in one write."""
        new = [row for row in rows if row.key not in self.keys]
        self._append("".join(_line(_cells(row)) for row in new))
        self.keys.update(row.key for row in new)

    def _append(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
