"""FLOPs of making a proxy set, counted from its settings: two for each multiply-add, products of nets only.

A forward pass of an image costs F, its backward pass 2 F. A gradient that is differentiated again costs as much twice
more: 9 F for an image whose own gradient is wanted.
"""

from __future__ import annotations

import torch

from nasproxy.condense.matching_nets import build_net
from nasproxy.condense.methods import CONDENSERS
from nasproxy.config import CondenseConfig
from nasproxy.data import Dataset
from nasproxy.spaces import load_space
from nasproxy.spaces.inspection import num_flops

NUM_NETS = 20  # drawn from a match space for their mean


def condensing_flops(dataset: Dataset, config: CondenseConfig) -> float:
    """FLOPs of making one set by ``config``; 0 for random images.

    Raises:
        NasproxyError: when a match space of ``config`` cannot be read.
    """
    config = config.resolved(dataset.input_shape, flip=dataset.flip)
    condenser = CONDENSERS[config.method]
    passes = condenser.passes(dataset, config)
    others = 0.0 if condenser.other_flops is None else condenser.other_flops(dataset, config)
    return passes * _net_flops(dataset, config) + others if passes else 0.0


def _net_flops(dataset: Dataset, config: CondenseConfig) -> float:
    """FLOPs of a forward pass of one image, on average over the nets that are matched."""
    num = 1 if config.match_space is None else min(NUM_NETS, config.outer_steps)
    space = None if config.match_space is None else load_space(config.match_space)
    nets = [build_net(config, dataset, number, torch.device("cpu"), space).eval() for number in range(num)]
    return sum(num_flops(net, dataset.input_shape) for net in nets) / num
