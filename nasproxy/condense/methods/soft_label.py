"""Soft-label distillation: dataset distillation that learns the labels as well, also for fewer images than classes.

References: [SLDD] Sucholutsky, Schonlau, "Soft-Label Dataset Distillation and Text Dataset Distillation", 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nasproxy.condense.contract import BuildRun, Condensed, Condenser, Unrolled
from nasproxy.condense.methods.dataset_distillation import distill, passes
from nasproxy.condense.ordered_batches import batch_order, num_batches
from nasproxy.config import CondenseConfig
from nasproxy.core.errors import NasproxyError
from nasproxy.data import Dataset

CERTAINTY = 0.9  # what a label gives its own class, or classes, at first


def num_soft_batches(config: CondenseConfig, num_classes: int) -> int:
    """Into how many batches the set is cut: as :func:`~nasproxy.condense.ordered_batches.num_batches` does.

    With ``num_images`` a batch need not hold every class equally often, as labels are learned: ``unroll_steps``
    batches, or as many as have an image for each class, and one when there are fewer images than classes.

    Raises:
        NasproxyError: when the images cannot be shared out evenly.
    """
    if config.num_images is None:
        return num_batches(config, num_classes)
    total = config.num_images
    most = max(1, total // num_classes)
    number = min(config.unroll_steps, most)
    if total % number:
        fitting = ", ".join(str(value) for value in range(1, most + 1) if total % value == 0)
        raise NasproxyError(
            f"Every step needs equally many images, but num_images={total} cannot be shared by {number} steps "
            f"(unroll_steps={config.unroll_steps}): use one of these --unroll-steps: {fitting}."
        )
    return number


def initial_probabilities(counts: tuple[int, ...]) -> Tensor:
    """``(n, C)`` labels of a set sorted by class, ``counts[c]`` images of class c; rows sum to 1.

    ``CERTAINTY`` belongs to the image's class, the rest to the others alike. Classes without an image are dealt out:
    with n images for C > n classes, image i shares its certainty among the classes i, i + n, i + 2 n, ….
    """
    num_classes, total = len(counts), sum(counts)
    labels = torch.arange(num_classes).repeat_interleave(torch.tensor(counts))
    own = torch.nn.functional.one_hot(labels, num_classes).bool()
    if total < num_classes:
        own = torch.arange(num_classes) % total == torch.arange(total)[:, None]
    num_own = own.sum(1, keepdim=True)
    num_other = num_classes - num_own
    shared = torch.where(own, CERTAINTY / num_own, (1 - CERTAINTY) / num_other.clamp(min=1))
    return shared / shared.sum(1, keepdim=True)


def soft_label(dataset: Dataset, config: CondenseConfig, run: BuildRun) -> Condensed:
    """Learns images, step sizes and soft labels, also ``num_images`` in all, fewer than classes ([SLDD]).

    All else is as in :func:`~nasproxy.condense.methods.dataset_distillation.dataset_distillation`.

    Differs from [SLDD], whose labels are any real numbers, one-hot at first: here they are the softmax of what is
    learned, as a set stores probabilities, and softened at first, as the logits of one-hot labels are infinite.

    Raises:
        NasproxyError: for settings that do not fit the data, a checkpoint of another build, or a loss
            that is not finite.
    """
    counts = config.counts(dataset.num_classes)
    number = num_soft_batches(config, dataset.num_classes)
    order = batch_order(counts, number)
    return distill(
        dataset,
        config,
        run,
        order=order,
        number=number,
        soft=initial_probabilities(counts)[order],
    )


def _unrolled(dataset: Dataset, config: CondenseConfig) -> Unrolled:
    number = num_soft_batches(config, dataset.num_classes)
    return Unrolled(number * config.unroll_epochs, config.num_stored(dataset.num_classes) // number)


METHOD = Condenser(soft_label, passes, unrolled=_unrolled)
