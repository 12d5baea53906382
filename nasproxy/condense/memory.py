"""The memory that differentiating through training needs, estimated from sizes and one measured pass."""

from __future__ import annotations

import math

import torch

from nasproxy.condense.matching_nets import batch_norms, build_net, judging_part
from nasproxy.condense.methods import CONDENSERS
from nasproxy.condense.unroll import stride_for
from nasproxy.config import CondenseConfig
from nasproxy.core.chunks import activation_bytes
from nasproxy.data import Dataset

FLOAT_BYTES = 4
LEARNED_COPIES = 4  # of what is learned: itself, its gradient, and Adam's two moments


def memory_needed(dataset: Dataset, config: CondenseConfig, device: torch.device) -> int:
    """Estimates the bytes that a method needs which differentiates through training; 0 for the other methods.

    Counted are the kept states, the graph of one step, and what is learned, with its gradient and its optimiser. The
    data and what torch itself takes come on top.

    Raises:
        NasproxyError: for settings that do not fit the data.
    """
    unrolled = CONDENSERS[config.method].unrolled
    if unrolled is None:
        return 0
    config = config.resolved(dataset.input_shape, flip=dataset.flip)
    plan = unrolled(dataset, config)
    net = build_net(config, dataset, 0, device)
    at_once = judging_part(net, dataset.input_shape, device)
    for layer in batch_norms(net):  # one image is measured, too few for statistics
        layer.eval()
    weights = [parameter for parameter in net.parameters() if parameter.requires_grad]
    state = tuple(weights) * plan.copies
    own, shape = sum(part.nbytes for part in weights), dataset.input_shape
    stride = stride_for(plan.steps, state, device) if plan.strided else 1
    kept = -(-plan.steps // stride) + (stride if stride > 1 else 0) + 1
    # A step's graph: what it keeps of every image, the gradient, and both once more while they are differentiated.
    step = 2 * (plan.images * activation_bytes(net, shape, second_order=True) + plan.copies * own)
    num_real = plan.real or dataset.num_classes * config.batch_real
    real = (min(at_once or num_real, num_real) if plan.split else num_real) * activation_bytes(net, shape)
    learned = LEARNED_COPIES * FLOAT_BYTES * (plan.learned + config.num_stored(dataset.num_classes) * math.prod(shape))
    return kept * plan.copies * own + plan.others * own + max(step, real) + learned
