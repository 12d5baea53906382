"""Scores: every cheap number that ranks candidates, and the full accuracy that they are held against.

A *trained* score trains the candidate on a few images and measures it on the validation split; it is described by a
:class:`~nasproxy.evaluations.TrainingTask`. A *counted* score is computed from the architecture alone. Higher ranks
better for all of them, so that a correlation's sign means what it says.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

from nasproxy.condense.random_images import draw_per_class
from nasproxy.config import FULL_RECIPE, Recipe, ValidateConfig, augmentation_for
from nasproxy.datasets import Dataset, LabeledImages, normalize
from nasproxy.errors import NasproxyError
from nasproxy.evaluations import TrainingTask, task_setting
from nasproxy.proxyset import ProxySet
from nasproxy.randomness import derive_seed, generator
from nasproxy.train import TrainingImages


def check_fit(proxy: ProxySet, dataset: Dataset) -> None:
    """Raises NasproxyError unless ``proxy`` was built from this very data set."""
    built_from = proxy.provenance["dataset"]
    if proxy.input_shape != dataset.input_shape:
        raise NasproxyError(
            f"The proxy set and the data set must have images of one shape, but the proxy has {proxy.input_shape} and "
            f"'{dataset.name}' has {dataset.input_shape} (channels, height, width): build a proxy of these data."
        )
    if proxy.class_names != dataset.class_names:
        raise NasproxyError(
            f"The proxy set and the data set must have the same classes, but the proxy (of '{built_from['name']}') has "
            f"{proxy.num_classes} and '{dataset.name}' has {dataset.num_classes} or other names: "
            "build a proxy of these data."
        )
    if built_from["fingerprint"] != dataset.fingerprint:
        raise NasproxyError(
            f"The proxy set must come from the data it is used with, but it was built from '{built_from['name']}' with "
            f"fingerprint {built_from['fingerprint'][:12]}… and '{dataset.name}' has {dataset.fingerprint[:12]}…: "
            "rebuild it, or name the original data with --dataset."
        )


def real_images(dataset: Dataset, data: LabeledImages) -> TrainingImages:
    """A split of ``dataset`` to train or measure on: uint8, normalised batch by batch."""
    return TrainingImages(data.images, data.labels, partial(normalize, mean=dataset.mean, std=dataset.std))


def proxy_task(
    proxy: ProxySet, dataset: Dataset, recipe: Recipe | None = None, *, precision: str = "float32"
) -> TrainingTask:
    """The score "proxy": train on the proxy set by its recipe (or by ``recipe``), measure on the validation split."""
    recipe = recipe or proxy.recipe
    return TrainingTask(
        score="proxy",
        label=f"Proxy set ({proxy.method.replace('_', ' ')}, {proxy.ipc} per class)",
        train=TrainingImages(*proxy.training_images(0)),
        held_out=real_images(dataset, dataset.val),
        recipe=recipe,
        num_classes=dataset.num_classes,
        setting=task_setting(proxy.content_id, recipe, f"val of {dataset.fingerprint}", precision),
        precision=precision,
    )


def random_subset_task(
    proxy: ProxySet, dataset: Dataset, recipe: Recipe | None = None, *, precision: str = "float32"
) -> TrainingTask:
    """The score "random_subset": as many random training images per class as the proxy has, same recipe.

    The draw differs from that of a ``random`` proxy with the same seed.

    Raises:
        NasproxyError: when a class has fewer images than the proxy.
    """
    recipe = recipe or proxy.recipe
    seed = derive_seed(int(proxy.provenance["config"]["seed"]), "random-subset baseline")
    drawn = draw_per_class(dataset.train, dataset.num_classes, proxy.ipc, seed)
    return TrainingTask(
        score="random_subset",
        label=f"Random real images ({proxy.ipc} per class)",
        train=TrainingImages(dataset.normalize(drawn.images), drawn.labels),
        held_out=real_images(dataset, dataset.val),
        recipe=recipe,
        num_classes=dataset.num_classes,
        setting=task_setting(
            f"random {proxy.ipc} {seed} of {dataset.fingerprint}", recipe, f"val of {dataset.fingerprint}", precision
        ),
        precision=precision,
    )


def full_recipe(dataset: Dataset, epochs: int) -> Recipe:
    """Full-data training, equal for every candidate; mirrored only where a mirrored image keeps its class."""
    return replace(FULL_RECIPE, epochs=epochs, augmentation=augmentation_for(FULL_RECIPE.augmentation, dataset.flip))


def full_task(dataset: Dataset, config: ValidateConfig, *, split: str = "val") -> TrainingTask:
    """The truth: training on ``config.images`` training images (None: all), measured on ``split``, "val" or "test".

    Fewer images than all are a fixed random draw, the same for every candidate.
    """
    train = dataset.train
    description = "all"
    if config.images is not None and config.images < len(train):
        index = (
            torch.randperm(len(train), generator=generator(config.seed, "full-images"))[: config.images].sort().values
        )
        train = LabeledImages(train.images[index], train.labels[index])
        description = f"{config.images} drawn by {config.seed}"
    recipe = full_recipe(dataset, config.epochs)
    held_out = {"val": dataset.val, "test": dataset.test}[split]
    return TrainingTask(
        score="full" if split == "val" else "test",
        label="Full training",
        train=real_images(dataset, train),
        held_out=real_images(dataset, held_out),
        recipe=recipe,
        num_classes=dataset.num_classes,
        setting=task_setting(f"{description} of {dataset.fingerprint}", recipe, f"{split} of {dataset.fingerprint}"),
    )


# What `nasproxy list` prints, and the order of the report's table.
SCORES: dict[str, str] = {
    "proxy": "validation accuracy after training on the proxy set",
    "random_subset": "the same on random real images, equally many per class: the baseline to beat",
    "params": "number of trainable parameters; free",
    "flops": "floating point operations of one forward pass; free",
}
