"""Scores: every cheap number that ranks candidates, and the full accuracy that they are held against.

A *trained* score trains the candidate on a few images and measures it on the validation split; it is described by a
:class:`~nasproxy.evaluations.TrainingTask`. The others look at the freshly initialised net once (zero_cost.py), as a
:class:`~nasproxy.evaluations.MeasuringTask`. Higher ranks better for all of them, so that a correlation's sign means
what it says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from nasproxy.condense.random_images import draw_per_class
from nasproxy.config import FULL_RECIPE, Recipe, ValidateConfig, augmentation_for, config_hash
from nasproxy.datasets import Dataset, LabeledImages, normalize
from nasproxy.errors import NasproxyError, unknown
from nasproxy.evaluations import MeasuringTask, Task, TrainingTask, task_setting
from nasproxy.proxyset import ProxySet
from nasproxy.randomness import derive_seed, generator
from nasproxy.train import TrainingImages, num_updates
from nasproxy.zero_cost import MINIBATCH, ZERO_COST


def check_fit(proxy: ProxySet, dataset: Dataset) -> None:
    """Raises NasproxyError unless ``proxy`` was built from this very data set."""
    built_from = proxy.provenance["dataset"]
    if proxy.input_shape != dataset.input_shape:
        raise NasproxyError(
            f"The proxy set and the data set must have images of one shape, but the proxy has {proxy.input_shape} and "
            f"'{dataset.name}' has {dataset.input_shape} (channels, height, width): build a proxy of these data."
        )
    if proxy.class_names != dataset.class_names:
        raise NasproxyError(
            f"The proxy set and the data set must have the same classes, but the proxy (of '{built_from['name']}') has "
            f"{proxy.num_classes} and '{dataset.name}' has {dataset.num_classes} or other names: "
            "build a proxy of these data."
        )
    if built_from["fingerprint"] != dataset.fingerprint:
        raise NasproxyError(
            f"The proxy set must come from the data it is used with, but it was built from '{built_from['name']}' with "
            f"fingerprint {built_from['fingerprint'][:12]}… and '{dataset.name}' has {dataset.fingerprint[:12]}…: "
            "rebuild it, or name the original data with --dataset."
        )


def real_images(dataset: Dataset, data: LabeledImages) -> TrainingImages:
    """A split of ``dataset`` to train or measure on: uint8, normalised batch by batch."""
    return TrainingImages(data.images, data.labels, partial(normalize, mean=dataset.mean, std=dataset.std))


def proxy_task(
    proxy: ProxySet, dataset: Dataset, recipe: Recipe | None = None, *, precision: str = "float32"
) -> TrainingTask:
    """The score "proxy": train on the proxy set by its recipe (or by ``recipe``), measure on the validation split."""
    recipe = recipe or proxy.recipe
    return TrainingTask(
        score="proxy",
        label=f"Proxy set ({proxy.method.replace('_', ' ')}, {proxy.ipc} per class)",
        train=TrainingImages(*proxy.training_images(0)),
        held_out=real_images(dataset, dataset.val),
        recipe=recipe,
        num_classes=dataset.num_classes,
        setting=task_setting(proxy.content_id, recipe, f"val of {dataset.fingerprint}", precision),
        precision=precision,
    )


def random_subset_task(
    proxy: ProxySet, dataset: Dataset, recipe: Recipe | None = None, *, precision: str = "float32"
) -> TrainingTask:
    """The score "random_subset": as many random training images per class as the proxy has, same recipe.

    The draw differs from that of a ``random`` proxy with the same seed.

    Raises:
        NasproxyError: when a class has fewer images than the proxy.
    """
    recipe = recipe or proxy.recipe
    seed = derive_seed(int(proxy.provenance["config"]["seed"]), "random-subset baseline")
    drawn = draw_per_class(dataset.train, dataset.num_classes, proxy.ipc, seed)
    return TrainingTask(
        score="random_subset",
        label=f"Random real images ({proxy.ipc} per class)",
        train=TrainingImages(dataset.normalize(drawn.images), drawn.labels),
        held_out=real_images(dataset, dataset.val),
        recipe=recipe,
        num_classes=dataset.num_classes,
        setting=task_setting(
            f"random {proxy.ipc} {seed} of {dataset.fingerprint}", recipe, f"val of {dataset.fingerprint}", precision
        ),
        precision=precision,
    )


def early_stop_task(
    proxy: ProxySet, dataset: Dataset, recipe: Recipe | None = None, *, precision: str = "float32"
) -> TrainingTask:
    """The score "early_stop": as many updates of as many images as on the proxy, but on fresh training images.

    The training cost is the proxy's, and so are recipe and batch; images repeat only when there are too few.
    """
    recipe = recipe or proxy.recipe
    num_proxy = len(proxy.training_images(0)[0])
    batch = min(recipe.batch_size, num_proxy)
    wanted = num_updates(recipe, num_proxy) * batch
    epochs = math.ceil(wanted / len(dataset.train))
    seed = int(proxy.provenance["config"]["seed"])
    index = torch.randperm(len(dataset.train), generator=generator(seed, "early-stop"))[: math.ceil(wanted / epochs)]
    recipe = replace(recipe, batch_size=batch, epochs=epochs, shuffle=True)
    return TrainingTask(
        score="early_stop",
        label=f"Full data, stopped after {num_updates(recipe, len(index)):,} updates",
        train=real_images(dataset, LabeledImages(dataset.train.images[index], dataset.train.labels[index])),
        held_out=real_images(dataset, dataset.val),
        recipe=recipe,
        num_classes=dataset.num_classes,
        setting=task_setting(
            f"first {len(index)} by {seed} of {dataset.fingerprint}", recipe, f"val of {dataset.fingerprint}", precision
        ),
        precision=precision,
    )


def zero_cost_task(score: str, proxy: ProxySet, dataset: Dataset) -> MeasuringTask:
    """A score of ``ZERO_COST`` on ``MINIBATCH`` training images, the same for every candidate."""
    seed = int(proxy.provenance["config"]["seed"])
    index = torch.randperm(len(dataset.train), generator=generator(seed, "minibatch"))[:MINIBATCH]
    minibatch = LabeledImages(dataset.train.images[index], dataset.train.labels[index])
    return MeasuringTask(
        score=score,
        label=ZERO_COST[score].label,
        train=real_images(dataset, minibatch),
        num_classes=dataset.num_classes,
        setting=config_hash("minibatch", len(index), seed, dataset.fingerprint)[:16],
        alone=score == "latency",
    )


def full_recipe(dataset: Dataset, epochs: int) -> Recipe:
    """Full-data training, equal for every candidate; mirrored only where a mirrored image keeps its class."""
    return replace(FULL_RECIPE, epochs=epochs, augmentation=augmentation_for(FULL_RECIPE.augmentation, dataset.flip))


def full_task(dataset: Dataset, config: ValidateConfig, *, split: str = "val") -> TrainingTask:
    """The truth: training on ``config.images`` training images (None: all), measured on ``split``, "val" or "test".

    Fewer images than all are a fixed random draw, the same for every candidate.
    """
    train = dataset.train
    description = "all"
    if config.images is not None and config.images < len(train):
        index = (
            torch.randperm(len(train), generator=generator(config.seed, "full-images"))[: config.images].sort().values
        )
        train = LabeledImages(train.images[index], train.labels[index])
        description = f"{config.images} drawn by {config.seed}"
    recipe = full_recipe(dataset, config.epochs)
    held_out = {"val": dataset.val, "test": dataset.test}[split]
    return TrainingTask(
        score="full" if split == "val" else "test",
        label="Full training",
        train=real_images(dataset, train),
        held_out=real_images(dataset, held_out),
        recipe=recipe,
        num_classes=dataset.num_classes,
        setting=task_setting(
            f"{description} of {dataset.fingerprint}", recipe, f"{split} of {dataset.fingerprint}", config.precision
        ),
        precision=config.precision,
    )


@dataclass(frozen=True)
class Score:
    """What ``nasproxy list`` prints of a score, its cost included, and how it is made of a proxy set and its data."""

    description: str
    make: Callable[[ProxySet, Dataset, Recipe | None, str], Task]


def _zero_cost(name: str) -> Score:
    return Score(
        ZERO_COST[name].description, lambda proxy, dataset, recipe, precision: zero_cost_task(name, proxy, dataset)
    )


SCORES: dict[str, Score] = {
    "proxy": Score(
        "validation accuracy after training on the proxy set",
        lambda proxy, dataset, recipe, precision: proxy_task(proxy, dataset, recipe, precision=precision),
    ),
    "random_subset": Score(
        "the same on random real images, equally many per class: the baseline to beat",
        lambda proxy, dataset, recipe, precision: random_subset_task(proxy, dataset, recipe, precision=precision),
    ),
    "early_stop": Score(
        "the same after equally many updates on the full training data: the rival at equal cost",
        lambda proxy, dataset, recipe, precision: early_stop_task(proxy, dataset, recipe, precision=precision),
    ),
    **{name: _zero_cost(name) for name in ZERO_COST},
}


def score_names(text: str) -> tuple[str, ...]:
    """Names of scores separated by commas; "all" is every one, "none" or empty text none.

    Raises:
        NasproxyError: for an unknown name.
    """
    if text in ("all", "none"):
        return tuple(SCORES) if text == "all" else ()
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in SCORES:
            raise unknown("score", name, SCORES)
    return tuple(dict.fromkeys(names))


def make_task(
    name: str, proxy: ProxySet, dataset: Dataset, recipe: Recipe | None = None, *, precision: str = "float32"
) -> Task:
    """The score called ``name``, for candidates trained by ``recipe`` (None: the proxy's own) where it trains them.

    Raises:
        NasproxyError: for an unknown name, or when the data do not suffice for the score.
    """
    if name not in SCORES:
        raise unknown("score", name, SCORES)
    return SCORES[name].make(proxy, dataset, recipe, precision)
