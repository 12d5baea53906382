"""Every way to build a proxy set, one file per method, behind one contract: ``CONDENSERS`` and :func:`build_proxy`.

A condenser is ``method(dataset, config, *, device, checkpoint, progress, on_snapshot)`` and returns normalised float32
images ``(C · ipc, c, h, w)``, their labels, and the seconds of work. It reads the training split only, draws from
``config.seed`` only, and leaves the global generators as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasproxy.condense.gradient_matching import gradient_matching, siamese_matching
from nasproxy.condense.kmeans_images import kmeans_images
from nasproxy.condense.random_images import random_images
from nasproxy.config import RECIPES, CondenseConfig, Recipe, augmentation_for
from nasproxy.datasets import Dataset
from nasproxy.devices import DeviceChoice, cpu_threads, hardware, versions
from nasproxy.errors import unknown
from nasproxy.proxyset import ProxySet
from nasproxy.randomness import derive_seed
from nasproxy.spaces import load_space

# Methods that only select, and the settings that they read: those of the image loops mean nothing to them and stay out
# of their provenance.
_SELECTION = ("method", "ipc", "num_sets", "recipe", "seed")
SELECTIONS = {"random": _SELECTION, "kmeans": (*_SELECTION, "network", "width", "depth", "norm", "pool_epochs")}


def recipe_named(name: str, dataset: Dataset) -> Recipe:
    """A recipe of ``RECIPES`` for ``dataset``: mirrored only where a mirrored image keeps its class.

    Raises:
        NasproxyError: for an unknown name.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    recipe = RECIPES[name]
    return replace(recipe, augmentation=augmentation_for(recipe.augmentation, dataset.flip))


def provenance(dataset: Dataset, config: CondenseConfig) -> dict[str, Any]:
    """What determines the set: the data and every setting that its method reads."""
    settings = config.as_json()
    if config.method in SELECTIONS:
        settings = {name: settings[name] for name in SELECTIONS[config.method]}
    elif config.match_space is not None:  # where the file lies says nothing about the set
        space = load_space(config.match_space)
        settings |= {"match_space": space.name, "match_space_hash": space.hash}
    return {
        "dataset": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "input_shape": list(dataset.input_shape),
            "num_train": len(dataset.train),
        },
        "config": settings,
    }


def checkpoint_of(path: Path, number: int) -> Path:
    """The checkpoint of set ``number`` (from 0) of the build whose first one is ``path``."""
    return path if number == 0 else path.with_name(f"{path.stem}.set{number}{path.suffix}")


def _progress_of_set(
    progress: Callable[[int, int, str], None], number: int, num_sets: int, done: int, total: int, note: str
) -> None:
    progress(number * total + done, num_sets * total, note if num_sets == 1 else f"set {number + 1}, {note}")


def build_proxy(
    dataset: Dataset,
    config: CondenseConfig,
    *,
    choice: DeviceChoice,
    source: dict[str, Any] | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    on_snapshot: Callable[[int, Tensor], None] | None = None,
) -> ProxySet:
    """Builds the proxy set that ``config`` describes. ``source`` (how to load the data again) goes into its record.

    The first of several sets is the one that a build of a single set gives; snapshots are of the first one.

    Raises:
        NasproxyError: for an unknown method, or settings that do not fit the data.
    """
    if config.method not in CONDENSERS:
        raise unknown("method", config.method, CONDENSERS)
    config = config.for_data(dataset.input_shape, flip=dataset.flip)
    sets, seconds = [], 0.0
    for number in range(config.num_sets):
        own = config if number == 0 else replace(config, seed=derive_seed(config.seed, "set", number))
        images, labels, needed = CONDENSERS[config.method](
            dataset,
            own,
            device=choice.device,
            checkpoint=None if checkpoint is None else checkpoint_of(checkpoint, number),
            progress=None if progress is None else partial(_progress_of_set, progress, number, config.num_sets),
            on_snapshot=on_snapshot if number == 0 else None,
        )
        sets.append((images, labels))
        seconds += needed
    with cpu_threads(config.threads):
        machine = hardware(choice)
    return ProxySet(
        images=torch.stack([images for images, _ in sets]),
        labels=torch.stack([labels for _, labels in sets]),
        recipe=recipe_named(config.recipe, dataset),
        mean=dataset.mean,
        std=dataset.std,
        class_names=dataset.class_names,
        provenance=provenance(dataset, config),
        record={
            "seconds": round(seconds, 3),
            "hardware": machine,
            "versions": versions(),
            "source": source or {},
            "match_space": config.match_space,
        },
        formation=1 if config.method in SELECTIONS else config.formation,
    )


CONDENSERS: dict[str, Callable[..., tuple[Tensor, Tensor, float]]] = {
    "gradient_matching": gradient_matching,
    "dsa": siamese_matching,
    "random": random_images,
    "kmeans": kmeans_images,
}
