"""Which images are worth keeping when old data must go? Class-incremental learning with a small memory.

Question: does a net forget less when its memory holds condensed images than when it holds as many real ones? [DC]
answers yes for 10 images per class, against herding, on three digit sets of the same ten classes one after the other.
Here the classes of one data set come in steps and no outputs are distilled, so the numbers do not compare with theirs.

One net, its head of full width from the start, is trained on from step to step: on all images of the new classes and
on what the memory holds of the old ones, repeated until every old class is seen as often as a new one. Only the logits
of classes seen so far count, in training and at test. After a step a proxy set of its classes is made from their images
alone and joins the memory; then the images are gone. Two bounds: "all data kept", which takes as many updates as the
memories do, and "no memory", which can lose even the new classes: nothing limits how far the old logits are pushed
down, and the net's ReLUs die of it (0.03 % of them were active after five steps on the digits, seed 1).

Measured: accuracy on the test images of all classes seen so far, after every step; its mean over the steps from the
second on (the first has no memory and is the same in every row); seconds to make the memory. The unit of n is a seed,
which decides the order of the classes, the net, the batches, the draws of images and the noise of condensing; all rows
share it, so differences are paired. Intervals are 95 % Student intervals over seeds, one at a time.

    python benchmarks/continual.py --dataset digits --steps 5 --ipc 10 --seeds 3 --out continual

    python benchmarks/continual.py --dataset cifar10 --steps 5 --images-per-class 500 --width 32 --out continual

prints a table, and writes it as curves to ``--out``. Herding and k-means are the library's: they choose by the
embedding of a net that is briefly trained on the new classes for it, not of the net that learns here.

References: [DC] Zhao, Mopuri, Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, on continual
learning. The protocol is a plain form of Castro et al., "End-to-End Incremental Learning", ECCV 2018, and Rebuffi et
al., "iCaRL", CVPR 2017.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasproxy.condense.build import CONDENSERS, build_proxy
from nasproxy.config import (
    BUDGETS,
    FULL_RECIPE,
    CondenseConfig,
    Recipe,
    augmentation_for,
    condense_config,
    config_hash,
    depth_for_image,
)
from nasproxy.core.devices import DeviceChoice, choose_device, hardware, versions
from nasproxy.core.errors import NasproxyError, unknown
from nasproxy.core.progress import progress_bar
from nasproxy.core.randomness import derive_seed, generator
from nasproxy.data import Dataset, LabeledImages, load_dataset
from nasproxy.data.proxy_set import ProxySet
from nasproxy.networks import convnet, seeded
from nasproxy.report.matplotlib_svg import curves_svg
from nasproxy.training.fit import Passes, fit, images_per_pass
from nasproxy.training.held_out import MEASURING_BATCH, accuracy_and_loss
from nasproxy.training.images import TrainingImages
from nasproxy.validation.set_accuracy import Interval, mean_interval

NOTHING, EVERYTHING = "no memory", "all data kept"
BASELINE = "random"
LOOPS = BUDGETS["quick"]  # of condensing; a few nets do not carry noise far, so it starts from real images


@dataclass(frozen=True)
class Settings:
    """What is compared, and at what size; ``images_per_class`` of None is all of the training images."""

    dataset: str = "digits"
    ipc: int = 10
    steps: int = 5
    seeds: int = 3
    methods: tuple[str, ...] = ("gradient_matching", "random", "herding")
    epochs: int = 20
    width: int = 32
    outer_steps: int = LOOPS.outer_steps
    images_per_class: int | None = None

    def __post_init__(self) -> None:
        for name in ("ipc", "seeds", "epochs", "width", "outer_steps", "images_per_class"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise NasproxyError(f"`{name} >= 1` must hold, but got {name}={value}.")
        if self.images_per_class is not None and self.images_per_class < self.ipc:
            raise NasproxyError(
                f"`images_per_class >= ipc` must hold, but got images_per_class={self.images_per_class} and "
                f"ipc={self.ipc}: raise --images-per-class."
            )
        for method in self.methods:
            if method not in CONDENSERS:
                raise unknown("method", method, CONDENSERS)
        if len(set(self.methods)) < max(1, len(self.methods)):
            raise NasproxyError(
                f"`methods` must name each method once, and at least one, but got '{','.join(self.methods)}'."
            )

    @property
    def rows(self) -> tuple[str, ...]:
        return (*self.methods, NOTHING, EVERYTHING)

    def classes_per_step(self, num_classes: int) -> int:
        # One class alone gives no gradient to match: its softmax is 1 whatever the net says.
        possible = [steps for steps in range(2, num_classes // 2 + 1) if num_classes % steps == 0]
        if self.steps not in possible:
            known = f"use --steps {' or '.join(map(str, possible))}" if possible else "take a data set with more"
            raise NasproxyError(
                "Two or more `steps` must divide the classes into equal groups of at least 2, but got "
                f"steps={self.steps} for {num_classes} classes: {known}."
            )
        return num_classes // self.steps

    def recipe(self, dataset: Dataset) -> Recipe:
        """Of every step and row: that of full data, and not the one stored with a set, which is for the set alone."""
        return replace(
            FULL_RECIPE, epochs=self.epochs, augmentation=augmentation_for(FULL_RECIPE.augmentation, dataset.flip)
        )

    def condense(self, method: str, seed: int) -> CondenseConfig:
        return condense_config(
            method=method,
            ipc=self.ipc,
            init=LOOPS.init,
            outer_steps=self.outer_steps,
            net_steps=LOOPS.net_steps,
            batch_real=LOOPS.batch_real,
            width=self.width,
            seed=seed,
        )


def renumbered(data: LabeledImages, classes: Sequence[int]) -> LabeledImages:
    """The images of ``classes`` alone, in their order; those of ``classes[i]`` are labelled ``i``."""
    own = [(data.labels == label).nonzero()[:, 0] for label in classes]
    sizes = torch.tensor([len(index) for index in own])
    return LabeledImages(data.images[torch.cat(own)], torch.arange(len(own)).repeat_interleave(sizes))


def restricted(dataset: Dataset, classes: Sequence[int]) -> Dataset:
    """``dataset`` as if it had ``classes`` only, numbered from 0; ``class_names`` lead back.

    Mean and standard deviation stay the whole data set's: images of every step meet in one net, so all must be
    normalised alike, and the first step's would make them depend on the order of the classes. What they tell of
    classes to come, two numbers per channel, is told to every row.
    """
    return replace(
        dataset,
        train=renumbered(dataset.train, classes),
        val=renumbered(dataset.val, classes),
        test=renumbered(dataset.test, classes),
        class_names=tuple(dataset.class_names[label] for label in classes),
        fingerprint=config_hash(dataset.fingerprint, list(classes)),
    )


def limited(dataset: Dataset, images_per_class: int | None, seed: int) -> Dataset:
    """``dataset`` with at most so many training images of each class, drawn by ``seed``."""
    if images_per_class is None:
        return dataset
    index = torch.cat(
        [
            own[torch.randperm(len(own), generator=generator(seed, "images", label))[:images_per_class]]
            for label, own in enumerate(dataset.train.by_class(dataset.num_classes))
        ]
    )
    train = LabeledImages(dataset.train.images[index], dataset.train.labels[index])
    return replace(dataset, train=train, fingerprint=config_hash(dataset.fingerprint, images_per_class, seed))


@dataclass(frozen=True, eq=False)
class Step:
    """New classes, numbered from 0, and test images of all classes seen so far, numbered as they came.

    ``offset``: how many classes came before; a new class's number in the net's head is its own plus this.
    """

    offset: int
    new: Dataset
    test: LabeledImages

    @property
    def num_seen(self) -> int:
        return self.offset + self.new.num_classes


def class_order(num_classes: int, seed: int) -> list[int]:
    order: list[int] = torch.randperm(num_classes, generator=generator(seed, "class order")).tolist()
    return order


def class_steps(dataset: Dataset, settings: Settings, seed: int) -> list[Step]:
    size = settings.classes_per_step(dataset.num_classes)
    order = class_order(dataset.num_classes, seed)
    data = limited(dataset, settings.images_per_class, seed)
    return [
        Step(start, restricted(data, order[start : start + size]), renumbered(data.test, order[: start + size]))
        for start in range(0, dataset.num_classes, size)
    ]


class SeenClasses(nn.Module):
    """``net``, of whose logits the first ``num_seen`` count: what was not seen cannot be predicted nor unlearned."""

    def __init__(self, net: nn.Module, num_seen: int) -> None:
        super().__init__()
        self.net, self.num_seen = net, num_seen

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images)
        return logits[:, : self.num_seen]


def remembered(proxy: ProxySet, offset: int) -> TrainingImages:
    """What a net trains on, from a memory whose classes begin at ``offset`` of its head."""
    images, labels = proxy.training_images(0)
    if labels.ndim != 1:
        raise NasproxyError(
            f"Each image of a memory must have one class, but method '{proxy.method}' gives shares of classes: leave "
            "it out of --methods."
        )
    return TrainingImages(images.cpu(), labels.cpu() + offset)


def all_of(step: Step) -> TrainingImages:
    """All training images of the new classes, normalised as the memory's are."""
    return TrainingImages(step.new.normalize(step.new.train.images), step.new.train.labels + step.offset)


def repeated(labels: Tensor, per_class: int, stream: torch.Generator) -> Tensor:
    """Numbers of images, ``per_class`` of each class in ``labels``: all equally often, up to one, which is drawn."""
    index = []
    for label in labels.unique().tolist():
        own = (labels == label).nonzero()[:, 0]
        drawn = own[torch.randperm(len(own), generator=stream)]
        index.append(drawn.repeat(-(-per_class // len(own)))[:per_class])
    return torch.cat(index)


def with_replay(new: TrainingImages, old: Sequence[TrainingImages], stream: torch.Generator) -> TrainingImages:
    """``new`` images and ``old`` ones, of each old class as many as of a new class in the mean."""
    per_class = round(len(new.labels) / len(new.labels.unique()))
    index = [repeated(some.labels, per_class, stream) for some in old]
    return TrainingImages(
        torch.cat([new.images, *(some.images[own] for some, own in zip(old, index, strict=True))]),
        torch.cat([new.labels, *(some.labels[own] for some, own in zip(old, index, strict=True))]),
    )


@dataclass(frozen=True, eq=False)
class Outcome:
    """Accuracy after each step; the memory, proxy sets with their offsets; seconds to make it."""

    accuracies: list[float]
    memory: list[tuple[int, ProxySet]]

    @property
    def seconds(self) -> float:
        return sum((float(proxy.record["seconds"]) for _, proxy in self.memory), 0.0)


def learn(
    steps: Sequence[Step],
    row: str,
    settings: Settings,
    seed: int,
    choice: DeviceChoice,
    on_step: Callable[[str], None] = lambda note: None,
) -> Outcome:
    """One net through all ``steps``, with the memory that ``row`` says. The last step's images are never recalled.

    Raises:
        NasproxyError: when the training diverges, or the method cannot be used for a memory.
    """
    device, shape, num_classes = choice.device, steps[0].new.input_shape, steps[-1].num_seen
    build = partial(convnet, shape, num_classes, width=settings.width, depth=depth_for_image(*shape[1:]))
    net = seeded(build, derive_seed(seed, "init")).to(device)
    per_pass = images_per_pass(net, shape, device)
    outcome, old = Outcome([], []), list[TrainingImages]()
    for number, step in enumerate(steps):
        new = all_of(step)
        seen = SeenClasses(net, step.num_seen)
        train = with_replay(new, old, generator(seed, "replay", number))
        recipe = settings.recipe(step.new)
        # The same seed in every row: with as many images, the same batches of new ones.
        own_seed = derive_seed(seed, "step", number)
        loss = fit(seen, train.on(device), recipe, seed=own_seed, device=device, passes=Passes(per_pass)).item()
        if not math.isfinite(loss):
            raise NasproxyError(
                f"The training loss must stay finite, but '{row}' had {loss} in step {number + 1}: use another --width."
            )
        test = TrainingImages(step.test.images, step.test.labels, step.new.normalize)
        at_once = min(per_pass or MEASURING_BATCH, MEASURING_BATCH)
        outcome.accuracies.append(accuracy_and_loss(seen, test, device, per_pass=at_once)[0])
        if number + 1 < len(steps):
            if row == EVERYTHING:
                old.append(new)
            elif row != NOTHING:
                config = settings.condense(row, derive_seed(seed, "memory", number))
                proxy = build_proxy(step.new, config, choice=choice)
                outcome.memory.append((step.offset, proxy))
                old.append(remembered(proxy, step.offset))
        on_step(f"seed {seed}, {row}")
    return outcome


@dataclass(frozen=True)
class Row:
    """Accuracies of a memory: after each step, their mean from the second on, and what it leads ``BASELINE`` by."""

    name: str
    steps: list[Interval]
    mean: Interval
    lead_last: Interval | None
    lead_mean: Interval | None
    seconds: float


def summarize(accuracy: dict[str, list[list[float]]], seconds: dict[str, list[float]]) -> list[Row]:
    """``accuracy[row][seed][step]`` and ``seconds[row][seed]``, over seeds."""
    last = {row: [own[-1] for own in runs] for row, runs in accuracy.items()}
    mean = {row: [sum(own[1:]) / len(own[1:]) for own in runs] for row, runs in accuracy.items()}

    def lead(values: dict[str, list[float]], row: str) -> Interval | None:
        if row == BASELINE or BASELINE not in values:
            return None
        return mean_interval([own - other for own, other in zip(values[row], values[BASELINE], strict=True)])

    return [
        Row(
            name=row,
            steps=[mean_interval(own) for own in zip(*runs, strict=True)],
            mean=mean_interval(mean[row]),
            lead_last=lead(last, row),
            lead_mean=lead(mean, row),
            seconds=mean_interval(seconds[row]).value,
        )
        for row, runs in accuracy.items()
    ]


def percent(interval: Interval | None, sign: str = "") -> str:
    if interval is None:
        return ""
    half = "" if interval.high is None else f" ± {100 * (interval.high - interval.value):.1f}"
    return f"{100 * interval.value:{sign}.1f}{half}".replace("-", "−")


def markdown(rows: Sequence[Row], classes_per_step: int) -> str:
    """Test accuracies in percent; differences in points."""
    seen = [f"{classes_per_step * (number + 1)} classes" for number in range(len(rows[0].steps))]
    head = ["memory", *seen, "mean from step 2", f"last − {BASELINE}", f"mean − {BASELINE}", "seconds to make it"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        leads = percent(row.lead_last, "+"), percent(row.lead_mean, "+")
        took = "" if row.name in (NOTHING, EVERYTHING) else f"{row.seconds:.2g}"
        lines.append([row.name, *map(percent, row.steps), percent(row.mean), *leads, took])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def ends(interval: Interval) -> tuple[float, float]:
    """Of one seed, the value itself."""
    if interval.low is None or interval.high is None:
        return interval.value, interval.value
    return interval.low, interval.high


def curves(rows: Sequence[Row], classes_per_step: int) -> str:
    """Mean accuracy by number of classes seen, as SVG; a band is an interval over seeds, which paired rows share."""
    x = [float(classes_per_step * (number + 1)) for number in range(len(rows[0].steps))]
    bands = {
        row.name: ([100 * ends(own)[0] for own in row.steps], [100 * ends(own)[1] for own in row.steps]) for row in rows
    }
    lines = [(row.name, x, [100 * own.value for own in row.steps]) for row in rows]
    return curves_svg(lines, "classes seen", "test accuracy on them, %", name="continual", bands=bands)


def compare(
    dataset: Dataset,
    settings: Settings,
    choice: DeviceChoice,
    progress: Callable[[int, int, str], None] = lambda done, total, note: None,
) -> dict[str, Any]:
    """Every row with every seed: ``accuracy[row][seed][step]``, ``seconds[row][seed]``; each method's settings."""
    settings.classes_per_step(dataset.num_classes)  # before any work
    accuracy: dict[str, list[list[float]]] = {row: [] for row in settings.rows}
    seconds: dict[str, list[float]] = {row: [] for row in settings.rows}
    condensing: dict[str, Any] = {}
    total, done = settings.seeds * len(settings.rows) * settings.steps, itertools.count(1)
    for seed in range(settings.seeds):
        steps = class_steps(dataset, settings, seed)
        for row in settings.rows:
            outcome = learn(steps, row, settings, seed, choice, on_step=lambda note: progress(next(done), total, note))
            accuracy[row].append(outcome.accuracies)
            seconds[row].append(outcome.seconds)
            if outcome.memory:
                condensing[row] = outcome.memory[0][1].provenance["config"]
    return {"accuracy": accuracy, "seconds": seconds, "condensing": condensing}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default=Settings.dataset)
    parser.add_argument("--ipc", type=int, default=Settings.ipc, help="images kept of each class")
    parser.add_argument("--steps", type=int, default=Settings.steps, help="in which the classes come")
    parser.add_argument("--seeds", type=int, default=Settings.seeds)
    parser.add_argument("--methods", default=",".join(Settings.methods), help="of making the memory, by commas")
    parser.add_argument("--epochs", type=int, default=Settings.epochs, help="of each step")
    parser.add_argument("--width", type=int, default=Settings.width, help="of the net, and of the matching net")
    parser.add_argument("--outer-steps", type=int, default=Settings.outer_steps, help="nets a memory is matched with")
    parser.add_argument("--images-per-class", type=int, help="of the full data; all of them by default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="folder for continual.svg")
    values = vars(parser.parse_args())
    device, out = values.pop("device"), values.pop("out")
    values["methods"] = tuple(filter(None, values["methods"].split(",")))
    try:
        settings, choice = Settings(**values), choose_device(device)
        dataset = load_dataset(settings.dataset)
        size = settings.classes_per_step(dataset.num_classes)
        with progress_bar("continual") as progress:
            result = compare(dataset, settings, choice, progress)
    except NasproxyError as error:
        parser.error(str(error))
    rows = summarize(result["accuracy"], result["seconds"])
    print(
        f"{settings.dataset}, {settings.ipc} images per class, {settings.steps} steps of {size} classes, "
        f"n = {settings.seeds} seeds; {hardware(choice)}\n"
    )
    print(markdown(rows, size), end="\n\n")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "continual.svg").write_text(curves(rows, size))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    record = {
        "benchmark": "continual",
        "hardware": hardware(choice),
        "versions": versions(),
        "commit": commit,
        "settings": asdict(settings),
        "recipe": asdict(settings.recipe(dataset)),
        "fingerprint": dataset.fingerprint,
        "rows": [asdict(row) for row in rows],
    }
    print(json.dumps(record | result))


if __name__ == "__main__":
    main()
