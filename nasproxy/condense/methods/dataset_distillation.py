"""Dataset distillation: images, and a step size for each step, that train a net in a few steps to fit the real data.

The set is cut into batches, one for each step of training, and the batches are used several times. The loss on real
images of the net that was trained so is propagated back through every step (unroll.py) to the images and to the step
sizes. The order is therefore part of what is learned: images are stored batch after batch, and the recipe repeats the
steps.

References: [DD] Wang, Zhu, Torralba, Efros, "Dataset Distillation", 2018, algorithm 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from nasproxy.condense.contract import FIRST_ORDER, SECOND_ORDER, BuildRun, Condensed, Condenser, Unrolled
from nasproxy.condense.initial import initial_images, initial_labels
from nasproxy.condense.loop import learn
from nasproxy.condense.matching_nets import build_net, freeze_on_real, judging_part
from nasproxy.condense.ordered_batches import batch_order, in_parts, in_this_order, num_batches
from nasproxy.condense.real_batches import RealBatches
from nasproxy.condense.unroll import (
    FunctionalNet,
    State,
    Step,
    loss_gradient,
    pull_back,
    run_steps,
    sgd_step,
    stride_for,
)
from nasproxy.config import CondenseConfig
from nasproxy.core.randomness import generator
from nasproxy.data import Dataset

BETAS = (0.5, 0.999)
# The reference implementation halves Adam's learning rate every 40 of its 400 epochs.
DECAY, NUM_DECAYS = 0.5, 10


def training_on(model: FunctionalNet, images: Tensor, labels: Tensor, step_sizes: Tensor, number: int) -> Step:
    """Step t of training ``model`` on the set: plain SGD on batch t modulo ``number``, mean cross-entropy.

    Args:
        images: ``(n, c, h, w)``, batch after batch.
        labels: ``(n,)`` classes, or ``(n, C)`` logits of the labels.
        step_sizes: one for each step, before the softplus that keeps them positive.
    """
    size = len(images) // number

    def step(t: int, state: State) -> State:
        batch = slice(t % number * size, (t % number + 1) * size)
        own = labels[batch] if labels.ndim == 1 else labels[batch].softmax(1)
        loss = functional.cross_entropy(model(state, images[batch]), own)
        return sgd_step(loss, state, functional.softplus(step_sizes[t]))

    return step


def inverse_softplus(value: float) -> float:
    """What softplus takes to ``value`` > 0."""
    return value + math.log(-math.expm1(-value))


def distill(
    dataset: Dataset,
    config: CondenseConfig,
    run: BuildRun,
    *,
    order: Tensor,
    number: int,
    soft: Tensor | None,
) -> Condensed:
    """Learns images and step sizes, and with ``soft`` labels as well.

    Args:
        order: places of the images in the order of their use, see :func:`batch_order`; cut into ``number`` batches.
        soft: ``(n, C)`` probabilities to start from, in ``order``; None: the images keep their classes.
    """
    device = run.device
    real = RealBatches(dataset, device)
    images = initial_images(dataset, config)[order].to(device).requires_grad_()
    num_steps = number * config.unroll_epochs
    step_sizes = torch.full((num_steps,), inverse_softplus(config.lr_net), device=device, requires_grad=True)
    leaves = {"images": images, "step_sizes": step_sizes}
    if soft is None:
        labels = initial_labels(dataset, config)[order].to(device)
    else:
        leaves["labels"] = labels = soft.log().to(device).requires_grad_()
    optimizer = torch.optim.Adam(leaves.values(), lr=config.image_lr, betas=BETAS)
    places = real.valid(config.batch_real)
    size = judging_part(build_net(config, dataset, 0, device), dataset.input_shape, device)

    def step(outer: int) -> Tensor:
        for group in optimizer.param_groups:
            group["lr"] = config.image_lr * DECAY ** (NUM_DECAYS * outer // config.outer_steps)
        net = build_net(config, dataset, 0 if config.net_init == "fixed" else outer, device)
        stream = generator(config.seed, "distillation", outer, device=device)
        freeze_on_real(net, real, config, stream)
        numbers = real.draw(config.batch_real, stream).flatten()[places]
        model = FunctionalNet(net)
        start = model.parameters()
        training = training_on(model, images, labels, step_sizes, number)
        trajectory = run_steps(training, start, num_steps, stride=stride_for(num_steps, start, device))
        loss, adjoint = loss_gradient(model, trajectory.last, in_parts(real, numbers, size), len(numbers))
        gradients, _ = pull_back(training, trajectory, adjoint, list(leaves.values()))
        for leaf, gradient in zip(leaves.values(), gradients, strict=True):
            leaf.grad = gradient
        return loss

    by_class = order.argsort().to(device)
    seconds = learn(
        dataset,
        config,
        run,
        leaves=leaves,
        optimizer=optimizer,
        step=step,
        shown=lambda: images[by_class],
        note="loss",
    )
    learned = labels.detach() if soft is None else labels.detach().softmax(1)
    return Condensed(
        images.detach().cpu(),
        learned.cpu(),
        seconds,
        in_this_order(
            batch_size=len(images) // number,
            epochs=config.unroll_epochs,
            lrs=tuple(functional.softplus(step_sizes.detach()).tolist()),
        ),
    )


def dataset_distillation(dataset: Dataset, config: CondenseConfig, run: BuildRun) -> Condensed:
    """Learns images and step sizes that train a net, in a few steps of given order, to fit the real data ([DD]).

    Every outer step takes a net (a fresh one, or always the same with ``net_init="fixed"``), trains it through the
    batches of the set ``unroll_epochs`` times, and lowers its loss on ``batch_real`` real images of each class by Adam.
    The step sizes start from ``lr_net``; the set's recipe is what was learned, whatever ``recipe`` says.

    Differs from [DD] in the real batch, which has equally many images of each class, and for nets with batch norm,
    whose statistics are those of real images, frozen.

    Raises:
        NasproxyError: for settings that do not fit the data, a checkpoint of another build, or a loss
            that is not finite.
    """
    number = num_batches(config, dataset.num_classes)
    return distill(
        dataset,
        config,
        run,
        order=batch_order(config.counts(dataset.num_classes), number),
        number=number,
        soft=None,
    )


def passes(dataset: Dataset, config: CondenseConfig) -> float:
    """Every image is trained on once an epoch, there and back; the net is measured on real images."""
    real = FIRST_ORDER * dataset.num_classes * config.batch_real
    synthetic = (FIRST_ORDER + SECOND_ORDER) * config.unroll_epochs * config.num_seen(dataset.num_classes)
    return config.outer_steps * (real + synthetic)


def _unrolled(dataset: Dataset, config: CondenseConfig) -> Unrolled:
    number = num_batches(config, dataset.num_classes)
    return Unrolled(number * config.unroll_epochs, config.num_stored(dataset.num_classes) // number)


METHOD = Condenser(dataset_distillation, passes, unrolled=_unrolled)
