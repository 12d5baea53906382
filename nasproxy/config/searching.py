"""Settings of search, validation, evaluation and comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nasproxy.config.common import at_least
from nasproxy.config.recipes import FULL_RECIPE, RECIPES
from nasproxy.core.errors import NasproxyError, unknown

# Of a candidate's training. On small sets, in bfloat16 scores agree with those in float32 better than two seeds of
# float32 do (benchmarks/LOG.md).
TRAINING_PRECISIONS = ("float32", "bfloat16")

# A training on all images for so many epochs is as long as those of published benchmarks, and it is not checked by a
# longer one (NAS-Bench-101: 108 epochs; NAS-Bench-201: 200).
FULL_LENGTH = 100
LONGEST = 200  # epochs of a check, unless they are given
LONGER_TIMES = 4  # a check trains so many times as long

SAMPLERS = ("tpe", "random", "nsga2", "gp", "brute-force")
PRUNERS = ("halving", "median")


@dataclass(frozen=True)
class SearchConfig:
    """Settings of ``search``.

    Args:
        trials: distinct candidates in total.
        sampler: what proposes candidates, one of ``SAMPLERS``.
        seeds: trainings of each candidate, each with another seed.
        recipe: how candidates are trained, a name in ``RECIPES``; None: the recipe of the proxy set.
        epochs: of that training; None: those of the recipe.
        seed: every random number of the search follows from it.
        pending: candidates that are evaluated concurrently, whatever the number of workers. What is proposed depends on
            it. None: it is set when the study begins, see :func:`~nasproxy.search.study.default_pending`.
        precision: of the products in a candidate's training.
        score: what is maximised: a name or a sum such as "0.7*proxy+0.3*naswot".
        against: names of scores that are minimised at the same time, separated by commas.
        rungs: scores of lower fidelity that are measured first, cheapest first, separated by commas:
            "naswot,epochs=10,epochs=30", or "ipc=1".
        pruner: what ends trials at a rung, one of ``PRUNERS``; see :mod:`nasproxy.search.pruning`.
        reduction: successive halving promotes the best ``1 / reduction`` of a rung.

    Raises:
        NasproxyError: for a value that is out of range or an unknown name.
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
    """Settings of ``validate``: full training of a sample of the space, and of the search's best candidates.

    Args:
        sample: candidates that are drawn uniformly from the space; all correlations are over these.
        top: the search's best candidates, which are trained as well and shown apart.
        epochs: of full training.
        images: training images of full training; None: all of them.
        seeds: full trainings of each candidate, each with another seed.
        k: of recall@k.
        seed: the sample follows from it.
        scores: names separated by commas, "all" or "none": scores that are compared with the full accuracy, besides the
            proxy, the random subset, parameters and FLOPs.
        precision: of the products in full training.
        long_sample: candidates of the sample that are trained longer as well, which shows whether full training is long
            enough to rank; 0: none.
        long_epochs: of that longer training; None: ``LONGER_TIMES`` as many as ``epochs``, and at most ``LONGEST``.

    Raises:
        NasproxyError: for a value that is out of range or an unknown name.
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
    long_sample: int = 8
    long_epochs: int | None = None

    def __post_init__(self) -> None:
        if self.precision not in TRAINING_PRECISIONS:
            raise unknown("precision", self.precision, TRAINING_PRECISIONS)
        at_least(1, epochs=self.epochs, images=self.images, seeds=self.seeds, k=self.k)
        at_least(0, sample=self.sample, top=self.top, seed=self.seed, long_sample=self.long_sample)
        if self.long_sample and self.long_epochs is not None and self.long_epochs <= self.epochs:
            raise NasproxyError(
                f"`long_epochs > epochs` must hold, because a longer training checks full training, but got "
                f"long_epochs={self.long_epochs} and epochs={self.epochs}: give more, or long_sample=0 for no check."
            )

    @classmethod
    def continued(cls, known: Mapping[str, Any], given: Mapping[str, Any]) -> ValidateConfig:
        """The settings ``known`` of an earlier validation, with those ``given`` now.

        A longer training that full training has caught up with is chosen anew, unless it is given.

        Raises:
            NasproxyError: as for the settings themselves.
        """
        values = dict(known) | dict(given)
        long_epochs = values.get("long_epochs")
        if "long_epochs" not in given and long_epochs is not None and long_epochs <= values.get("epochs", cls.epochs):
            values["long_epochs"] = None
        return cls(**values)

    @classmethod
    def check(cls, given: Mapping[str, Any]) -> str:
        """Refuses settings that are wrong whatever the others are, before anything is loaded.

        Returns:
            The names of the scores.

        Raises:
            NasproxyError: as for the settings themselves.
        """
        return cls(**{name: value for name, value in given.items() if name != "long_epochs"}).scores

    def epochs_of_check(self) -> int:
        """Epochs of the longer training."""
        return self.long_epochs or max(self.epochs + 1, min(LONGER_TIMES * self.epochs, LONGEST))

    def is_full_length(self, num_train: int) -> bool:
        """Whether full training is as long as published benchmarks train; the data have ``num_train`` images."""
        return self.epochs >= FULL_LENGTH and (self.images is None or self.images >= num_train)

    def num_checked(self, num_train: int) -> int:
        """How many candidates are trained longer as well: none where full training has full length."""
        asked = self.long_epochs is not None
        return 0 if self.is_full_length(num_train) and not asked else min(self.long_sample, self.sample)


@dataclass(frozen=True)
class ComputeConfig:
    """Settings of a search that spends a stated compute.

    Args:
        compute: what is spent, in full trainings; None: what ``hours`` buy.
        hours: what is spent, in hours on this device; None: what ``compute`` takes.
        epochs: of full training; None: as many as fit.
        images: training images of full training; None: all of them, or as many as fit where ``epochs`` is None.
        seed: every random number of the search follows from it.
        precision: of the products in full training.

    Raises:
        NasproxyError: unless exactly one of ``compute`` and ``hours`` is given, and for a value that is out of range.
    """

    compute: float | None = None
    hours: float | None = None
    epochs: int | None = None
    images: int | None = None
    seed: int = 0
    precision: str = "float32"

    def __post_init__(self) -> None:
        if (self.compute is None) == (self.hours is None):
            raise NasproxyError(
                f"Exactly one of --compute and --hours must be given, but got compute={self.compute} and "
                f"hours={self.hours}: --compute counts full trainings, --hours time on this device."
            )
        if self.precision not in TRAINING_PRECISIONS:
            raise unknown("precision", self.precision, TRAINING_PRECISIONS)
        at_least(1, compute=self.compute, epochs=self.epochs, images=self.images)
        at_least(0, seed=self.seed)
        if self.hours is not None and not self.hours > 0:
            raise NasproxyError(f"`hours > 0` must hold, but got hours={self.hours:g}.")


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of ``evaluate``: on each set, ``nets`` fresh nets of every kind are trained; 20 as in [DC]."""

    nets: int = 20
    seed: int = 0


COMPARED = ("random", "kmeans", "herding", "gradient_matching", "dsa", "distribution_matching")


@dataclass(frozen=True)
class CompareConfig:
    """Settings of ``compare``: ``num_sets`` sets by each method (three give an interval), ``nets`` nets on each set."""

    num_sets: int = 3
    nets: int = 5
