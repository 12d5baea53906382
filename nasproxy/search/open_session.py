"""Opens a run: its folder or database, its table of trainings, and its workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from nasproxy.core.devices import DeviceChoice
from nasproxy.search.run_folder import CHECKPOINTS, LEDGER_FILE, run_lock
from nasproxy.training.crew import hire
from nasproxy.training.ledger import Ledger
from nasproxy.training.session import Session


@contextmanager
def open_session(
    run: Path,
    choice: DeviceChoice,
    *,
    workers: int | None = None,
    storage: str | None = None,
    tell: Callable[[str, str], None] | None = None,
) -> Iterator[Session]:
    """Opens the run folder ``run`` and starts its workers; both end with the block.

    A run in files is held by one process; a run in a database is shared by all processes that name it.

    Args:
        choice: the device, from :func:`~nasproxy.core.devices.choose_device`.
        workers: processes that train; 1: this process trains; None: as many as the device and the memory allow.
        storage: the URL of a PostgreSQL database in place of files.
        tell: gets a topic and a line for a person, for example when a worker died or the disk is full.

    Raises:
        NasproxyError: when another process holds the run, or the storage cannot be used.
    """

    def teller(topic: str) -> Callable[[str], None] | None:
        return None if tell is None else lambda line: tell(topic, line)

    with ExitStack() as stack:
        if storage is None:
            stack.enter_context(run_lock(run))
        ledger = Ledger(run / LEDGER_FILE if storage is None else storage, tell=teller("storage"))
        stack.callback(ledger.close)
        crew = stack.enter_context(hire(workers, choice.device, keep=run / CHECKPOINTS, tell=teller("worker")))
        yield Session(run, ledger, crew, choice)
