"""Real images that stand for the others of their class: those nearest to the centres of k-means over embeddings.

The strongest published baseline for ranking. References: [DC-BENCH] Cui, Wang, Si, Hsieh, "DC-BENCH: Dataset
Condensation Benchmark", NeurIPS 2022.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from nasproxy.condense.faster import early_recipe, representatives_of
from nasproxy.condense.nets import build_net
from nasproxy.condense.real_batches import RealBatches
from nasproxy.config import CondenseConfig
from nasproxy.datasets import Dataset
from nasproxy.errors import NasproxyError
from nasproxy.randomness import derive_seed
from nasproxy.train import TrainingImages, fit, images_per_pass, num_updates


def kmeans_images(
    dataset: Dataset,
    config: CondenseConfig,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    on_snapshot: Callable[[int, Tensor], None] | None = None,
) -> tuple[Tensor, Tensor, float]:
    """``ipc`` training images of each class, nearest to the centres of as many clusters of their embeddings.

    The embedding is what the last layer of the net of ``config`` reads after ``pool_epochs`` epochs on the training
    images. Takes and returns what every condenser does, see :func:`nasproxy.condense.build_proxy`.

    Raises:
        NasproxyError: when a class has fewer than ``ipc`` images.
    """
    start = time.perf_counter()
    index = kmeans_indices(dataset, config, device=device, progress=progress)
    images = dataset.normalize(dataset.train.images[index])
    return images, dataset.train.labels[index], time.perf_counter() - start


def kmeans_indices(
    dataset: Dataset,
    config: CondenseConfig,
    *,
    device: torch.device,
    progress: Callable[[int, int, str], None] | None = None,
) -> Tensor:
    """Numbers of the chosen training images, sorted by class: int64 ``(C · ipc,)``."""
    real = RealBatches(dataset, device)
    for name, size in zip(dataset.class_names, real.sizes, strict=True):
        if size < config.ipc:
            raise NasproxyError(
                f"`ipc` real images must exist in every class, but '{name}' has {size} training images and "
                f"ipc={config.ipc}: use a smaller --ipc."
            )
    config = replace(config, match_space=None).for_data(dataset.input_shape, flip=dataset.flip)
    net = build_net(config, dataset, 0, device)
    recipe = early_recipe(config.pool_epochs)
    steps = num_updates(recipe, len(dataset.train)) + dataset.num_classes

    def tell(done: int, note: str) -> None:
        if progress is not None:
            progress(done, steps, note)

    fit(
        net,
        TrainingImages(real.images, real.labels, real.normalize),
        recipe,
        seed=derive_seed(config.seed, "embedding net"),
        device=device,
        per_pass=images_per_pass(net, dataset.input_shape, device),
        on_update=lambda done, _: tell(done, "training the embedding"),
    )
    net.eval()
    chosen = []
    for label in range(dataset.num_classes):
        own = representatives_of(net, real, label, config.ipc, config.seed)
        chosen.append(_distinct(own, real.numbers[label].cpu()))
        tell(steps - dataset.num_classes + label + 1, "k-means")
    return torch.cat(chosen)


def _distinct(chosen: Tensor, own: Tensor) -> Tensor:
    """``chosen`` with the first unused of ``own`` in place of repetitions: two centres may share a nearest image."""
    seen: dict[int, None] = dict.fromkeys(chosen.tolist())
    for number in own.tolist():
        if len(seen) == len(chosen):
            break
        seen.setdefault(number)
    return torch.tensor(list(seen), dtype=torch.int64)
