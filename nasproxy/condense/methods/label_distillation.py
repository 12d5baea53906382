"""Label distillation: a few real images stay as they are, and their labels are learned, as probabilities.

A net learns beside the labels, from them alone. Every outer step asks how the net's loss on real images would change
with the labels that the net is about to learn from. One of two solvers answers. Then the labels are moved, and the net
takes its step.

- ``second_order``: the net takes ``unroll_steps`` steps of SGD on the labelled images, and the gradient of the loss on
  real images is propagated back through them ([FDD], algorithm 1).
- ``ridge``: its last layer is the solution of ridge regression from the labelled images' embeddings to their labels.
  This is linear in the labels, so a first derivative is enough ([FDD], algorithm 2).

References: [FDD] Bohdal, Yang, Hospedales, "Flexible Dataset Distillation: Learn Labels Instead of Images", 2020, and
the implementation published with it, from which the constants are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasproxy.condense.contract import FIRST_ORDER, SECOND_ORDER, BuildRun, Condensed, Condenser, Unrolled
from nasproxy.condense.initial import draw_per_class
from nasproxy.condense.loop import learn
from nasproxy.condense.matching_nets import build_net, embed, freeze_on_real, judging_part
from nasproxy.condense.real_batches import RealBatches
from nasproxy.condense.unroll import FunctionalNet, State, pull_back, run_steps, sgd_step
from nasproxy.config import CondenseConfig
from nasproxy.core.randomness import generator
from nasproxy.data import Dataset

NET_LR, SCALE_LR = 1e-3, 1e-2  # of Adam
PENALTY = 1.0  # λ of the ridge; of 0.01, 0.1, 1 and 10 the best in [FDD]
HEAD_SHARE = 0.01  # of each batch's own solution in the last layer that the net carries on


def onto_probabilities(labels: Tensor) -> Tensor:
    """Rows of ``labels`` ``(n, C)`` cut to [0, 1] and divided by their sum; a row of zeros becomes uniform."""
    cut = labels.clamp(0, 1)
    sums = cut.sum(1, keepdim=True)
    return torch.where(sums > 0, cut / sums.clamp_min(torch.finfo(cut.dtype).tiny), 1 / labels.shape[1])


def with_one(embeddings: Tensor) -> Tensor:
    """``(n, d + 1)``: a last feature of 1, whose weight is the bias."""
    return functional.pad(embeddings, (0, 1), value=1.0)


def ridge_solution(features: Tensor, labels: Tensor, penalty: float = PENALTY) -> Tensor:
    """The W ``(d, C)`` that minimises ‖features · W − labels‖² + penalty · ‖W‖².

    ``features`` ``(n, d)``, ``labels`` ``(n, C)``. Solved in its dual form, Φᵀ (Φ Φᵀ + λ)⁻¹ Y, of size n, which is
    small.
    """
    gram = features @ features.T + penalty * torch.eye(len(features), dtype=features.dtype, device=features.device)
    # Without a look at the error flag, which would wait for a CUDA device; what is not finite is found later.
    return features.T @ torch.linalg.solve_ex(gram, labels)[0]


def patience_of(num_images: int, num_classes: int) -> int:
    """Over how many steps the net's error is averaged, and how many more it may go without falling ([FDD])."""
    if num_classes > 10:
        return 100
    return 200 if num_images > 100 else 50


class Companion:
    """The net that learns beside the labels, with Adam; a fresh one begins where it has stopped getting better.

    All that it depends on is in ``tensors``, which are changed in place, so that they can be saved and restored.
    ``head`` ``(d + 1, C)`` and its ``scale`` stand in for the last layer with the ridge solver. ``build(k)`` gives the
    k-th net.
    """

    def __init__(self, build: Callable[[int], nn.Module], patience: int, head: Tensor) -> None:
        self._build = build
        self.net = build(0)
        self.head = head
        self.scale = torch.ones(1, device=head.device, requires_grad=True)
        self.parameters = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        learned = [*self.parameters, self.scale]
        self._adam = torch.optim.Adam(
            [{"params": self.parameters, "lr": NET_LR}, {"params": [self.scale], "lr": SCALE_LR}]
        )
        self._errors = torch.zeros(patience)  # the last ones, the oldest first
        self._lowest = torch.tensor(torch.inf)  # sum of as many
        self._counts = torch.zeros(3, dtype=torch.int64)  # nets before this one, its errors, those since the lowest sum
        for parameter in learned:
            zeros = {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
            self._adam.state[parameter] = {"step": torch.tensor(0.0)} | zeros
        self.tensors: dict[str, Tensor] = {"head": head, "errors": self._errors, "lowest": self._lowest}
        self.tensors["counts"] = self._counts
        for number, parameter in enumerate(learned):
            self.tensors[f"net.{number}"] = parameter
            self.tensors |= {f"net.{number}.{word}": own for word, own in self._adam.state[parameter].items()}

    def step(self, gradients: Sequence[Tensor]) -> None:
        """A step of Adam by the gradients of ``parameters``, and of ``scale`` if there is one more."""
        for parameter, gradient in zip([*self.parameters, self.scale], gradients, strict=False):
            parameter.grad = gradient
        self._adam.step()
        self._adam.zero_grad()

    def saw(self, error: float) -> None:
        """Begins anew when the mean of the last errors has not fallen for longer than the patience."""
        patience = len(self._errors)
        self._errors.copy_(torch.cat([self._errors[1:], torch.tensor([error])]))
        self._counts[1] += 1
        if self._counts[1] < patience:
            return
        total = self._errors.sum()
        if total < self._lowest:
            self._lowest.copy_(total)
            self._counts[2] = 0
        elif self._counts[2] < patience:
            self._counts[2] += 1
        else:
            self._restart()

    def _restart(self) -> None:
        self._counts.copy_(torch.tensor([int(self._counts[0]) + 1, 0, 0]))
        self._lowest.fill_(torch.inf)
        with torch.no_grad():
            self.head.zero_()
            self.scale.fill_(1.0)
            for own, fresh in zip(self.net.parameters(), self._build(int(self._counts[0])).parameters(), strict=True):
                own.copy_(fresh)
        for state in self._adam.state.values():
            for moment in state.values():
                moment.zero_()


def real_loss(
    logits_of: Callable[[Tensor], Tensor], parts: Sequence[tuple[Tensor, Tensor]], inputs: Sequence[Tensor]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Mean loss on all of ``parts``, pairs of images and labels; share of errors; gradient of the loss by ``inputs``.

    One part goes through the net after the other.
    """
    n = sum(len(labels) for _, labels in parts)
    sums = [torch.zeros_like(own) for own in inputs]
    total = errors = torch.zeros((), device=inputs[0].device)
    for images, labels in parts:
        logits = logits_of(images)
        loss = functional.cross_entropy(logits, labels, reduction="sum") / n
        for own, gradient in zip(
            sums, torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True), strict=True
        ):
            own += gradient
        total = total + loss.detach()
        errors = errors + (logits.argmax(1) != labels).sum() / n
    return total, errors, sums


def look_ahead(
    model: FunctionalNet,
    start: State,
    images: Tensor,
    labels: Tensor,
    batches: Sequence[Tensor],
    lr: float,
    parts: Sequence[tuple[Tensor, Tensor]],
) -> tuple[Tensor, Tensor, Tensor]:
    """What :func:`real_loss` gives after SGD from ``start`` on the labelled images, and its gradient by ``labels``.

    ``batches`` holds the numbers of the images of each step; ``parts`` is as in :func:`real_loss`.
    """

    def step(t: int, state: State) -> State:
        return sgd_step(functional.cross_entropy(model(state, images[batches[t]]), labels[batches[t]]), state, lr)

    trajectory = run_steps(step, start, len(batches))
    last = tuple(part.requires_grad_() for part in trajectory.last)
    loss, errors, gradients = real_loss(lambda seen: model(last, seen), parts, last)
    (gradient,), _ = pull_back(step, trajectory, gradients, [labels])
    return loss, errors, gradient


def solve_ahead(
    companion: Companion, images: Tensor, labels: Tensor, batch: Tensor, parts: Sequence[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What :func:`real_loss` gives with the last layer moved towards the ridge solution, its gradient by ``labels``.

    ``images`` are those of the numbers ``batch``, a part of all that have ``labels``. Also returns the last layer, and
    the logits of ``images`` by it, differentiable in the net and the scale.
    """
    features = with_one(embed(companion.net, images))
    head = (1 - HEAD_SHARE) * companion.head + HEAD_SHARE * ridge_solution(features, labels[batch])
    scaled = companion.scale * head
    last = scaled.detach().requires_grad_()

    def logits_of(some: Tensor) -> Tensor:
        with torch.no_grad():
            embedded = with_one(embed(companion.net, some))
        return embedded @ last

    loss, errors, (gradient,) = real_loss(logits_of, parts, [last])
    (by_labels,) = torch.autograd.grad(scaled, labels, gradient, retain_graph=True)
    return loss, errors, by_labels, head.detach(), features @ scaled


class _Distillation:
    """The labels and the net that learns from them; ``step`` and ``after`` are what ``learn`` calls."""

    def __init__(self, dataset: Dataset, config: CondenseConfig, device: torch.device) -> None:
        self._dataset, self._config, self._device = dataset, config, device
        num_classes = dataset.num_classes
        drawn = draw_per_class(dataset.train, config.counts(num_classes), config.seed)
        self.images = dataset.normalize(drawn.images).to(device)
        n = len(self.images)
        self.labels = torch.full((n, num_classes), 1 / num_classes, device=device, requires_grad=True)
        self._real = RealBatches(dataset, device)
        self._places = self._real.valid(config.batch_real)
        with torch.no_grad():
            num_features = embed(self._build(0), self.images[:2]).shape[1]
        head = torch.zeros(num_features + 1, num_classes, device=device)
        self.companion = Companion(self._build, patience_of(n, num_classes), head)
        self._part = judging_part(self.companion.net, dataset.input_shape, device)
        self._seen: dict[str, Tensor] = {}  # by a step, for what comes after it

    def _build(self, number: int) -> nn.Module:
        return build_net(self._config, self._dataset, 0 if self._config.net_init == "fixed" else number, self._device)

    def _drawn(self, outer: int) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
        """The batches of labelled images, and the real batch in parts; sets the statistics of batch norm, too."""
        config, real = self._config, self._real
        stream = generator(config.seed, "labels", outer, device=self._device)
        numbers = real.draw(config.batch_real, stream).flatten()[self._places]
        num_batches = config.unroll_steps if config.solver == "second_order" else 1
        n = len(self.images)
        batches = [
            torch.randperm(n, generator=stream, device=self._device)[: config.batch_net] for _ in range(num_batches)
        ]
        freeze_on_real(self.companion.net, real, config, stream)
        return batches, [(real.take(part), real.labels[part]) for part in numbers.split(self._part or len(numbers))]

    def step(self, outer: int) -> Tensor:
        """Sets the gradient of the labels; returns the loss on the real images."""
        return self._look_ahead(outer) if self._config.solver == "second_order" else self._solve(outer)

    def _look_ahead(self, outer: int) -> Tensor:
        batches, parts = self._drawn(outer)
        companion, images, labels = self.companion, self.images, self.labels
        model = FunctionalNet(companion.net)
        loss, self._seen["errors"], labels.grad = look_ahead(
            model, model.parameters(), images, labels, batches, self._config.lr_net, parts
        )
        own = functional.cross_entropy(companion.net(images[batches[0]]), labels[batches[0]].detach())
        companion.step(torch.autograd.grad(own, companion.parameters, materialize_grads=True, allow_unused=True))
        return loss

    def _solve(self, outer: int) -> Tensor:
        (batch,), parts = self._drawn(outer)
        seen = self._seen
        loss, seen["errors"], self.labels.grad, seen["head"], seen["logits"] = solve_ahead(
            self.companion, self.images[batch], self.labels, batch, parts
        )
        seen["batch"] = batch
        return loss

    def after(self, _: int) -> None:
        """Makes the labels probabilities again; with the ridge the net takes its step from the new ones."""
        seen, companion = self._seen, self.companion
        with torch.no_grad():
            self.labels.copy_(onto_probabilities(self.labels))
        if self._config.solver == "ridge":  # by the last layer that was found from the old labels
            own = functional.cross_entropy(seen["logits"], self.labels[seen["batch"]].detach())
            inputs = [*companion.parameters, companion.scale]
            companion.step(torch.autograd.grad(own, inputs, materialize_grads=True, allow_unused=True))
            companion.head.copy_(seen["head"])
        companion.saw(seen["errors"].item())
        seen.clear()


def label_distillation(dataset: Dataset, config: CondenseConfig, run: BuildRun) -> Condensed:
    """Keeps random real images and learns their labels, by one look ahead or by ridge regression ([FDD]).

    Labels begin uniform and are learned by Adam at ``lr_img``; after each step they are made probabilities again. The
    net learns from batches of ``batch_net`` of the images. Look-ahead steps use ``lr_net``, and the net's own steps
    Adam, as in [FDD]. When its mean error on the real batches no longer falls, the next net takes its place (the same
    one again with ``net_init="fixed"``).

    Differs from [FDD]: real batches hold equally many images of each class; the labels of the last step are taken, not
    those on which a net did best on held-out images; and nets train on them by the set's recipe, not by Adam for a
    number of steps that was found on such images. With ``ridge`` that matters: there nets are also tested with a last
    layer from the ridge, which such labels are made for, and which a recipe cannot express.

    Raises:
        NasproxyError: for settings that do not fit the data, a checkpoint of another build, or labels that are not
            finite.
    """
    parts = _Distillation(dataset, config, run.device)
    seconds = learn(
        dataset,
        config,
        run,
        leaves={"labels": parts.labels},
        optimizer=torch.optim.Adam([parts.labels], lr=config.image_lr),
        step=parts.step,
        shown=lambda: parts.images,
        note="loss",
        carried=parts.companion.tensors,
        after=parts.after,
    )
    return Condensed(parts.images.cpu(), parts.labels.detach().cpu(), seconds)


def _passes(dataset: Dataset, config: CondenseConfig) -> float:
    """Labelled images are looked ahead on, there and back, and learned from; with the ridge only the latter."""
    real = dataset.num_classes * config.batch_real
    batch = min(config.batch_net, config.num_seen(dataset.num_classes))
    if config.solver == "ridge":
        return config.outer_steps * (real + FIRST_ORDER * batch)
    ahead = (FIRST_ORDER + SECOND_ORDER) * config.unroll_steps
    return config.outer_steps * (FIRST_ORDER * real + (ahead + FIRST_ORDER) * batch)


def _unrolled(dataset: Dataset, config: CondenseConfig) -> Unrolled:
    steps = config.unroll_steps if config.solver == "second_order" else 0
    images = min(config.batch_net, config.num_stored(dataset.num_classes))
    return Unrolled(steps, images, others=6, strided=False)  # Adam, gradients


METHOD = Condenser(label_distillation, _passes, unrolled=_unrolled)
