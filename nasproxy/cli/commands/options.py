"""Options that always travel together, as frozen values that commands pass on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasproxy.config import RECIPES, EvaluateConfig
from nasproxy.core.errors import NasproxyError, unknown


@dataclass(frozen=True)
class Source:
    """How a person named a data set. It is kept in the record of a proxy set, so that later commands find the data.

    Attributes:
        spec: the name of a data set, a folder or a file.
        data_dir: the folder of named data sets; None stands for the default.
        image_size: the side in pixels to which images are resized; None stands for their own size.
    """

    spec: str
    data_dir: Path | None = None
    image_size: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The values as JSON can hold them."""
        data_dir = None if self.data_dir is None else str(self.data_dir)
        return {"spec": self.spec, "data_dir": data_dir, "image_size": self.image_size}

    @staticmethod
    def from_json(values: dict[str, Any]) -> Source:
        """The inverse of :meth:`as_json`; files of earlier versions may lack all values but ``spec``."""
        data_dir = values.get("data_dir")
        return Source(values["spec"], None if data_dir is None else Path(data_dir), values.get("image_size"))


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
class EvaluateOptions:
    """Which networks ``evaluate`` and ``compare`` train on each proxy set, and how.

    Attributes:
        networks: texts such as ``resnet18:norm=batch``; none stands for the network that the set was matched with.
        cross: whether the networks of the usual cross-architecture table are trained instead.
        num_nets: the number of networks of each kind, on each set.
        recipe: the name of a training recipe; None stands for the one stored with the set.
        epochs: the training epochs; None stands for the recipe's.
        baseline: whether equally many random real images are evaluated as well.
        seed: the seed of every random number.
        workers: the number of worker processes; None stands for what the device can use.

    Raises:
        NasproxyError: when a number is below 1, ``recipe`` is unknown, or ``networks`` and ``cross`` are both given.
    """

    networks: tuple[str, ...] = ()
    cross: bool = False
    num_nets: int = EvaluateConfig.nets
    recipe: str | None = None
    epochs: int | None = None
    baseline: bool = True
    seed: int = EvaluateConfig.seed
    workers: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("nets", self.num_nets), ("epochs", self.epochs)):
            if value is not None and value < 1:
                raise NasproxyError(f"`{name} >= 1` must hold, but got {name}={value}.")
        if self.recipe is not None and self.recipe not in RECIPES:
            raise unknown("recipe", self.recipe, RECIPES)
        if self.cross and self.networks:
            raise NasproxyError(
                f"--cross names the networks itself, but got --network {self.networks[0]} too: leave one of them out."
            )


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
