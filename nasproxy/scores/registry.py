"""The table of scores: every cheap number that ranks candidates. Higher ranks better for all of them.

A *trained* score trains the candidate on a few images and measures it on the validation split: its task is a
:class:`~nasproxy.training.tasks.TrainingTask`. The others measure the freshly initialised net once: their task is a
:class:`~nasproxy.scores.measuring.MeasuringTask`.

To add a score without training, write a function in ``zero_cost.py`` and name it in ``ZERO_COST`` there. To add any
other score, write a function that makes its task from a proxy set, its data and a
:class:`~nasproxy.scores.baselines.Making`, and name it in ``SCORES`` here.
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
    """One cheap number that ranks candidates.

    Attributes:
        description: what ``nasproxy list`` prints of it, its cost included.
        make: makes its task from a proxy set and the data that the set was built from.
        total: it costs as much as a whole search, so ``Making.spending`` must be known.
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
        "the same after training on random real images, equally many per class: the baseline to beat",
        random_subset_task,
    ),
    "kmeans_subset": Score(
        "the same after training on equally many real images, nearest to cluster centres of embeddings",
        kmeans_subset_task,
    ),
    "early_stop": Score(
        "the same after equally many updates on the full training data: the baseline at equal training cost",
        early_stop_task,
    ),
    "random_total": Score(
        "random_subset with more images, so that a search costs as much as one with the making of the proxy set",
        partial(random_subset_task, total=True),
        total=True,
    ),
    "kmeans_total": Score("kmeans_subset at equal total cost", partial(kmeans_subset_task, total=True), total=True),
    "early_stop_total": Score("early_stop at equal total cost", partial(early_stop_task, total=True), total=True),
    **{name: _zero_cost(name) for name in ZERO_COST},
}


def score_names(text: str) -> tuple[str, ...]:
    """The names of scores in ``text``, separated by commas; "all" is every score, "none" or an empty text no score.

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
    """Makes the task of a score.

    Args:
        name: a name in ``SCORES``.
        proxy: the proxy set.
        dataset: the data that it was built from.
        recipe: how candidates train, if the score trains them; None: by the proxy set's recipe.
        precision: "float32", or "bfloat16" for the net's products.
        making: everything about how it is made, in place of ``recipe`` and ``precision``.

    Raises:
        NasproxyError: for an unknown name, when the data do not suffice for the score, or for a score at equal total
            cost when the cost is not known.
    """
    if name not in SCORES:
        raise unknown("score", name, SCORES)
    making = making or Making(recipe=recipe, precision=precision)
    if SCORES[name].total and making.spending is None:
        raise NasproxyError(
            f"'{name}' costs as much as a whole search, which is known in its validation alone: name it in --scores."
        )
    return SCORES[name].make(proxy, dataset, making)
