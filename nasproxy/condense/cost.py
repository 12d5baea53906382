"""What making a proxy set costs in FLOPs, counted from its settings: two per multiply-add, the products of nets only.

A forward pass of an image costs F, its backward pass 2 F. A gradient that is differentiated again costs as much twice
more: 9 F for an image whose own gradient is wanted.
"""

from __future__ import annotations

import torch

from nasproxy.condense.faster import early_recipe
from nasproxy.condense.nets import build_net
from nasproxy.config import CondenseConfig
from nasproxy.datasets import Dataset
from nasproxy.spaces.inspection import num_flops
from nasproxy.train import num_updates

FIRST_ORDER, SECOND_ORDER = 3, 9  # forward passes that an image costs
NUM_NETS = 20  # drawn from a match space for their mean


def _net_flops(dataset: Dataset, config: CondenseConfig) -> float:
    """Of a forward pass of one image, on average over the nets that are matched."""
    num = 1 if config.match_space is None else min(NUM_NETS, config.outer_steps)
    nets = [build_net(config, dataset, number, torch.device("cpu")).eval() for number in range(num)]
    return sum(num_flops(net, dataset.input_shape) for net in nets) / num


def kmeans_flops(dataset: Dataset, config: CondenseConfig) -> float:
    """Of training the embedding and of embedding every training image."""
    config = config.for_data(dataset.input_shape, flip=dataset.flip)
    passes = FIRST_ORDER * config.pool_epochs + 1
    return passes * len(dataset.train) * _net_flops(dataset, config)


def condensing_flops(dataset: Dataset, config: CondenseConfig) -> float:
    """Of making one set by ``config``; 0 for random images.

    Raises:
        NasproxyError: when a match space of ``config`` cannot be read.
    """
    if config.method == "random":
        return 0.0
    if config.method == "kmeans":
        return kmeans_flops(dataset, config)
    config = config.for_data(dataset.input_shape, flip=dataset.flip)
    inner, net_epochs = config.loops
    classes = dataset.num_classes
    num_synthetic = classes * config.ipc * config.formation**2
    matching = FIRST_ORDER * classes * config.batch_real + SECOND_ORDER * num_synthetic
    between = FIRST_ORDER * net_epochs * (config.batch_net if config.net_data == "real" else num_synthetic)
    passes = float(config.outer_steps * (inner * matching + (inner - 1) * between))
    if config.real_choice == "kmeans":
        passes += config.outer_steps * -(-inner // config.choice_interval) * len(dataset.train)
    if config.pool:
        recipe = early_recipe(config.pool_epochs)
        trained = num_updates(recipe, len(dataset.train)) * recipe.batch_size
        passes += FIRST_ORDER * min(config.pool, config.outer_steps) * trained
    return passes * _net_flops(dataset, config)
