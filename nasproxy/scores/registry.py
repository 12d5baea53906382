"""Scores: every cheap number that ranks candidates, and the full accuracy that they are held against.

A *trained* score trains the candidate on a few images and measures it on the validation split; it is described by a
:class:`~nasproxy.training.tasks.TrainingTask`. The others look at the freshly initialised net once (zero_cost.py), as a
:class:`~nasproxy.scores.measuring.MeasuringTask`. Higher ranks better for all of them, so that a
correlation's sign means what it says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from nasproxy.config import Recipe
from nasproxy.core.errors import NasproxyError, unknown
from nasproxy.data import Dataset
from nasproxy.data.proxy_set import ProxySet
from nasproxy.scores.baselines import Making, early_stop_task, kmeans_subset_task, random_subset_task
from nasproxy.scores.measuring import zero_cost_task
from nasproxy.scores.proxy import proxy_task
from nasproxy.scores.zero_cost import ZERO_COST
from nasproxy.training.tasks import Task


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
