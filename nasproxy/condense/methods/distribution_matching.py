"""Dataset condensation by distribution matching: equal mean embeddings under random nets, without an inner loop.

References: [DM] Zhao, Bilen, "Dataset Condensation with Distribution Matching", WACV 2023, eq. 5 and algorithm 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nasproxy.condense.contract import FIRST_ORDER, BuildRun, Condensed, Condenser
from nasproxy.condense.initial import initial_images, initial_labels
from nasproxy.condense.loop import learn_images
from nasproxy.condense.matching import class_sizes
from nasproxy.condense.matching_nets import build_net, embed
from nasproxy.condense.real_batches import RealBatches
from nasproxy.config import CondenseConfig
from nasproxy.core.randomness import generator
from nasproxy.data import Dataset
from nasproxy.data.augment import apply_augmentation, sample_siamese
from nasproxy.data.multi_formation import decode
from nasproxy.training.fit import images_per_pass


def class_means(embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """The mean embedding of each class: ``(C, d)`` from ``(n, d)`` and ``labels`` ``(n,)``."""
    sums = embeddings.new_zeros((num_classes, embeddings.shape[1])).index_add(0, labels, embeddings)
    return sums / class_sizes(labels, num_classes).to(sums.dtype)[:, None]


def distribution_distance(real: Tensor, synthetic: Tensor) -> Tensor:
    """Σ over classes of the squared distance of their mean embeddings, both ``(C, d)`` ([DM], eq. 5)."""
    return (real - synthetic).square().sum()


def distribution_matching(dataset: Dataset, config: CondenseConfig, run: BuildRun) -> Condensed:
    """Learns images whose mean embedding by freshly initialised nets is that of the real ones of their class ([DM]).

    Every net sees one matching, under one augmentation for the real and the synthetic images of a class.

    Raises:
        NasproxyError: for settings that do not fit the data, a checkpoint of another build, or a distance
            that is not finite.
    """
    run, device = run.with_space(config), run.device
    real = RealBatches(dataset, device)
    num_classes, shape = dataset.num_classes, dataset.input_shape
    images = initial_images(dataset, config).to(device).requires_grad_()
    labels = initial_labels(dataset, config).to(device)
    seen_labels = labels.repeat_interleave(config.formation**2)
    places = real.valid(config.batch_real)
    real_labels = torch.arange(num_classes, device=device).repeat_interleave(
        torch.tensor([real.count(label, config.batch_real) for label in range(num_classes)], device=device)
    )

    def step(outer: int) -> Tensor:
        net = build_net(config, dataset, outer, device, run.space)
        stream = generator(config.seed, "distribution", outer, device=device)
        numbers = real.draw(config.batch_real, stream).flatten()[places]
        augmentation = sample_siamese(config.augmentation, num_classes, shape, stream)

        def view(batch: Tensor, own: Tensor) -> Tensor:
            return batch if augmentation is None else apply_augmentation(batch, augmentation.take(own))

        # A net with batch norm needs all real images in one pass. Others see them in parts that fit the cache.
        size = images_per_pass(net, shape, device) or len(numbers)
        net.requires_grad_(False)
        with torch.no_grad():
            parts = [
                embed(net, view(real.take(part), own))
                for part, own in zip(numbers.split(size), real_labels.split(size), strict=True)
            ]
            target = class_means(torch.cat(parts), real_labels, num_classes)
        own = class_means(embed(net, view(decode(images, config.formation), seen_labels)), seen_labels, num_classes)
        distance = distribution_distance(target, own)
        images.grad = torch.zeros_like(images)
        if distance.requires_grad:  # the embedding of a net whose cells pass nothing on does not depend on images
            distance.backward()
        return distance.detach()

    seconds = learn_images(dataset, config, run, images, step)
    return Condensed(images.detach().cpu(), labels.cpu(), seconds)


def _passes(dataset: Dataset, config: CondenseConfig) -> float:
    real = dataset.num_classes * config.batch_real
    return config.outer_steps * (real + FIRST_ORDER * config.num_seen(dataset.num_classes))


METHOD = Condenser(distribution_matching, _passes)
