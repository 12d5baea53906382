"""A run is a folder: its settings, its study, its table of evaluations, its copy of the proxy set, its report.

``run.json`` settings · ``study.sqlite`` Optuna's trials · ``evaluations.sqlite`` every training · ``proxy.safetensors``
the proxy set as it was used · ``checkpoints/`` long trainings while they run · ``report.json`` and ``report.html`` the
verdict.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nasproxy.core.errors import NasproxyError
from nasproxy.core.files import write_atomically

SETTINGS_FILE = "run.json"
LEDGER_FILE = "evaluations.sqlite"
PROXY_FILE = "proxy.safetensors"
REPORT_FILE = "report.html"
PICK_FILE = "pick.py"  # of a search for a stated compute
OWNER_FILE = ".owner"
CHECKPOINTS = "checkpoints"

FORMAT_VERSION = 2


@dataclass(frozen=True)
class RunSettings:
    """What a run was asked to do: enough to resume it, to validate it again and to write its report."""

    space: str  # path of the YAML file
    space_hash: str
    source: dict[str, Any]  # how to load the data set: spec, data_dir, image_size
    search: dict[str, Any]  # SearchConfig
    validate: dict[str, Any]  # ValidateConfig
    truth: str | None  # a CSV table instead of training
    notes: list[str]  # what the run leaves out
    commands: list[str]
    space_lines: list[str] = field(default_factory=list)  # the space for people, to say what was changed
    storage: str | None = None  # a database instead of files, without its password
    beside: list[str] = field(default_factory=list)  # files in the run's folder: proxy sets that are validated, too


def keep_copy(source: Path, copy: Path) -> None:
    """Copies ``source`` to ``copy`` unless it is there; never a part of it."""
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        temporary = copy.with_suffix(".copying")
        shutil.copyfile(source, temporary)
        temporary.replace(copy)


def save_settings(run: Path, settings: RunSettings, proxy: Path) -> None:
    """Writes ``run.json`` and, once, the run's copy of the proxy file."""
    keep_copy(proxy, run / PROXY_FILE)
    text = json.dumps({"format": FORMAT_VERSION} | settings.__dict__, indent=2, ensure_ascii=False)
    write_atomically(run / SETTINGS_FILE, text.encode())


def load_settings(run: Path) -> RunSettings:
    """Reads ``run.json``.

    Raises:
        NasproxyError: when ``run`` is no run folder, or its settings cannot be read.
    """
    path = run / SETTINGS_FILE
    if not path.is_file() and (run / PICK_FILE).is_file():
        raise NasproxyError(
            f"'{run}' spent a stated compute, which this command does not read: its page is {REPORT_FILE}, its pick "
            f"{PICK_FILE}, and the same `nasproxy search --compute` writes both again."
        )
    if not path.is_file():
        raise NasproxyError(
            f"'{run}' is no run: it has no {SETTINGS_FILE}. Start one with `nasproxy search --space SPACE`."
        )
    try:
        values = json.loads(path.read_text())
        if values.pop("format") != FORMAT_VERSION:
            raise NasproxyError(f"'{path}' was written by another version of nasproxy: start a new run.")
        return RunSettings(**values)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise NasproxyError(f"'{path}' cannot be read ({error}): start a new run.") from None


def fork(run: Path) -> Path:
    """A new run folder beside ``run``, with a copy of its table of evaluations, so that nothing is trained again."""
    number = 2
    while (target := run.with_name(f"{run.name}-{number}")).exists():
        number += 1
    target.mkdir(parents=True)
    if (run / LEDGER_FILE).exists():
        with closing(sqlite3.connect(run / LEDGER_FILE)) as old, closing(sqlite3.connect(target / LEDGER_FILE)) as new:
            old.backup(new)
    return target


def newest_run(folder: Path) -> Path:
    """The run in ``folder`` whose settings were written last.

    Raises:
        NasproxyError: when there is none; the message names the command to run.
    """
    files = list(folder.glob(f"*/{SETTINGS_FILE}"))
    if not files:
        raise NasproxyError(f"No run in '{folder}': start one with `nasproxy search --space convnet_space.yaml`.")
    return max(files, key=lambda path: (path.stat().st_mtime_ns, str(path))).parent


@contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """Holds the run folder: a second process is refused, and told which is the first; a dead one's lock is void.

    Raises:
        NasproxyError: naming the process that holds it.
    """
    from filelock import FileLock, Timeout

    run.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run / ".lock")
    owner = run / OWNER_FILE
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = owner.read_text().strip() if owner.exists() else ""
        raise NasproxyError(
            f"The run '{run}' is in use by another nasproxy process{f' ({who})' if who else ''}: wait for it, end it, "
            "or choose another --out."
        ) from None
    try:
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        yield
    finally:
        lock.release()
