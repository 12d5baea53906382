"""Measures candidates: one training gives four signals, one untrained net gives a free score.

Training, images and scores are those of nasproxy; there is no second training loop here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from nasproxy.condense.initial import draw_per_class
from nasproxy.config import RECIPES
from nasproxy.core.devices import choose_device
from nasproxy.core.errors import NasproxyError
from nasproxy.core.randomness import derive_seed, generator
from nasproxy.data import Dataset, LabeledImages
from nasproxy.data.proxy_set import check_fit, load_proxy
from nasproxy.networks import seeded
from nasproxy.scores.full_training import full_recipe
from nasproxy.scores.measuring import MeasuringTask
from nasproxy.scores.zero_cost import MINIBATCH
from nasproxy.spaces import Candidate, SearchSpace, num_flops
from nasproxy.training.candidate import train_candidate
from nasproxy.training.held_out import accuracy_and_loss
from nasproxy.training.images import TrainingImages, real_images
from nasproxy.training.results import FailureKind, Fit
from nasproxy.training.tasks import Attempt
from ranking_lab.rows import Key, Recorder, Row

BATCH, HELD_OUT, RECIPE = 100, 1000, "one_cycle"
LATE_SHARE = 0.2  # of the updates, whose losses are the signal "late_loss"

# Signals of one training, and +1 where a higher value is better.
TRAINED = {"accuracy": 1, "loss": -1, "loss_sum": -1, "late_loss": -1}
FREE = (
    "params", "flops", "l2_norm", "synflow", "naswot", "grad_norm", "snip", "fisher", "jacob_cov", "zico", "zen",
    "grasp",
)  # fmt: skip


@dataclass(frozen=True)
class Short:
    """A cheap training: ``updates`` of 100 images each.

    Attributes:
        options: of the network family, as in ``space:cells=1,channels=4``.
        images: "fresh": other images in every update; a number: as many random ones, equally many of each class;
            "set:NAME": the proxy set in the file NAME.safetensors, of several sets in it another one for each seed.
        updates: of the optimiser.
        side: of the images in pixels; 16 is the mean of 2 × 2 pixels.
        held_out: validation images that are measured.
        recipe: a name in ``RECIPES``.
    """

    options: str
    images: str
    updates: int
    side: int = 16
    held_out: int = HELD_OUT
    recipe: str = RECIPE

    @property
    def text(self) -> str:
        """The setting in a row; what is as by default is not said."""
        words = [self.options, f"side={self.side}", f"images={self.images}", f"updates={self.updates}"]
        words += [f"held_out={self.held_out}"] * (self.held_out != HELD_OUT)
        words += [f"recipe={self.recipe}"] * (self.recipe != RECIPE)
        return " ".join(word for word in words if word)


@dataclass(frozen=True)
class Full:
    """Full training for ``epochs`` on all training images, or ``images`` of them, measured on all of both splits."""

    epochs: int
    images: int | None = None

    @property
    def text(self) -> str:
        """The setting in a row."""
        return f"epochs={self.epochs} images={self.images or 'all'}"


@dataclass(frozen=True)
class Subject:
    """One candidate.

    Attributes:
        space: the name of its space in rows.
        name: its own.
        built_by: the space that builds it, with the skeleton that it is measured in.
        candidate: its parameters there.
    """

    space: str
    name: str
    built_by: SearchSpace
    candidate: Candidate


class _Kept:
    """Builds nets and keeps the last one, which is the trained one after a training."""

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        self.build, self.net = build, nn.Module()

    def __call__(self) -> nn.Module:
        self.net = self.build()
        return self.net


class Laboratory:
    """Data, device and record of a session."""

    def __init__(self, dataset: Dataset, recorder: Recorder, device: str = "auto", sets: Path | None = None) -> None:
        choice = choose_device(device)
        self.dataset, self.recorder, self.device, self.sets = dataset, recorder, choice.device, sets
        self.where = choice.name if choice.device.type == "cuda" else f"CPU with {torch.get_num_threads()} threads"
        self._images: dict[tuple[object, ...], TrainingImages] = {}

    def recorded(self, subject: Subject, signals: Sequence[str], setting: str, seed: int) -> bool:
        """Whether all ``signals`` are recorded."""
        return all(Key(subject.space, subject.name, s, setting, seed) in self.recorder.keys for s in signals)

    def _record(
        self, subject: Subject, values: Mapping[str, float | None], setting: str, seed: int, fit: Fit, gflop: float
    ) -> None:
        failure = "" if None not in values.values() else fit.failure or "not measured"
        self.recorder.add(
            Row(subject.space, subject.name, signal, setting, seed, value, fit.seconds, gflop, self.where, failure)
            for signal, value in values.items()
        )

    def _kept(self, key: tuple[object, ...], images: LabeledImages) -> TrainingImages:
        if key not in self._images:
            self._images[key] = real_images(self.dataset, images)
        return self._images[key]

    def training_images(self, kind: str, updates: int, side: int, seed: int) -> tuple[TrainingImages, int]:
        """The images of a :class:`Short` training, and for how many epochs they are seen.

        Raises:
            NasproxyError: when ``updates`` are no whole number of epochs, or a set is not of this side or these data.
        """
        train = self.dataset.train
        if kind.startswith("set:"):
            images = self._of_set(kind.removeprefix("set:"), side, seed)
        elif kind == "fresh":
            order = torch.randperm(len(train), generator=generator(seed, "ranking fresh images"))
            epochs = max(1, math.ceil(updates * BATCH / len(train)))  # images are repeated only when there are too few
            while updates % epochs:
                epochs += 1
            index = order[: updates // epochs * BATCH]
            chosen = LabeledImages(train.images[index], train.labels[index])
            images = self._kept((kind, updates, side, seed), LabeledImages(shrunk(chosen.images, side), chosen.labels))
        else:
            each = (int(kind) // self.dataset.num_classes,) * self.dataset.num_classes
            chosen = draw_per_class(train, each, derive_seed(seed, "ranking random images"))
            images = self._kept((kind, side, seed), LabeledImages(shrunk(chosen.images, side), chosen.labels))
        epochs, rest = divmod(updates, math.ceil(len(images.images) / BATCH))
        if rest or epochs == 0:
            raise NasproxyError(
                f"{updates} updates must be whole epochs of '{kind}' in batches of {BATCH}, but are not."
            )
        return images, epochs

    def _of_set(self, name: str, side: int, seed: int) -> TrainingImages:
        if self.sets is None:
            raise NasproxyError(f"Give --sets, the folder with '{name}.safetensors'.")
        proxy = load_proxy(self.sets / f"{name}.safetensors")
        check_fit(proxy, self.dataset)
        images = TrainingImages(*proxy.training_images(seed % proxy.num_sets))
        if images.images.shape[-1] != side:
            raise NasproxyError(f"`side` must be that of the set '{name}', {images.images.shape[-1]}, but got {side}.")
        return images

    def held_out(self, number: int, side: int) -> TrainingImages:
        """``number`` validation images, the same for every candidate."""
        val = self.dataset.val
        index = torch.randperm(len(val), generator=generator(0, "ranking held-out"))[:number]
        return self._kept(("val", number, side), LabeledImages(shrunk(val.images[index], side), val.labels[index]))

    def short(self, subject: Subject, plan: Short, seed: int) -> bool:
        """Trains a candidate once by ``plan`` and records its four signals; False when they are recorded already."""
        if self.recorded(subject, list(TRAINED), plan.text, seed):
            return False
        train, epochs = self.training_images(plan.images, plan.updates, plan.side, seed)
        recipe = replace(RECIPES[plan.recipe], epochs=epochs, batch_size=BATCH)
        held_out = self.held_out(plan.held_out, plan.side)
        losses: list[torch.Tensor] = []
        build = self.builder(subject, plan.side)
        fit = train_candidate(build, train, held_out, recipe, seed=seed, device=self.device, losses=losses)
        values: dict[str, float | None] = dict.fromkeys(TRAINED)
        if fit.failure is None and losses:
            each = torch.stack(losses).double().cpu()
            late = max(1, round(LATE_SHARE * len(each)))
            values = {
                "accuracy": fit.value,
                "loss": fit.loss,
                "loss_sum": each.sum().item(),
                "late_loss": each[-late:].mean().item(),
            }
        gflop = self.gflop(build, plan.side, 3 * epochs * len(train.images) + plan.held_out)
        self._record(subject, values, plan.text, seed, fit, gflop)
        return True

    def full(self, subject: Subject, plan: Full, seed: int) -> bool:
        """Trains a candidate fully and measures it on both splits; False when all is recorded already.

        The signals are ``val_accuracy``, ``val_loss``, ``test_accuracy`` and ``test_loss``.
        """
        signals = [f"{split}_{what}" for split in ("val", "test") for what in ("accuracy", "loss")]
        if self.recorded(subject, signals, plan.text, seed):
            return False
        data, side = self.dataset, self.dataset.train.images.shape[-1]
        train, val, test = (
            self.full_images(plan.images),
            self._kept(("val",), data.val),
            self._kept(("test",), data.test),
        )
        build = self.builder(subject, side)
        kept = _Kept(build)
        recipe = full_recipe(data, plan.epochs)
        fit = train_candidate(kept, train, val, recipe, seed=seed, device=self.device)
        values: dict[str, float | None] = dict.fromkeys(signals)
        if fit.failure is None:
            tested = accuracy_and_loss(kept.net, test, self.device)
            values = dict(zip(signals, (fit.value, fit.loss, *tested), strict=True))
        seen = 3 * plan.epochs * len(train.images) + len(data.val) + len(data.test)
        self._record(subject, values, plan.text, seed, fit, self.gflop(build, side, seen))
        return True

    def full_images(self, number: int | None) -> TrainingImages:
        """All training images, or ``number`` of them, the same for every candidate."""
        train = self.dataset.train
        if number is not None:
            index = torch.randperm(len(train), generator=generator(0, "full-images"))[:number].sort().values
            train = LabeledImages(train.images[index], train.labels[index])
        return self._kept(("full", number), train)

    def free(self, subject: Subject, options: str, score: str, seed: int) -> bool:
        """Measures a score of the untrained net on one minibatch; False when it is recorded already.

        Args:
            options: of the network family, for the setting.
        """
        side = self.dataset.train.images.shape[-1]
        setting = f"{options} side={side} minibatch={MINIBATCH}".strip()
        if self.recorded(subject, [score], setting, seed):
            return False
        train = self.dataset.train
        index = torch.randperm(len(train), generator=generator(0, "minibatch"))[:MINIBATCH]
        minibatch = self._kept(("minibatch",), LabeledImages(train.images[index], train.labels[index]))
        task = MeasuringTask(
            score=score, label=score, train=minibatch, num_classes=self.dataset.num_classes, setting=setting
        )
        build = self.builder(subject, side)
        fit = task.run(Attempt(build, minibatch, minibatch, seed, self.device, lambda: None))
        lowest = fit.failure_kind is FailureKind.MINUS_INFINITY
        gflop = self.gflop(build, side, MINIBATCH)  # of a forward pass; most scores take a few
        self._record(subject, {score: -math.inf if lowest else fit.value}, setting, seed, fit, gflop)
        return True

    def builder(self, subject: Subject, side: int) -> partial[nn.Module]:
        """Makes the untrained net of a candidate."""
        shape = (self.dataset.train.images.shape[1], side, side)
        return partial(subject.built_by.build_candidate, subject.candidate, shape, self.dataset.num_classes)

    def gflop(self, build: partial[nn.Module], side: int, passes: int) -> float:
        """10⁹ operations of ``passes`` forward passes of one image."""

        def on_meta() -> nn.Module:
            with torch.device("meta"):
                return build()

        return num_flops(seeded(on_meta, 0).eval(), (self.dataset.train.images.shape[1], side, side)) * passes / 1e9


def shrunk(images: torch.Tensor, side: int) -> torch.Tensor:
    """uint8 images ``(n, c, side, side)``: the mean of blocks of pixels, rounded."""
    times = images.shape[-1] // side
    if times == 1:
        return images
    return functional.avg_pool2d(images.float(), times).round().to(torch.uint8)
