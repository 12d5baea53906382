"""What differentiating through training needs in memory, told before it starts: from sizes and one measured pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from nasproxy.condense.matching_nets import batch_norms, build_net, judging_part
from nasproxy.condense.methods.generative_teaching import INTERVAL, Generator, curriculum
from nasproxy.condense.methods.soft_label import num_soft_batches
from nasproxy.condense.methods.trajectory_matching import EXPERT_BATCH
from nasproxy.condense.ordered_batches import num_batches
from nasproxy.condense.unroll import stride_for
from nasproxy.config import CondenseConfig
from nasproxy.core.chunks import activation_bytes
from nasproxy.data import Dataset
from nasproxy.networks import seeded

FLOAT_BYTES = 4
LEARNED_COPIES = 4  # of what is learned: itself, its gradient, and Adam's two moments


@dataclass(frozen=True)
class Unrolled:
    """``steps`` of training that are gone back through, each on ``images``; ``copies`` of the weights are a state.

    ``others``: as many times the weights are kept beside, for gradients or the end of a second training. ``learned``:
    numbers that are learned, besides the set. ``real``: images of a real batch; None: ``batch_real`` of each class.
    ``split``: real images go through the net in parts.
    """

    steps: int
    images: int
    copies: int = 1
    others: int = 1
    learned: int = 0
    strided: bool = True
    real: int | None = None
    split: bool = True


def _total(dataset: Dataset, config: CondenseConfig) -> int:
    return sum(config.counts(dataset.num_classes))


def _distillation(dataset: Dataset, config: CondenseConfig) -> Unrolled:
    number = num_batches(config, dataset.num_classes)
    return Unrolled(number * config.unroll_epochs, _total(dataset, config) // number)


def _soft(dataset: Dataset, config: CondenseConfig) -> Unrolled:
    number = num_soft_batches(config, dataset.num_classes)
    return Unrolled(number * config.unroll_epochs, _total(dataset, config) // number)


def _teaching(dataset: Dataset, config: CondenseConfig) -> Unrolled:
    number, epochs = curriculum(config, dataset.num_classes)
    steps = number * epochs
    build = partial(Generator, dataset.num_classes, dataset.input_shape)
    weights = sum(parameter.numel() for parameter in seeded(build, 0).parameters())
    return Unrolled(steps, _total(dataset, config) // number, copies=2, others=-(-steps // INTERVAL), learned=weights)


def _parameters(dataset: Dataset, config: CondenseConfig) -> Unrolled:
    images = _total(dataset, config) * config.formation**2
    return Unrolled(config.unroll_steps, images, others=2, strided=False, split=False)


def _labels(dataset: Dataset, config: CondenseConfig) -> Unrolled:
    steps = config.unroll_steps if config.solver == "second_order" else 0
    return Unrolled(steps, min(config.batch_net, _total(dataset, config)), others=6, strided=False)  # Adam, gradients


def _trajectories(dataset: Dataset, config: CondenseConfig) -> Unrolled:
    images = min(config.batch_net, _total(dataset, config) * config.formation**2)
    real = min(EXPERT_BATCH, len(dataset.train))
    return Unrolled(config.unroll_steps, images, others=3, real=real)  # where the expert was, and where it went


UNROLLED: dict[str, Callable[[Dataset, CondenseConfig], Unrolled]] = {
    "dataset_distillation": _distillation,
    "soft_label": _soft,
    "generative_teaching": _teaching,
    "parameter_matching": _parameters,
    "label_distillation": _labels,
    "trajectory_matching": _trajectories,
}


def memory_needed(dataset: Dataset, config: CondenseConfig, device: torch.device) -> int:
    """Bytes that a method needs which goes back through training; 0 for the others.

    Kept states, one step's graph, and what is learned with its gradient and its optimiser. An estimate: on top come the
    data and what torch itself takes.

    Raises:
        NasproxyError: for settings that do not fit the data.
    """
    if config.method not in UNROLLED:
        return 0
    config = config.for_data(dataset.input_shape, flip=dataset.flip)
    plan = UNROLLED[config.method](dataset, config)
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
    learned = LEARNED_COPIES * FLOAT_BYTES * (plan.learned + _total(dataset, config) * math.prod(shape))
    return kept * plan.copies * own + plan.others * own + max(step, real) + learned
