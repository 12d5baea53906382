"""Every way to build a proxy set, one file per method, behind one contract: ``CONDENSERS`` and :func:`build_proxy`.

A condenser is ``method(dataset, config, *, device, checkpoint, progress, on_snapshot)`` and returns normalised float32
images ``(C · ipc, c, h, w)``, their labels, and the seconds of work. It reads the training split only, draws from
``config.seed`` only, and leaves the global generators as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from nasproxy.condense.gradient_matching import gradient_matching
from nasproxy.condense.random_images import random_images
from nasproxy.config import RECIPES, CondenseConfig, Recipe
from nasproxy.datasets import Dataset
from nasproxy.devices import DeviceChoice, hardware, versions
from nasproxy.errors import unknown
from nasproxy.proxyset import ProxySet

# Settings of the image loops mean nothing to a method that only selects: they stay out of its provenance.
SELECTION_SETTINGS = ("method", "ipc", "recipe", "seed")


def recipe_for(config: CondenseConfig, dataset: Dataset) -> Recipe:
    """The recipe stored with a proxy of ``dataset``: mirrored only where a mirrored image keeps its class."""
    recipe = RECIPES[config.recipe]
    if recipe.augmentation == "flip_shift" and not dataset.flip:
        return replace(recipe, augmentation="shift")
    return recipe


def provenance(dataset: Dataset, config: CondenseConfig) -> dict[str, Any]:
    """What determines the set: the data and every setting that its method reads."""
    settings = config.as_json()
    if config.method == "random":
        settings = {name: settings[name] for name in SELECTION_SETTINGS}
    return {
        "dataset": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "input_shape": list(dataset.input_shape),
            "num_train": len(dataset.train),
        },
        "config": settings,
    }


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

    Raises:
        NasproxyError: for an unknown method, or settings that do not fit the data.
    """
    if config.method not in CONDENSERS:
        raise unknown("method", config.method, CONDENSERS)
    config = config.for_image(dataset.input_shape)
    images, labels, seconds = CONDENSERS[config.method](
        dataset, config, device=choice.device, checkpoint=checkpoint, progress=progress, on_snapshot=on_snapshot
    )
    return ProxySet(
        images=images.unsqueeze(0),
        labels=labels.unsqueeze(0),
        recipe=recipe_for(config, dataset),
        mean=dataset.mean,
        std=dataset.std,
        class_names=dataset.class_names,
        provenance=provenance(dataset, config),
        record={
            "seconds": round(seconds, 3),
            "hardware": hardware(choice),
            "versions": versions(),
            "source": source or {},
        },
    )


CONDENSERS: dict[str, Callable[..., tuple[Tensor, Tensor, float]]] = {
    "gradient_matching": gradient_matching,
    "random": random_images,
}
