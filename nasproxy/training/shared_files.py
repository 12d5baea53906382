"""Objects for worker processes: written once to a temporary folder, and mapped into memory by every worker."""

from __future__ import annotations

import contextlib
import pickle
import shutil
import tempfile
from collections.abc import Hashable
from pathlib import Path

import torch
from filelock import FileLock, Timeout

FOLDER, LOCK = "nasproxy-workers-", "lock"


class SharedFiles:
    """A temporary folder that is locked while it is in use; folders of processes that were killed are removed."""

    def __init__(self) -> None:
        _remove_abandoned()
        self._folder = tempfile.TemporaryDirectory(prefix=FOLDER)
        self.path = Path(self._folder.name)
        self._lock = FileLock(self.path / LOCK)
        self._lock.acquire()
        self._files: dict[Hashable, tuple[Path, object]] = {}

    def file(self, key: Hashable, content: object) -> str:
        """The path of ``content``, which is written when ``key`` is new. ``content`` stays alive, so ids are unique."""
        if key not in self._files:
            path = self.path / f"{len(self._files)}.pt"
            torch.save(content, path, pickle_protocol=pickle.HIGHEST_PROTOCOL)
            self._files[key] = path, content
        return str(self._files[key][0])

    def close(self) -> None:
        """Removes the folder."""
        self._lock.release()
        self._folder.cleanup()


def _remove_abandoned() -> None:
    # The lock of a process that was killed is free. A folder that is being made at this moment has no lock file yet.
    for lock in Path(tempfile.gettempdir()).glob(f"{FOLDER}*/{LOCK}"):
        with contextlib.suppress(Timeout, OSError), FileLock(lock, timeout=0):
            shutil.rmtree(lock.parent, ignore_errors=True)
