"""What making a proxy set costs in FLOPs, counted from its settings: two per multiply-add, the products of nets only.

A forward pass of an image costs F, its backward pass 2 F. A gradient that is differentiated again costs as much twice
more: 9 F for an image whose own gradient is wanted.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from nasproxy.condense.accelerations import early_recipe
from nasproxy.condense.matching_nets import build_net
from nasproxy.condense.methods.generative_teaching import INTERVAL, curriculum, generator_flops
from nasproxy.condense.methods.trajectory_matching import expert_recipe
from nasproxy.config import READS, SELECTIONS, CondenseConfig
from nasproxy.data import Dataset
from nasproxy.spaces.inspection import num_flops
from nasproxy.training.fit import num_updates

FIRST_ORDER, SECOND_ORDER = 3, 9  # forward passes that an image costs
NUM_NETS = 20  # drawn from a match space for their mean


def _net_flops(dataset: Dataset, config: CondenseConfig) -> float:
    """Of a forward pass of one image, on average over the nets that are matched."""
    num = 1 if config.match_space is None else min(NUM_NETS, config.outer_steps)
    nets = [build_net(config, dataset, number, torch.device("cpu")).eval() for number in range(num)]
    return sum(num_flops(net, dataset.input_shape) for net in nets) / num


def _choosing(dataset: Dataset, config: CondenseConfig) -> float:
    """Of training the net that chooses real images, and of what it sees of every one of them afterwards."""
    if config.method == "random" or (config.features == "pixels" and "features" in READS[config.method]):
        return 0.0
    judged = config.pool_epochs if config.method == "forgetting" else 1
    return (FIRST_ORDER * config.pool_epochs + judged) * len(dataset.train)


def _matching(dataset: Dataset, config: CondenseConfig) -> float:
    inner, net_epochs = config.loops
    matching = FIRST_ORDER * dataset.num_classes * config.batch_real + SECOND_ORDER * _num_synthetic(dataset, config)
    trained = config.batch_net if config.net_data == "real" else _num_synthetic(dataset, config)
    passes = float(config.outer_steps * (inner * matching + (inner - 1) * FIRST_ORDER * net_epochs * trained))
    if config.real_choice == "kmeans":
        passes += config.outer_steps * -(-inner // config.choice_interval) * len(dataset.train)
    if config.pool:
        recipe = early_recipe(config.pool_epochs)
        updates = num_updates(recipe, len(dataset.train)) * recipe.batch_size
        passes += FIRST_ORDER * min(config.pool, config.outer_steps) * updates
    return passes


def _means(dataset: Dataset, config: CondenseConfig) -> float:
    real = dataset.num_classes * config.batch_real
    return config.outer_steps * (real + FIRST_ORDER * _num_synthetic(dataset, config))


def _parameters(dataset: Dataset, config: CondenseConfig) -> float:
    """Steps on the synthetic set are run once to get there and once more, differentiated twice, to come back."""
    real = FIRST_ORDER * dataset.num_classes * config.batch_real
    synthetic = (FIRST_ORDER + SECOND_ORDER) * _num_synthetic(dataset, config)
    return config.outer_steps * config.loops[0] * config.unroll_steps * (real + synthetic)


def _distillation(dataset: Dataset, config: CondenseConfig) -> float:
    """Every image is trained on once an epoch, as in :func:`_parameters`; the net is measured on real images."""
    real = FIRST_ORDER * dataset.num_classes * config.batch_real
    synthetic = (FIRST_ORDER + SECOND_ORDER) * config.unroll_epochs * _num_synthetic(dataset, config)
    return config.outer_steps * (real + synthetic)


def _teaching(dataset: Dataset, config: CondenseConfig) -> float:
    number, epochs = curriculum(config, dataset.num_classes)
    measured = -(-number * epochs // INTERVAL)
    real = FIRST_ORDER * measured * dataset.num_classes * config.batch_real
    synthetic = (FIRST_ORDER + SECOND_ORDER) * epochs * _num_synthetic(dataset, config)
    return config.outer_steps * (real + synthetic)


def _generating(dataset: Dataset, config: CondenseConfig) -> float:
    """FLOPs of the generator: it makes every image, and again to learn from it, and all of them in the end."""
    made = (1 + FIRST_ORDER) * config.outer_steps + 1
    return made * _num_synthetic(dataset, config) * generator_flops(dataset.num_classes, dataset.input_shape)


def _labels(dataset: Dataset, config: CondenseConfig) -> float:
    """Labelled images are looked ahead on as :func:`_parameters` does, and learned from; the ridge does the latter."""
    real = dataset.num_classes * config.batch_real
    batch = min(config.batch_net, _num_synthetic(dataset, config))
    if config.solver == "ridge":
        return config.outer_steps * (real + FIRST_ORDER * batch)
    ahead = (FIRST_ORDER + SECOND_ORDER) * config.unroll_steps
    return config.outer_steps * (FIRST_ORDER * real + (ahead + FIRST_ORDER) * batch)


def _trajectories(dataset: Dataset, config: CondenseConfig) -> float:
    experts = FIRST_ORDER * config.num_experts * expert_recipe(config).epochs * len(dataset.train)
    batch = min(config.batch_net, _num_synthetic(dataset, config))
    return experts + (FIRST_ORDER + SECOND_ORDER) * config.outer_steps * config.unroll_steps * batch


def _num_synthetic(dataset: Dataset, config: CondenseConfig) -> int:
    return sum(config.counts(dataset.num_classes)) * config.formation**2


# Passes of one image through the net, forward ones.
PASSES: dict[str, Callable[[Dataset, CondenseConfig], float]] = {
    **dict.fromkeys(SELECTIONS, _choosing),
    "gradient_matching": _matching,
    "dsa": _matching,
    "distribution_matching": _means,
    "parameter_matching": _parameters,
    "dataset_distillation": _distillation,
    "soft_label": _distillation,
    "generative_teaching": _teaching,
    "label_distillation": _labels,
    "trajectory_matching": _trajectories,
}


def condensing_flops(dataset: Dataset, config: CondenseConfig) -> float:
    """Of making one set by ``config``; 0 for random images.

    Raises:
        NasproxyError: when a match space of ``config`` cannot be read.
    """
    config = config.for_data(dataset.input_shape, flip=dataset.flip)
    passes = PASSES[config.method](dataset, config)
    others = _generating(dataset, config) if config.method == "generative_teaching" else 0.0
    return passes * _net_flops(dataset, config) + others if passes else 0.0
