"""Parameter matching: a net trained on the synthetic set for ς steps should end where one trained on real data does.

It lies between dataset distillation and gradient matching. [DC] states it for one net and in expectation over initial
nets, with an optimiser that is stopped after ς steps, and then turns to matching gradients, because this is expensive.
The gradient of the images is propagated back through all ς steps of training (unroll.py).

References: [DC] Zhao, Mopuri, Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, eq. 3 to 7.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nasproxy.condense.contract import FIRST_ORDER, SECOND_ORDER, BuildRun, Condensed, Condenser, Unrolled
from nasproxy.condense.initial import initial_images, initial_labels
from nasproxy.condense.loop import learn_images
from nasproxy.condense.matching import class_sizes, weighted_cross_entropy
from nasproxy.condense.matching_nets import build_net, freeze_on_real
from nasproxy.condense.real_batches import RealBatches
from nasproxy.condense.unroll import FunctionalNet, State, parameter_distance, pull_back, run_steps, sgd_step
from nasproxy.config import CondenseConfig
from nasproxy.core.randomness import generator
from nasproxy.data import Dataset
from nasproxy.data.augment import AugmentParams, apply_augmentation, sample_siamese
from nasproxy.data.multi_formation import decode


def balanced(labels: Tensor, num_classes: int) -> Tensor:
    """``(n,)`` shares by which every class of ``labels`` ``(n,)`` counts alike, however many images it has."""
    return 1 / (num_classes * class_sizes(labels, num_classes)[labels])


@dataclass(frozen=True)
class _Stretch:
    """ς steps of training from one θ_0, on real batches and on the synthetic set, under the same augmentations."""

    model: FunctionalNet
    real: RealBatches
    config: CondenseConfig
    num_classes: int
    numbers: tuple[Tensor, ...]  # of the real images of each step
    augmentations: tuple[AugmentParams | None, ...]

    def _sgd(self, t: int, state: State, images: Tensor, labels: Tensor) -> State:
        augmentation = self.augmentations[t]
        if augmentation is not None:
            images = apply_augmentation(images, augmentation.take(labels))
        loss = weighted_cross_entropy(self.model(state, images), labels, balanced(labels, self.num_classes))
        return sgd_step(loss, state, self.config.lr_net)

    def target(self, start: State) -> State:
        """θ_T."""

        def step(t: int, state: State) -> State:
            return self._sgd(t, state, self.real.take(self.numbers[t]), self.real.labels[self.numbers[t]])

        return run_steps(step, start, len(self.numbers)).last

    def match(self, start: State, target: State, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The distance of θ_S to ``target``, and its gradient with respect to the stored ``images``."""

        def step(t: int, state: State) -> State:
            return self._sgd(t, state, decode(images, self.config.formation), labels)

        trajectory = run_steps(step, start, len(self.numbers))
        last = tuple(part.requires_grad_() for part in trajectory.last)
        distance = parameter_distance(last, target, start)
        (gradient,), _ = pull_back(step, trajectory, torch.autograd.grad(distance, last), [images])
        return distance.detach(), gradient


def parameter_matching(dataset: Dataset, config: CondenseConfig, run: BuildRun) -> Condensed:
    """Learns images on which a net trains to the weights that it trains to on real ones ([DC], eq. 4 and 7).

    Every outer step takes a net (a fresh one, or always the same with ``net_init="fixed"``), trains it from θ_0 on real
    batches of ``batch_real`` images per class for ``unroll_steps`` steps to θ_T, and from the same θ_0 on the
    synthetic set to θ_S, whose distance to θ_T is lowered. ``inner_steps`` such stretches follow each other, each from
    the θ_T before.

    Raises:
        NasproxyError: for settings that do not fit the data, a checkpoint of another build, or a distance
            that is not finite.
    """
    run, device = run.with_space(config), run.device
    real = RealBatches(dataset, device)
    num_classes = dataset.num_classes
    images = initial_images(dataset, config).to(device).requires_grad_()
    labels = initial_labels(dataset, config).to(device)
    seen_labels = labels.repeat_interleave(config.formation**2)
    places = real.valid(config.batch_real)
    stretches, _ = config.loops

    def step(outer: int) -> Tensor:
        net = build_net(config, dataset, 0 if config.net_init == "fixed" else outer, device, run.space)
        stream = generator(config.seed, "parameters", outer, device=device)
        freeze_on_real(net, real, config, stream)
        model = FunctionalNet(net)
        start = model.parameters()
        total, gradient = torch.zeros((), device=device), torch.zeros_like(images)
        for _ in range(stretches):
            steps = range(config.unroll_steps)
            stretch = _Stretch(
                model,
                real,
                config,
                num_classes,
                tuple(real.draw(config.batch_real, stream).flatten()[places] for _ in steps),
                tuple(sample_siamese(config.augmentation, num_classes, dataset.input_shape, stream) for _ in steps),
            )
            target = stretch.target(start)
            distance, own = stretch.match(start, target, images, seen_labels)
            total += distance / stretches
            gradient += own / stretches
            start = target
        images.grad = gradient
        return total

    seconds = learn_images(dataset, config, run, images, step)
    return Condensed(images.detach().cpu(), labels.cpu(), seconds)


def _passes(dataset: Dataset, config: CondenseConfig) -> float:
    """Each step on the synthetic set is run forwards once, and once more, differentiated twice, for the gradient."""
    real = FIRST_ORDER * dataset.num_classes * config.batch_real
    synthetic = (FIRST_ORDER + SECOND_ORDER) * config.num_seen(dataset.num_classes)
    return config.outer_steps * config.loops[0] * config.unroll_steps * (real + synthetic)


def _unrolled(dataset: Dataset, config: CondenseConfig) -> Unrolled:
    return Unrolled(config.unroll_steps, config.num_seen(dataset.num_classes), others=2, strided=False, split=False)


METHOD = Condenser(parameter_matching, _passes, unrolled=_unrolled)
