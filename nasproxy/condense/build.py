"""Every way to build a proxy set, one file per method, behind one contract: ``CONDENSERS`` and :func:`build_proxy`.

A condenser is ``method(dataset, config, *, device, checkpoint, progress, on_snapshot)`` and returns a
:class:`~nasproxy.condense.contract.Condensed`. It reads the training split only, draws from ``config.seed`` only, and
leaves the global generators as they were. ``nasproxy.config.READS`` says which settings it reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasproxy.condense.contract import Condensed
from nasproxy.condense.methods.dataset_distillation import dataset_distillation
from nasproxy.condense.methods.distribution_matching import distribution_matching
from nasproxy.condense.methods.generative_teaching import generative_teaching
from nasproxy.condense.methods.gradient_matching import gradient_matching, siamese_matching
from nasproxy.condense.methods.label_distillation import label_distillation
from nasproxy.condense.methods.parameter_matching import parameter_matching
from nasproxy.condense.methods.random_images import random_images
from nasproxy.condense.methods.selections import (
    entropy_indices,
    forgetting_indices,
    herding_indices,
    k_center_indices,
    kmeans_indices,
    selection,
)
from nasproxy.condense.methods.soft_label import soft_label
from nasproxy.condense.methods.trajectory_matching import trajectory_matching
from nasproxy.config import READS, RECIPES, CondenseConfig, Recipe, augmentation_for
from nasproxy.core.devices import DeviceChoice, cpu_threads, hardware, peak_memory, versions
from nasproxy.core.errors import unknown
from nasproxy.core.randomness import derive_seed
from nasproxy.data import Dataset
from nasproxy.data.proxy_set import ProxySet
from nasproxy.spaces import load_space


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
    settings = {name: value for name, value in config.as_json().items() if name in READS[config.method]}
    for name in ("ipc_per_class", "num_images"):  # only where they are used
        if settings.get(name) is None:
            settings.pop(name, None)
    if "match_space" in settings and config.match_space is not None:  # where the file lies says nothing about the set
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
    config.counts(dataset.num_classes)
    sets: list[Condensed] = []
    with peak_memory(choice.device) as memory:
        for number in range(config.num_sets):
            own = config if number == 0 else replace(config, seed=derive_seed(config.seed, "set", number))
            sets.append(
                CONDENSERS[config.method](
                    dataset,
                    own,
                    device=choice.device,
                    checkpoint=None if checkpoint is None else checkpoint_of(checkpoint, number),
                    progress=None if progress is None else partial(_progress_of_set, progress, number, config.num_sets),
                    on_snapshot=on_snapshot if number == 0 else None,
                )
            )
    with cpu_threads(config.threads):
        machine = hardware(choice)
    recipes = tuple(replace(recipe_named(config.recipe, dataset), **one.recipe) for one in sets)
    return ProxySet(
        images=torch.stack([one.images for one in sets]),
        labels=torch.stack([one.labels for one in sets]),
        recipe=recipes[0],
        mean=dataset.mean,
        std=dataset.std,
        class_names=dataset.class_names,
        provenance=provenance(dataset, config),
        record={
            "seconds": round(sum(one.seconds for one in sets), 3),
            "peak_bytes": memory.bytes,
            "hardware": machine,
            "versions": versions(),
            "source": source or {},
            "match_space": config.match_space,
        },
        formation=config.formation if "formation" in READS[config.method] else 1,
        recipes=recipes if len(set(recipes)) > 1 else (),
    )


CONDENSERS: dict[str, Callable[..., Condensed]] = {
    "gradient_matching": gradient_matching,
    "dsa": siamese_matching,
    "distribution_matching": distribution_matching,
    "parameter_matching": parameter_matching,
    "dataset_distillation": dataset_distillation,
    "soft_label": soft_label,
    "generative_teaching": generative_teaching,
    "label_distillation": label_distillation,
    "trajectory_matching": trajectory_matching,
    "random": random_images,
    "kmeans": selection(kmeans_indices),
    "herding": selection(herding_indices),
    "k_center": selection(k_center_indices),
    "forgetting": selection(forgetting_indices),
    "entropy": selection(entropy_indices),
}
