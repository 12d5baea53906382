"""Scores: every cheap number that ranks candidates, and the full accuracy that they are held against.

A *trained* score trains the candidate on a few images and measures it on the validation split; it is described by a
:class:`~nasproxy.evaluations.TrainingTask`. The others look at the freshly initialised net once (zero_cost.py), as a
:class:`~nasproxy.evaluations.MeasuringTask`. Higher ranks better for all of them, so that a correlation's sign means
what it says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from nasproxy.baselines import (
    Making,
    early_stop_task,
    kmeans_subset_task,
    random_subset_task,
    real_images,
)
from nasproxy.condense import recipe_named
from nasproxy.config import (
    CUTOUT_FROM_EPOCHS,
    FULL_RECIPE,
    Recipe,
    SearchConfig,
    ValidateConfig,
    augmentation_for,
    config_hash,
)
from nasproxy.datasets import Dataset, LabeledImages
from nasproxy.errors import NasproxyError, unknown
from nasproxy.evaluations import MeasuringTask, Task, TrainingTask, task_setting
from nasproxy.proxyset import ProxySet, per_class
from nasproxy.randomness import generator
from nasproxy.train import TrainingImages
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


def candidate_recipe(proxy: ProxySet, dataset: Dataset, config: SearchConfig) -> Recipe:
    """How candidates train on ``proxy``: by the recipe it brings, or as ``config`` says."""
    recipe = proxy.recipe if config.recipe is None else recipe_named(config.recipe, dataset)
    return recipe if config.epochs is None else replace(recipe, epochs=config.epochs)


def proxy_task(
    proxy: ProxySet,
    dataset: Dataset,
    recipe: Recipe | None = None,
    *,
    precision: str = "float32",
    score: str = "proxy",
) -> TrainingTask:
    """The score "proxy": train on the proxy set by its recipe (or by ``recipe``), measure on the validation split.

    Of several sets each seed trains on another one, by its own recipe if ``recipe`` is that of the first, for as many
    epochs. Another proxy set beside it is another ``score``.
    """
    recipe = recipe or proxy.recipe
    recipes = [recipe] * proxy.num_sets
    if replace(recipe, epochs=proxy.recipe.epochs) == proxy.recipe:
        recipes = [replace(proxy.recipe_of(number), epochs=recipe.epochs) for number in range(proxy.num_sets)]
    sets = [(TrainingImages(*proxy.training_images(number)), own) for number, own in enumerate(recipes)]
    return TrainingTask(
        score=score,
        label=f"Proxy set ({proxy.method.replace('_', ' ')}, {per_class(proxy.counts)})",
        train=sets[0][0],
        held_out=real_images(dataset, dataset.val),
        recipe=recipe,
        num_classes=dataset.num_classes,
        setting=task_setting(images_of(proxy), recipe, f"val of {dataset.fingerprint}", precision),
        precision=precision,
        made_in=float(proxy.record["seconds"]) / proxy.num_sets,
        sets=tuple(sets) if proxy.num_sets > 1 else (),
    )


def images_of(proxy: ProxySet) -> str:
    """What the images of a training on ``proxy`` are called in its setting."""
    return proxy.content_id if proxy.num_sets == 1 else f"the sets of {proxy.content_id} by seed"


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
    """Full-data training, equal for every candidate; mirrored only where a mirrored image keeps its class.

    Long trainings also cut boxes out of the images.
    """
    augmentation = FULL_RECIPE.augmentation + ("_cutout" if epochs >= CUTOUT_FROM_EPOCHS else "")
    return replace(FULL_RECIPE, epochs=epochs, augmentation=augmentation_for(augmentation, dataset.flip))


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
        watched=split == "val",
    )


@dataclass(frozen=True)
class Score:
    """What ``nasproxy list`` prints of a score, its cost included, and how it is made of a proxy set and its data.

    ``total``: it spends what a whole search costs, which only a validation knows.
    """

    description: str
    make: Callable[[ProxySet, Dataset, Making], Task]
    total: bool = False


def _zero_cost(name: str) -> Score:
    return Score(ZERO_COST[name].description, lambda proxy, dataset, making: zero_cost_task(name, proxy, dataset))


SCORES: dict[str, Score] = {
    "proxy": Score(
        "validation accuracy after training on the proxy set",
        lambda proxy, dataset, making: proxy_task(proxy, dataset, making.recipe, precision=making.precision),
    ),
    "random_subset": Score(
        "the same on random real images, equally many per class: the baseline to beat", random_subset_task
    ),
    "kmeans_subset": Score(
        "the same on real images nearest to cluster centres of embeddings, equally many", kmeans_subset_task
    ),
    "early_stop": Score(
        "the same after equally many updates on the full training data: the rival at equal training cost",
        early_stop_task,
    ),
    "random_total": Score(
        "random_subset with so many more images that a search costs what it costs with making the proxy set",
        partial(random_subset_task, total=True),
        total=True,
    ),
    "kmeans_total": Score(
        "kmeans_subset, equally at equal total cost", partial(kmeans_subset_task, total=True), total=True
    ),
    "early_stop_total": Score(
        "early_stop, equally at equal total cost", partial(early_stop_task, total=True), total=True
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
    name: str,
    proxy: ProxySet,
    dataset: Dataset,
    recipe: Recipe | None = None,
    *,
    precision: str = "float32",
    making: Making | None = None,
) -> Task:
    """The score called ``name``, for candidates trained by ``recipe`` (None: the proxy's own) where it trains them.

    ``making`` says more, in place of ``recipe`` and ``precision``.

    Raises:
        NasproxyError: for an unknown name, when the data do not suffice for the score, or for one at equal total cost
            whose cost is not known.
    """
    if name not in SCORES:
        raise unknown("score", name, SCORES)
    making = making or Making(recipe=recipe, precision=precision)
    if SCORES[name].total and making.spending is None:
        raise NasproxyError(
            f"'{name}' spends what a whole search costs, which only its validation knows: name it in --scores."
        )
    return SCORES[name].make(proxy, dataset, making)
