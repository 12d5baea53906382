"""Settings of search, validation, evaluation and comparison."""

from __future__ import annotations

from dataclasses import dataclass

from nasproxy.config.common import at_least
from nasproxy.config.recipes import FULL_RECIPE, RECIPES
from nasproxy.core.errors import unknown

# Of a candidate's training. On small sets, in bfloat16 scores agree with those in float32 better than two seeds of
# float32 do (benchmarks/LOG.md).
TRAINING_PRECISIONS = ("float32", "bfloat16")

SAMPLERS = ("tpe", "random", "nsga2", "gp", "brute-force")
PRUNERS = ("halving", "median")


@dataclass(frozen=True)
class SearchConfig:
    """Settings of ``search``: ``trials`` distinct candidates in total, each trained with ``seeds`` seeds on the proxy.

    ``recipe`` of None is the one that the set brings, ``epochs`` of None the recipe's own number. ``pending``
    candidates may be at work at once, whatever the number of workers: proposals depend on it; None: set when the study
    begins, see :func:`~nasproxy.search.study.default_pending`.

    ``score`` is what is maximised, a name or a sum such as "0.7*proxy+0.3*naswot"; ``against`` names what is minimised
    beside it, ``rungs`` what a candidate climbs before, cheapest first ("naswot,epochs=10,epochs=30", or "ipc=1"), both
    separated by commas. ``pruner`` lets the best ``1 / reduction`` of a rung go on, see :mod:`nasproxy.search.pruning`.
    """

    trials: int = 100
    sampler: str = "tpe"
    seeds: int = 1
    recipe: str | None = None
    epochs: int | None = None
    seed: int = 0
    pending: int | None = None
    precision: str = "float32"
    score: str = "proxy"
    against: str = ""
    rungs: str = ""
    pruner: str = "halving"
    reduction: int = 3

    def __post_init__(self) -> None:
        at_least(2, reduction=self.reduction)
        if self.pruner not in PRUNERS:
            raise unknown("pruner", self.pruner, PRUNERS)
        if self.precision not in TRAINING_PRECISIONS:
            raise unknown("precision", self.precision, TRAINING_PRECISIONS)
        at_least(1, trials=self.trials, seeds=self.seeds, epochs=self.epochs, pending=self.pending)
        at_least(0, seed=self.seed)
        if self.sampler not in SAMPLERS:
            raise unknown("sampler", self.sampler, SAMPLERS)
        if self.recipe is not None and self.recipe not in RECIPES:
            raise unknown("recipe", self.recipe, RECIPES)


@dataclass(frozen=True)
class ValidateConfig:
    """Settings of ``validate``: full-data training of a uniform ``sample`` of the space and of the search's ``top``.

    ``images`` limits the training images (None: all of them); ``precision`` is that of products in full training; ``k``
    is the k of recall@k. ``scores``, separated by
    commas, or "all" or "none", are held against the full accuracy beside the proxy, the random subset, parameters and
    FLOPs.
    """

    sample: int = 20
    top: int = 5
    epochs: int = FULL_RECIPE.epochs
    images: int | None = None
    seeds: int = 1
    k: int = 5
    seed: int = 0
    scores: str = "all"
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.precision not in TRAINING_PRECISIONS:
            raise unknown("precision", self.precision, TRAINING_PRECISIONS)
        at_least(1, epochs=self.epochs, images=self.images, seeds=self.seeds, k=self.k)
        at_least(0, sample=self.sample, top=self.top, seed=self.seed)


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of ``evaluate``: fresh ``nets`` of every kind on each set; 20 as in [DC]."""

    nets: int = 20
    seed: int = 0


COMPARED = ("random", "kmeans", "herding", "gradient_matching", "dsa", "distribution_matching")


@dataclass(frozen=True)
class CompareConfig:
    """Settings of ``compare``: fresh ``nets`` on each of ``num_sets`` sets by every method; three give an interval."""

    num_sets: int = 3
    nets: int = 5
