"""Option values that always travel together, as frozen values that commands pass on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataOptions:
    """Which data a command reads, and the device on which it computes.

    Attributes:
        dataset: the name of a data set, a folder or a file; None stands for the data set that the proxy file or the
            run records.
        data_dir: the folder of named data sets; None stands for the recorded one, or for the default.
        offline: whether the command must not open a network connection.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """

    dataset: str | None = None
    data_dir: Path | None = None
    offline: bool = False
    device: str = "auto"
