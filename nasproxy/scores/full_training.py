"""Training on the full data: the truth that scores are compared with."""

from __future__ import annotations

from dataclasses import replace

import torch

from nasproxy.config import CUTOUT_FROM_EPOCHS, FULL_RECIPE, Recipe, ValidateConfig, augmentation_for
from nasproxy.core.randomness import generator
from nasproxy.data import Dataset, LabeledImages
from nasproxy.training.images import real_images
from nasproxy.training.tasks import TrainingTask, training_task


def full_recipe(dataset: Dataset, epochs: int) -> Recipe:
    """The recipe of full training, equal for every candidate.

    Images are mirrored only if a mirrored image keeps its class. Long trainings also cut boxes out of the images.
    """
    augmentation = FULL_RECIPE.augmentation + ("_cutout" if epochs >= CUTOUT_FROM_EPOCHS else "")
    return replace(FULL_RECIPE, epochs=epochs, augmentation=augmentation_for(augmentation, dataset.flip))


def full_task(dataset: Dataset, config: ValidateConfig, *, split: str = "val") -> TrainingTask:
    """The truth: training on the full data.

    Args:
        config: ``images`` training images (None: all) and ``epochs``. Fewer images than all are a random draw by the
            seed, the same for every candidate.
        split: what the nets are measured on, "val" or "test".
    """
    train = dataset.train
    description = "all"
    if config.images is not None and config.images < len(train):
        index = (
            torch.randperm(len(train), generator=generator(config.seed, "full-images"))[: config.images].sort().values
        )
        train = LabeledImages(train.images[index], train.labels[index])
        description = f"{config.images} drawn by {config.seed}"
    task = training_task(
        dataset,
        score="full" if split == "val" else "test",
        label="Full training",
        train=real_images(dataset, train),
        images=f"{description} of {dataset.fingerprint}",
        recipe=full_recipe(dataset, config.epochs),
        precision=config.precision,
        split=split,
    )
    return replace(task, watched=split == "val")
