"""Option values that always travel together, as frozen values that commands pass on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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


@dataclass(frozen=True)
class SearchOptions:
    """What ``nasproxy search`` was asked for.

    Attributes:
        space: a YAML file, or the name of a shipped space.
        search: the settings of :class:`~nasproxy.config.SearchConfig` that were given.
        validate: the settings of :class:`~nasproxy.config.ValidateConfig` that were given.
        data: the data and the device.
        proxy: the proxy file; None stands for the newest one in ``proxy_folder``.
        proxy_folder: the folder of proxy files.
        run_folder: the folder of run folders.
        budget: the name of a budget; None stands for the largest one that fits.
        validation: whether a validation follows the search.
        truth: a table of full accuracies in place of full training.
        beside: other proxy files that are validated on the same candidates.
        out: the run folder; None stands for one in ``run_folder`` that is named after what was asked for.
        forked: whether the search continues in a copy of the run.
        workers: processes that train; None stands for as many as fit the device.
        storage: the URL of a database in place of files.
        track: names of trackers, separated by commas.
    """

    space: str
    search: Mapping[str, Any]
    validate: Mapping[str, Any]
    data: DataOptions
    proxy: Path | None
    proxy_folder: Path
    run_folder: Path
    budget: str | None = None
    validation: bool = True
    truth: Path | None = None
    beside: tuple[Path, ...] = ()
    out: Path | None = None
    forked: bool = False
    workers: int | None = None
    storage: str | None = None
    track: str = ""


@dataclass(frozen=True)
class ValidateOptions:
    """What ``nasproxy validate`` was asked for; an option that was not given is that of the run.

    Attributes:
        run: the run folder.
        validate: the settings of :class:`~nasproxy.config.ValidateConfig` that were given.
        data: the data and the device.
        truth: a table of full accuracies in place of full training.
        beside: other proxy files that are validated on the same candidates.
        workers: processes that train; None stands for as many as fit the device.
        storage: the URL of the run's database.
    """

    run: Path
    validate: Mapping[str, Any]
    data: DataOptions
    truth: Path | None = None
    beside: tuple[Path, ...] = ()
    workers: int | None = None
    storage: str | None = None
