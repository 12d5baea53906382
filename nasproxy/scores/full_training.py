"""Training on the full data: the truth that scores are compared with."""

from __future__ import annotations

from dataclasses import replace

import torch

from nasproxy.config import CUTOUT_FROM_EPOCHS, FULL_RECIPE, Recipe, ValidateConfig, augmentation_for
from nasproxy.core.randomness import generator
from nasproxy.data import Dataset, LabeledImages
from nasproxy.training.images import real_images
from nasproxy.training.tasks import TrainingTask, task_setting


def full_recipe(dataset: Dataset, epochs: int) -> Recipe:
    """Full-data training, equal for every candidate; mirrored only where a mirrored image keeps its class.

    Long trainings also cut boxes out of the images.
    """
    augmentation = FULL_RECIPE.augmentation + ("_cutout" if epochs >= CUTOUT_FROM_EPOCHS else "")
    return replace(FULL_RECIPE, epochs=epochs, augmentation=augmentation_for(augmentation, dataset.flip))


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
        setting=task_setting(
            f"{description} of {dataset.fingerprint}", recipe, f"{split} of {dataset.fingerprint}", config.precision
        ),
        precision=config.precision,
        watched=split == "val",
    )
