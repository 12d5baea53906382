"""Generative teaching: a generator makes the images, from inputs whose order is learned with it.

No image is learned by itself: a small deconvolutional net makes it from a learned input vector and its label. A net
trains on the images by SGD with momentum. Its loss on real images, at the end and every 16 steps, is propagated back
through the steps (unroll.py) to the learning rate, the momentum and the images, and from these to the generator and its
inputs. The images are stored, in the order of their use.

References: [GTN] Such, Rawal, Lehman, Stanley, Clune, "Generative Teaching Networks", ICML 2020.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from nasproxy.condense.contract import FIRST_ORDER, SECOND_ORDER, BuildRun, Condensed, Condenser, Unrolled
from nasproxy.condense.initial import initial_labels
from nasproxy.condense.loop import learn
from nasproxy.condense.matching_nets import build_net, freeze_on_real, judging_part
from nasproxy.condense.ordered_batches import batch_order, in_parts, in_this_order
from nasproxy.condense.real_batches import RealBatches
from nasproxy.condense.unroll import (
    FunctionalNet,
    State,
    Step,
    loss_gradient,
    pull_back,
    run_steps,
    step_gradient,
    stride_for,
)
from nasproxy.config import CondenseConfig
from nasproxy.core.randomness import derive_seed, generator
from nasproxy.data import Dataset
from nasproxy.networks import seeded

# Of the reference implementation's architecture search on CIFAR-10.
NOISE_SIZE, HIDDEN, CHANNELS = 128, 1024, (128, 64)
MOMENTUM = 0.5
BETAS, EPSILON = (0.9, 0.9), 1e-5
FINAL_RELATIVE_LR = 0.1  # of Adam, along a cosine
INTERVAL = 16  # steps of training between two losses on real images


class Deconvolution(nn.Module):
    """Twice as large by repeating pixels, then a weight-normalised 3 × 3 convolution with reflected borders."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__()
        self.convolution = _weight_normed(nn.Conv2d(inputs, outputs, 3, bias=bias))

    def forward(self, images: Tensor) -> Tensor:
        larger = functional.interpolate(images, scale_factor=2)
        result: Tensor = self.convolution(functional.pad(larger, (1, 1, 1, 1), mode="reflect"))
        return result


class Generator(nn.Module):
    """``(n, NOISE_SIZE + C)`` inputs → ``(n, c, h, w)`` images between −2 and 2, the range of normalised pixels.

    As the reference's, for sides of any length: it starts from a quarter of each, rounded up, and cuts off what is too
    much. Batch statistics are those of the batch always, so that a batch is the same whenever it is made.
    """

    def __init__(self, num_classes: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape, (first, second) = shape, CHANNELS
        self.height, self.width = -(-shape[1] // 4), -(-shape[2] // 4)
        size = first * self.height * self.width
        self.dense = nn.Sequential(
            _weight_normed(nn.Linear(NOISE_SIZE + num_classes, HIDDEN, bias=False)),
            nn.BatchNorm1d(HIDDEN, track_running_stats=False),
            nn.LeakyReLU(0.1),
            _weight_normed(nn.Linear(HIDDEN, size, bias=False)),
            nn.BatchNorm1d(size, track_running_stats=False),
            nn.LeakyReLU(0.1),
        )
        self.larger = nn.Sequential(
            Deconvolution(first, second, bias=False),
            nn.BatchNorm2d(second, track_running_stats=False),
            nn.LeakyReLU(0.1),
            Deconvolution(second, shape[0], bias=True),
            nn.Tanh(),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        _, h, w = self.shape
        small = self.dense(inputs).view(len(inputs), CHANNELS[0], self.height, self.width)
        images: Tensor = 2 * self.larger(small)
        return images[:, :, :h, :w]


def _weight_normed(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    nn.init.kaiming_normal_(layer.weight)
    return weight_norm(layer)


def generator_flops(num_classes: int, shape: tuple[int, int, int]) -> int:
    """FLOPs of making one image ``(c, h, w)``, two per multiply-add."""
    (first, second), (c, h, w) = CHANNELS, shape
    small = -(-h // 4) * -(-w // 4)
    dense = (NOISE_SIZE + num_classes) * HIDDEN + HIDDEN * first * small
    return 2 * (dense + 9 * first * second * 4 * small + 9 * second * c * 16 * small)


def curriculum(config: CondenseConfig, num_classes: int) -> tuple[int, int]:
    """``(batches, epochs)``: into how many batches the set is cut, and how often they are gone through.

    [GTN] trains for ``unroll_steps`` steps, each on images of its own, and generates as many images as that takes.
    Here the number of images is asked for, so there are as many batches with equally many images of each class as the
    set allows, up to ``unroll_steps``, and they are repeated while that makes no more than ``unroll_steps`` steps.
    """
    most = math.gcd(*config.counts(num_classes))
    number = max(value for value in range(1, min(most, config.unroll_steps) + 1) if most % value == 0)
    return number, config.unroll_steps // number


def momentum_training(
    model: FunctionalNet, images: Tensor, labels: Tensor, log_lr: Tensor, momentum_logit: Tensor, number: int
) -> Step:
    """Step t of training ``model`` on batch t modulo ``number``, by v ← m v + ∇L and θ ← θ − η v.

    A state is the parameters, and then as many velocities. ``images`` ``(n, c, h, w)`` and ``labels`` ``(n,)`` are
    batch after batch; η is the exponential of ``log_lr``, m the sigmoid of ``momentum_logit``, both scalars.
    """
    size = len(images) // number

    def step(t: int, state: State) -> State:
        batch = slice(t % number * size, (t % number + 1) * size)
        half = len(state) // 2
        parameters, velocities = state[:half], state[half:]
        loss = functional.cross_entropy(model(parameters, images[batch]), labels[batch])
        gradients = step_gradient(loss, parameters)
        momentum, lr = momentum_logit.sigmoid(), log_lr.exp()
        velocities = tuple(momentum * v + gradient for v, gradient in zip(velocities, gradients, strict=True))
        return (*(own - lr * v for own, v in zip(parameters, velocities, strict=True)), *velocities)

    return step


Judge = Callable[[State], tuple[Tensor, list[Tensor]]]


def _later(step: Step, first: int, t: int, state: State) -> State:
    return step(first + t, state)


def taught(
    step: Step,
    start: State,
    num_steps: int,
    judged: Judge,
    leaves: Sequence[Tensor],
    *,
    stride: int,
) -> tuple[Tensor, list[Tensor]]:
    """The loss of a net that trains by ``step`` from ``start``, every ``INTERVAL`` steps and at the end; its gradient.

    Args:
        judged: the loss of a state, and its gradient with respect to the first parts of it, the net's parameters.

    Returns:
        The mean of the losses, and the gradient of their sum with respect to ``leaves``.
    """
    starts = range(0, num_steps, INTERVAL)
    state, parts, losses = start, [], []
    for first in starts:
        count = min(INTERVAL, num_steps - first)
        own = partial(_later, step, first)
        trajectory = run_steps(own, state, count, stride=stride)
        state = trajectory.last
        parts.append((own, trajectory, judged(state)))
    sums = [torch.zeros_like(leaf) for leaf in leaves]
    adjoint = [torch.zeros_like(part) for part in start]
    for own, trajectory, (loss, gradient) in reversed(parts):
        losses.append(loss)
        for total, part in zip(adjoint, gradient, strict=False):  # velocities are not judged
            total.add_(part)
        gradients, adjoint = pull_back(own, trajectory, adjoint, leaves)
        for total, part in zip(sums, gradients, strict=True):
            total.add_(part)
    return torch.stack(losses).mean(), sums


class _Teacher:
    """What is learned, and one step of it: the generator, its inputs, the learning rate and the momentum."""

    def __init__(self, dataset: Dataset, config: CondenseConfig, run: BuildRun) -> None:
        device, self._space, num_classes = run.device, run.space, dataset.num_classes
        self._dataset, self._config, self._device = dataset, config, device
        self._real = RealBatches(dataset, device)
        self._places = self._real.valid(config.batch_real)
        self.number, self.epochs = curriculum(config, num_classes)
        self.order = batch_order(config.counts(num_classes), self.number)
        self.labels = initial_labels(dataset, config)[self.order].to(device)
        self.size = len(self.labels) // self.number
        build = partial(Generator, num_classes, dataset.input_shape)
        self._maker = seeded(build, derive_seed(config.seed, "generator"), device).train()
        inputs = torch.randn((len(self.labels), NOISE_SIZE), generator=generator(config.seed, "inputs")).to(device)
        self.inputs = inputs.requires_grad_()
        self.log_lr = torch.tensor(math.log(config.lr_net), device=device, requires_grad=True)
        self.momentum_logit = torch.tensor(math.log(MOMENTUM / (1 - MOMENTUM)), device=device, requires_grad=True)
        own = {"inputs": self.inputs, "log_lr": self.log_lr, "momentum_logit": self.momentum_logit}
        self.leaves: dict[str, Tensor] = own | dict(self._maker.named_parameters())
        self.optimizer = torch.optim.Adam(self.leaves.values(), lr=config.image_lr, betas=BETAS, eps=EPSILON)
        self._at_once = judging_part(build_net(config, dataset, 0, device, run.space), dataset.input_shape, device)
        self._one_hot = functional.one_hot(self.labels, num_classes).to(inputs.dtype)

    def _made(self, batch: int) -> Tensor:
        part = slice(batch * self.size, (batch + 1) * self.size)
        images: Tensor = self._maker(torch.cat([self.inputs[part], self._one_hot[part]], 1))
        return images

    @torch.no_grad()
    def all_made(self) -> Tensor:
        """All images ``(n, c, h, w)``, batch after batch."""
        return torch.cat([self._made(batch) for batch in range(self.number)])

    def step(self, outer: int) -> Tensor:
        """Sets the gradients of ``leaves``; returns the loss on real images of a net that was taught."""
        config = self._config
        cosine = (1 + math.cos(math.pi * outer / config.outer_steps)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = config.image_lr * (FINAL_RELATIVE_LR + (1 - FINAL_RELATIVE_LR) * cosine)
        net = build_net(config, self._dataset, outer, self._device, self._space)
        stream = generator(config.seed, "teaching", outer, device=self._device)
        freeze_on_real(net, self._real, config, stream)
        model = FunctionalNet(net)
        parameters = model.parameters()
        start = (*parameters, *(torch.zeros_like(part) for part in parameters))

        def judged(state: State) -> tuple[Tensor, list[Tensor]]:
            numbers = self._real.draw(config.batch_real, stream).flatten()[self._places]
            parts = in_parts(self._real, numbers, self._at_once)
            return loss_gradient(model, state[: len(parameters)], parts, len(numbers))

        images, num_steps = self.all_made().requires_grad_(), self.number * self.epochs
        training = momentum_training(model, images, self.labels, self.log_lr, self.momentum_logit, self.number)
        stride = stride_for(num_steps, start, self._device)
        wanted = [images, self.log_lr, self.momentum_logit]
        loss, (of_images, *others) = taught(training, start, num_steps, judged, wanted, stride=stride)
        # Made again, batch by batch, so that only one batch's graph is alive.
        for batch, gradient in enumerate(of_images.split(self.size)):
            self._made(batch).backward(gradient)
        self.log_lr.grad, self.momentum_logit.grad = others
        return loss


def generative_teaching(dataset: Dataset, config: CondenseConfig, run: BuildRun) -> Condensed:
    """Learns a generator and its inputs, whose images in their order train a net to fit the real data ([GTN]).

    Every outer step takes a fresh net, trains it for ``unroll_steps`` steps on the images, and lowers its loss on
    ``batch_real`` real images of each class by Adam. Learning rate and momentum of that training start from ``lr_net``
    and 0.5 and are learned; the set's recipe holds them, whatever ``recipe`` says.

    Differs from [GTN] in the number of images, see :func:`curriculum`. Differs from the reference implementation in one
    learning rate and momentum for all steps instead of one for each, in a momentum that stays below 1, in real batches
    that have equally many images of each class, and for nets with batch norm, whose statistics are those of real
    images, frozen.

    Raises:
        NasproxyError: for settings that do not fit the data, a checkpoint of another build, or a loss
            that is not finite.
    """
    run = run.with_space(config)
    teacher = _Teacher(dataset, config, run)
    by_class = teacher.order.argsort().to(run.device)
    seconds = learn(
        dataset,
        config,
        run,
        leaves=teacher.leaves,
        optimizer=teacher.optimizer,
        step=teacher.step,
        shown=lambda: teacher.all_made()[by_class],
        note="loss",
    )
    learned = in_this_order(
        batch_size=teacher.size,
        epochs=teacher.epochs,
        lr=teacher.log_lr.exp().item(),
        momentum=teacher.momentum_logit.sigmoid().item(),
    )
    return Condensed(teacher.all_made().cpu(), teacher.labels.cpu(), seconds, learned)


def _passes(dataset: Dataset, config: CondenseConfig) -> float:
    number, epochs = curriculum(config, dataset.num_classes)
    measured = -(-number * epochs // INTERVAL)
    real = FIRST_ORDER * measured * dataset.num_classes * config.batch_real
    synthetic = (FIRST_ORDER + SECOND_ORDER) * epochs * config.num_seen(dataset.num_classes)
    return config.outer_steps * (real + synthetic)


def _generator_passes(dataset: Dataset, config: CondenseConfig) -> float:
    """FLOPs of the generator: it makes every image, and again to learn from it, and all of them in the end."""
    made = (1 + FIRST_ORDER) * config.outer_steps + 1
    return made * config.num_seen(dataset.num_classes) * generator_flops(dataset.num_classes, dataset.input_shape)


def _unrolled(dataset: Dataset, config: CondenseConfig) -> Unrolled:
    number, epochs = curriculum(config, dataset.num_classes)
    steps, images = number * epochs, config.num_stored(dataset.num_classes) // number
    build = partial(Generator, dataset.num_classes, dataset.input_shape)
    weights = sum(parameter.numel() for parameter in seeded(build, 0).parameters())
    return Unrolled(steps, images, copies=2, others=-(-steps // INTERVAL), learned=weights)


METHOD = Condenser(generative_teaching, _passes, other_flops=_generator_passes, unrolled=_unrolled)
