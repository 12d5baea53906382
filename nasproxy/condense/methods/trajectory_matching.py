"""Trajectory matching: a few training steps on the synthetic set should lead where epochs on the real data lead.

First, experts are trained: nets on all real images, whose weights are kept after every epoch (experts.py). Then every
outer step takes the weights of one expert after t epochs, trains from there on the synthetic set for N steps of a
learned size, and lowers the distance to the expert's weights M epochs later. The gradient is propagated back through
all N steps (unroll.py).

References: [MTT] Cazenavette, Wang, Torralba, Efros, Zhu, "Dataset Distillation by Matching Training Trajectories",
CVPR 2022, algorithm 1, and the implementation published with it, from which the constants are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nasproxy.condense.contract import FIRST_ORDER, SECOND_ORDER, BuildRun, Condensed, Condenser, Unrolled
from nasproxy.condense.experts import EXPERT_BATCH, expert_recipe, train_experts
from nasproxy.condense.initial import initial_images, initial_labels
from nasproxy.condense.loop import learn
from nasproxy.condense.matching_nets import build_net
from nasproxy.condense.real_batches import RealBatches
from nasproxy.condense.unroll import (
    FunctionalNet,
    State,
    parameter_distance,
    pull_back,
    run_steps,
    sgd_step,
    stride_for,
)
from nasproxy.config import CondenseConfig
from nasproxy.core.chunks import room
from nasproxy.core.errors import NasproxyError
from nasproxy.core.randomness import generator
from nasproxy.data import Dataset
from nasproxy.data.augment import AugmentParams, apply_augmentation, sample_augmentation
from nasproxy.data.multi_formation import decode
from nasproxy.training.fit import num_updates

STEP_SIZE_LR = 1e-5  # of the learned step size; its momentum is that of the images
LEAST_STEP_SIZE = 1e-4
EXPERTS_SHARE = 4  # a quarter of a GPU's room is for weights of experts
GOING_BACK = 4  # training on an image and going back through it costs so many times as training on it


@dataclass(frozen=True)
class Way:
    """N steps on the synthetic set: the numbers of the images of each step, and their augmentation."""

    batches: tuple[Tensor, ...]
    augmentations: tuple[AugmentParams | None, ...]

    @classmethod
    def draw(cls, config: CondenseConfig, num_images: int, shape: tuple[int, ...], stream: torch.Generator) -> Way:
        """Batches of ``batch_net`` in epochs over ``num_images`` images ``(c, h, w)``, augmented one by one."""
        batches: list[Tensor] = []
        while len(batches) < config.unroll_steps:
            order = torch.randperm(num_images, generator=stream, device=stream.device)
            batches.extend(order.split(config.batch_net))
        batches = batches[: config.unroll_steps]
        return cls(
            tuple(batches),
            tuple(sample_augmentation(config.augmentation, (len(batch), *shape), stream) for batch in batches),
        )


def follow(
    model: FunctionalNet,
    start: State,
    target: State,
    way: Way,
    images: Tensor,
    labels: Tensor,
    step_size: Tensor,
    *,
    formation: int = 1,
    stride: int = 1,
) -> tuple[Tensor, list[Tensor]]:
    """How far training on the set from ``start`` ends from ``target`` ([MTT], eq. 2), and the gradient of that.

    Args:
        images: as stored, ``(n, c, h, w)``; a net sees ``formation``² from each, of which ``labels`` are.

    Returns:
        The distance as a share of that from ``start``, and its gradient by ``images`` and by ``step_size``.
    """

    def step(t: int, state: State) -> State:
        batch = way.batches[t]
        seen = apply_augmentation(decode(images, formation)[batch], way.augmentations[t])
        return sgd_step(functional.cross_entropy(model(state, seen), labels[batch]), state, step_size)

    trajectory = run_steps(step, start, len(way.batches), stride=stride)
    last = tuple(part.requires_grad_() for part in trajectory.last)
    distance = parameter_distance(last, target, start)
    gradients, _ = pull_back(step, trajectory, torch.autograd.grad(distance, last), [images, step_size])
    return distance.detach(), gradients


def updates_followed(dataset: Dataset, config: CondenseConfig) -> int:
    """What an expert does in ``target_epochs``; a set that makes many more steps of its size overshoots at first.

    On the 1,295 digits these are 12. Thirty steps of the same size ended further away than they had begun, and drove
    the step size far down: after 150 outer steps, nets trained on an image per class reached 66 %, from ten steps 91 %.
    """
    return config.target_epochs * math.ceil(len(dataset.train) / EXPERT_BATCH)


def expert_units(dataset: Dataset, config: CondenseConfig, num_images: int) -> int:
    """All the experts' training, in outer steps of as much work; ``num_images`` are what a net sees of the set."""
    updates = num_updates(expert_recipe(config), len(dataset.train))
    work = config.num_experts * updates * min(EXPERT_BATCH, len(dataset.train))
    own = GOING_BACK * config.unroll_steps * min(config.batch_net, num_images)
    return max(1, round(work / own))


def trajectory_matching(dataset: Dataset, config: CondenseConfig, run: BuildRun) -> Condensed:
    """Learns images and a step size on which a few steps lead where nets trained on real data go ([MTT], algorithm 1).

    ``num_experts`` nets are trained first, at ``lr_net``, where the step size begins, too. An outer step starts from
    weights after at most ``start_epochs`` epochs and makes ``unroll_steps`` steps on batches of ``batch_net`` images
    towards the weights ``target_epochs`` later; it costs no real images any more. The step size that is learned is the
    learning rate of the set's recipe. Experts are kept in files beside the checkpoint, so that an interrupted build
    does not train them again. A batch norm takes the statistics of its batch, as in [MTT].

    Differs from the reference: images are not whitened; a start after ``start_epochs`` epochs is drawn, too, as in the
    paper; every outer step draws its expert from all of them; the step size stays at 1e-4 or above, since nobody can
    train with one that turned negative; and epochs of experts that no outer step can use are not trained.

    Raises:
        NasproxyError: for settings that do not fit the data or each other, files of another build, or a distance that
            is not finite.
    """
    if config.start_epochs + config.target_epochs > config.expert_epochs:
        raise NasproxyError(
            "`start_epochs + target_epochs <= expert_epochs` must hold, for that is how far experts are followed, but "
            f"got {config.start_epochs} + {config.target_epochs} > {config.expert_epochs}: use a larger "
            "--expert-epochs or a smaller --start-epochs."
        )
    device = run.device
    real = RealBatches(dataset, device)
    images = initial_images(dataset, config).to(device).requires_grad_()
    labels = initial_labels(dataset, config).to(device)
    seen_labels = labels.repeat_interleave(config.formation**2)
    step_size = torch.full((1,), config.lr_net, device=device, requires_grad=True)
    leaves = {"images": images, "step_size": step_size}
    model = FunctionalNet(build_net(config, dataset, 0, device))
    like = model.parameters()
    sizes = [part.numel() for part in like]
    units = expert_units(dataset, config, len(seen_labels))
    own_run, report = _shared_progress(run, units, config.outer_steps)
    experts, seconds = train_experts(dataset, config, run, real, num_weights=sum(sizes), first=leaves, report=report)

    # On a GPU, weights that were moved there stay, as far as there is room for them.
    @lru_cache(maxsize=0 if device.type == "cpu" else room(device) // (EXPERTS_SHARE * 4 * sum(sizes)))
    def moved(number: int, epochs: int) -> Tensor:
        return experts.after(number, epochs).to(device)

    def weights_of(number: int, epochs: int) -> State:
        parts = moved(number, epochs).split(sizes)
        return tuple(part.view_as(own).clone() for part, own in zip(parts, like, strict=True))

    stride = stride_for(config.unroll_steps, like, device)

    def step(outer: int) -> Tensor:
        choice = generator(config.seed, "expert and epoch", outer)
        number = int(torch.randint(config.num_experts, (), generator=choice))
        epoch = int(torch.randint(config.start_epochs + 1, (), generator=choice))
        stream = generator(config.seed, "trajectory", outer, device=device)
        start, target = weights_of(number, epoch), weights_of(number, epoch + config.target_epochs)
        way = Way.draw(config, len(seen_labels), dataset.input_shape, stream)
        distance, (images.grad, step_size.grad) = follow(
            model, start, target, way, images, seen_labels, step_size, formation=config.formation, stride=stride
        )
        return distance

    def after(_: int) -> None:
        with torch.no_grad():
            step_size.clamp_(min=LEAST_STEP_SIZE)

    groups = [{"params": [images], "lr": config.image_lr}, {"params": [step_size], "lr": STEP_SIZE_LR}]
    seconds += learn(
        dataset,
        config,
        own_run,
        leaves=leaves,
        optimizer=torch.optim.SGD(groups, lr=config.image_lr, momentum=config.momentum_img),
        step=step,
        shown=lambda: images,
        note="distance",
        after=after,
    )
    return Condensed(images.detach().cpu(), labels.cpu(), seconds, {"lr": step_size.item()})


def _shared_progress(run: BuildRun, units: int, outer_steps: int) -> tuple[BuildRun, Callable[[float, str], None]]:
    """One progress bar for the experts, ``units`` long, and the outer steps after them: ``run`` for the latter."""
    progress, total, reported = run.progress, units + outer_steps, 0
    if progress is None:
        return run, lambda share, note: None

    def report(share: float, note: str) -> None:
        nonlocal reported
        if int(units * share) > reported:
            reported = int(units * share)
            progress(reported, total, note)

    return replace(run, progress=lambda done, _, note: progress(units + done, total, note)), report


def _passes(dataset: Dataset, config: CondenseConfig) -> float:
    experts = FIRST_ORDER * config.num_experts * expert_recipe(config).epochs * len(dataset.train)
    batch = min(config.batch_net, config.num_seen(dataset.num_classes))
    return experts + (FIRST_ORDER + SECOND_ORDER) * config.outer_steps * config.unroll_steps * batch


def _unrolled(dataset: Dataset, config: CondenseConfig) -> Unrolled:
    images = min(config.batch_net, config.num_seen(dataset.num_classes))
    real = min(EXPERT_BATCH, len(dataset.train))
    return Unrolled(config.unroll_steps, images, others=3, real=real)  # where the expert was, and where it went


def _fitted(dataset: Dataset, config: CondenseConfig) -> dict[str, Any]:
    return {"unroll_steps": min(config.unroll_steps, updates_followed(dataset, config))}


METHOD = Condenser(trajectory_matching, _passes, unrolled=_unrolled, fitted=_fitted)
