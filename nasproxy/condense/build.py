"""Builds a proxy set by any of the methods in ``nasproxy/condense/methods/``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasproxy.condense.contract import BuildRun, Condensed, Progress
from nasproxy.condense.methods import CONDENSERS
from nasproxy.condense.provenance import provenance_of
from nasproxy.config import METHODS, RECIPES, CondenseConfig, Recipe, augmentation_for
from nasproxy.core.devices import DeviceChoice, cpu_threads, hardware, peak_memory, versions
from nasproxy.core.errors import unknown
from nasproxy.core.randomness import derive_seed
from nasproxy.data import Dataset
from nasproxy.data.proxy_set import ProxySet


def recipe_named(name: str, dataset: Dataset) -> Recipe:
    """A recipe of ``RECIPES`` for ``dataset``: mirrored only where a mirrored image keeps its class.

    Raises:
        NasproxyError: for an unknown name.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    recipe = RECIPES[name]
    return replace(recipe, augmentation=augmentation_for(recipe.augmentation, dataset.flip))


def checkpoint_of(path: Path, number: int) -> Path:
    """The checkpoint of set ``number`` (from 0) of the build whose first one is ``path``."""
    return path if number == 0 else path.with_name(f"{path.stem}.set{number}{path.suffix}")


def build_proxy(
    dataset: Dataset,
    config: CondenseConfig,
    *,
    choice: DeviceChoice,
    source: dict[str, Any] | None = None,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    on_snapshot: Callable[[int, Tensor], None] | None = None,
) -> ProxySet:
    """Builds the proxy set that ``config`` describes.

    The first of several sets is the set that a build of a single one makes.

    Args:
        dataset: its training split is read, nothing else.
        config: the settings; what depends on the data is filled in.
        choice: the device, from :func:`~nasproxy.core.devices.choose_device`.
        source: how to load the data again; it is kept in the set's record.
        checkpoint: the file that is written every two minutes; an existing one is resumed.
        progress: is called with units of work done, units in total and a note.
        on_snapshot: is called ten times with outer steps done and the images ``(n, c, h, w)`` of the first set.

    Returns:
        The set: images ``(s, n, c, h, w)`` and labels ``(s, n)``, or ``(s, n, C)`` where they are learned.

    Raises:
        NasproxyError: for settings that do not fit the data, or a checkpoint of another build.
    """
    config = config.resolved(dataset.input_shape, flip=dataset.flip)
    config.counts(dataset.num_classes)  # refuses numbers that do not fit the classes
    run = BuildRun(choice.device, checkpoint, progress, on_snapshot).with_space(config)
    with peak_memory(choice.device) as memory:
        sets = [_build_set(dataset, config, run, number) for number in range(config.num_sets)]
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
        provenance=provenance_of(dataset, config, run.space),
        record={
            "seconds": round(sum(one.seconds for one in sets), 3),
            "peak_bytes": memory.bytes,
            "hardware": machine,
            "versions": versions(),
            "source": source or {},
            "match_space": config.match_space,
        },
        formation=config.formation if "formation" in METHODS[config.method].reads else 1,
        recipes=recipes if len(set(recipes)) > 1 else (),
    )


def _build_set(dataset: Dataset, config: CondenseConfig, run: BuildRun, number: int) -> Condensed:
    """Set ``number`` (from 0) of ``config.num_sets``: each has a seed, a checkpoint and a part of the progress."""
    progress = run.progress
    own = replace(
        run,
        checkpoint=None if run.checkpoint is None else checkpoint_of(run.checkpoint, number),
        progress=None if progress is None else partial(_progress_of_set, progress, number, config.num_sets),
        on_snapshot=run.on_snapshot if number == 0 else None,
    )
    seeded = config if number == 0 else replace(config, seed=derive_seed(config.seed, "set", number))
    return CONDENSERS[config.method].make(dataset, seeded, own)


def _progress_of_set(progress: Progress, number: int, num_sets: int, done: int, total: int, note: str) -> None:
    progress(number * total + done, num_sets * total, note if num_sets == 1 else f"set {number + 1}, {note}")
