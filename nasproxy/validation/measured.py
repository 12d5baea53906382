"""What a validation is about, which candidates it measures, and what was measured of each."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nasproxy.condense.contract import FIRST_ORDER
from nasproxy.config import ValidateConfig
from nasproxy.correlation import Estimate, reliability
from nasproxy.data import Dataset
from nasproxy.data.proxy_set import ProxySet
from nasproxy.search.loop import SearchResult
from nasproxy.spaces import Candidate, sample_of_functions
from nasproxy.training.results import MeanScore
from nasproxy.training.session import Session
from nasproxy.training.tasks import TrainingTask
from nasproxy.validation.truth_table import Truth

COUNTED = ("params", "flops")  # known from the inspection of the space
TRUTHS = ("full", "long")  # what scores are compared with


@dataclass(frozen=True)
class Validation:
    """What a validation is about, as :func:`~nasproxy.validation.validate.validate` is called with it."""

    search: SearchResult
    proxy: ProxySet
    dataset: Dataset
    config: ValidateConfig
    session: Session
    truth: Truth | None


@dataclass(frozen=True)
class ValidatedCandidate:
    """One candidate of a validation.

    Args:
        group: "sample", drawn uniformly from the space, or "top", among the search's best.
        scores: by name of the score; "full" is the truth, "long" the longer training that checks it.
        by_seed: the values of each score by seed, empty where a seed has none.
    """

    candidate: Candidate
    group: str
    scores: dict[str, MeanScore] = field(default_factory=dict)
    by_seed: dict[str, tuple[float, ...]] = field(default_factory=dict)


def choose_candidates(validation: Validation) -> list[ValidatedCandidate]:
    """A uniform sample of the space, and the best candidates of the search; with a truth table, those that it has.

    Of drawn candidates that compute one function the first alone is in the sample: copies would count twice.
    """
    search, config, truth = validation.search, validation.config, validation.truth

    def known(candidate: Candidate) -> bool:
        return truth is None or candidate.id in truth.accuracy

    sample = sample_of_functions(search.inspection, config.sample, config.seed, known)
    top = [row.candidate for row in search.ranking if known(row.candidate)][: config.top]
    return [
        *(ValidatedCandidate(candidate, "sample") for candidate in sample),
        *(ValidatedCandidate(candidate, "top") for candidate in top),
    ]


def one_training(task: TrainingTask, flops: float) -> float:
    """FLOPs of training and measuring one net once, whose forward pass of an image takes ``flops``."""
    seen = task.recipe.epochs * len(task.train.images)
    return float(flops * (FIRST_ORDER * seen + len(task.held_out.images)))


def truths_of(complete: list[ValidatedCandidate]) -> np.ndarray:
    """Full accuracy of every candidate, ``(n,)``."""
    return np.array([one.scores["full"].value for one in complete], dtype=float)


def reliability_of(complete: list[ValidatedCandidate], name: str, seed: int) -> Estimate:
    """The rank correlation between the mean over seeds of a score, or of the truth, and another such mean."""
    rows = [one.by_seed.get(name, ()) for one in complete]
    num_seeds = min(map(len, rows), default=0)
    if num_seeds < 2:
        return Estimate(None, None, None, len(rows), "it takes at least two seeds")
    return reliability(np.array([row[:num_seeds] for row in rows]), seed=seed)
