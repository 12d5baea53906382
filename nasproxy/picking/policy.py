"""Which candidate is trained next: first shortly, then fully.

These are pure functions of what is known, so a search that was killed, or that runs on several hosts, decides the same.

1. *Short trainings.* A part is drawn at random, and a part is what the vote and each score in it rank first. The rest
   is chosen in rounds by a model of the short accuracy: where it promises, and where it is unsure.
2. *Full trainings.* Two models of the full accuracy are fitted again after every round: one whose vote the short
   accuracy, measured or predicted, has joined, and one that does not read short trainings. Each counts by how likely it
   makes the full accuracies. Without short trainings the first four are the first by the vote, and every fifth is drawn
   at random.

The random parts are what lets the model see that the free scores mislead: on some spaces the best by size is worse than
a random candidate (docs/picking.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nasproxy.picking.columns import Columns, standardised
from nasproxy.picking.model import SLOPE, Calibrated, fitted

RANDOM_SHARE = 0.2  # of the short trainings
FIRST_SHARE = 0.4  # of the short trainings: the first by the vote and by each score in it
EXPLORE = 0.5  # standard deviations that uncertainty is worth
VOTE_FIRST = 4  # without short trainings: so many are the first by the vote, for a model of fewer knows less than it
RANDOM_EVERY = 5  # without short trainings: the fifth, tenth, … full training is random
CAUTION = 0.35  # what a predicted short accuracy costs against a measured one, in standard deviations of it
TRUSTED = 0.9  # s₀ of the model of full accuracy, whose vote holds short trainings
SHORT_WEIGHT = 2.0  # how often the short accuracy counts among the features


@dataclass(frozen=True)
class Known:
    """What is known of ``n`` candidates.

    Args:
        columns: known before any training.
        short: ``(n,)``, accuracy after a short training, NaN where it is not known.
        full: ``(n,)``, accuracy after full training, NaN where it is not known.
        failed: indices of candidates whose training failed; they are not trained again.
    """

    columns: Columns
    short: np.ndarray
    full: np.ndarray
    failed: frozenset[int] = frozenset()

    @classmethod
    def nothing(cls, columns: Columns) -> Known:
        """Before any training."""
        return cls(columns, np.full(len(columns), np.nan), np.full(len(columns), np.nan))

    @property
    def shortly(self) -> np.ndarray:
        """Indices of the candidates with a short accuracy."""
        return np.flatnonzero(~np.isnan(self.short))

    @property
    def fully(self) -> np.ndarray:
        """Indices of the candidates with a full accuracy."""
        return np.flatnonzero(~np.isnan(self.full))


# ------------------------------------------------------------------------------------------------------ short trainings


def first_short(columns: Columns, num: int, seed: int) -> list[int]:
    """The candidates of the first round, for ``num`` short trainings in all: a random part, then the first by scores.

    The best by the vote and by each of its scores are taken in turns.
    """
    n = len(columns)
    num_random = min(n, max(1, round(RANDOM_SHARE * num))) if num else 0
    chosen = np.random.default_rng(seed).permutation(n)[:num_random].tolist()
    orders = [np.argsort(-one, kind="stable").tolist() for one in (columns.vote, *columns.experts)]
    more = min(n, num_random + round(FIRST_SHARE * num), num) - num_random
    return chosen + _in_turns(orders, more, chosen)


def _in_turns(orders: Sequence[Iterable[int]], num: int, taken: Iterable[int]) -> list[int]:
    """``num`` members, the next new one of each of ``orders`` in turn."""
    seen, chosen = set(taken), list[int]()
    iterators = [iter(order) for order in orders]
    while len(chosen) < num:
        for iterator in iterators:
            new = next((one for one in iterator if one not in seen), None)
            if new is not None and len(chosen) < num:
                seen.add(new)
                chosen.append(new)
    return chosen


def next_short(known: Known, num: int) -> list[int]:
    """The candidates of the next round of short trainings, of which ``num`` are left: half of them.

    Args:
        known: what is known.
        num: short trainings that are left.
    """
    taken = {*known.shortly.tolist(), *known.failed}
    wanted = min(max(1, (num + 1) // 2), len(known.columns) - len(taken))
    if len(known.shortly) < 2:
        order = np.argsort(-known.columns.vote, kind="stable")
    else:
        _, mean, std = _of_short(known)
        scale = mean.std() or 1.0
        value = standardised(mean) + known.columns.vote + EXPLORE * std / scale
        order = np.argsort(-value, kind="stable")
    return [int(one) for one in order if one not in taken][:wanted]


def _of_short(known: Known) -> tuple[Calibrated, np.ndarray, np.ndarray]:
    """The model of the short accuracy, and its mean and standard deviation ``(n,)``."""
    at, columns = known.shortly, known.columns
    model = fitted(columns.vote[at], columns.features[at], known.short[at])
    return model, *model.predict(columns.vote, columns.features)


# ------------------------------------------------------------------------------------------------------- full trainings


@dataclass(frozen=True)
class Opinion:
    """What one model expects of the full accuracy of every candidate.

    Args:
        vote: ``(n,)``, the vote of the free scores, with the short accuracy where it is believed.
        features: ``(n, d)``.
        unsure: ``(n,)``, how unsure a short accuracy is, in standard deviations of all; 0 where it was measured.
        model: None while fewer than two full accuracies are known.
        mean: ``(n,)``; in the unit of the accuracies where there is a model.
        std: ``(n,)``.
    """

    vote: np.ndarray
    features: np.ndarray
    unsure: np.ndarray
    model: Calibrated | None
    mean: np.ndarray
    std: np.ndarray

    @property
    def worth(self) -> np.ndarray:
        """What training each candidate promises: its expectation, more where it is unsure, less where it is a guess."""
        if self.model is None:
            return self.vote - 2 * CAUTION * self.unsure
        return self.mean + EXPLORE * self.std - CAUTION * self.model.scale * self.model.slope * self.unsure


@dataclass(frozen=True)
class Belief:
    """What is expected of the full accuracy of every candidate: a mean over models, by how well each tells the truths.

    Args:
        opinions: of the model that reads the short trainings, if there are any, and of the one that does not.
        weights: of the opinions, their probabilities given the full accuracies; they sum to 1.
    """

    opinions: tuple[Opinion, ...]
    weights: tuple[float, ...]

    @property
    def has_model(self) -> bool:
        """Whether full accuracies taught anything; before, ``mean`` is a vote without a unit."""
        return self.opinions[0].model is not None

    @property
    def trust(self) -> float | None:
        """The probability that the short trainings tell the full accuracy; None without any, or without a model."""
        return self.weights[0] if len(self.opinions) > 1 and self.has_model else None

    @property
    def mean(self) -> np.ndarray:
        """``(n,)``; in the unit of the accuracies where there is a model."""
        return sum((w * one.mean for w, one in self._parts()), np.zeros(1))

    @property
    def std(self) -> np.ndarray:
        """``(n,)``."""
        squares = sum((w * (one.std**2 + one.mean**2) for w, one in self._parts()), np.zeros(1))
        return np.sqrt(np.maximum(squares - self.mean**2, 0.0))

    @property
    def worth(self) -> np.ndarray:
        """``(n,)``, what training each candidate promises."""
        return sum((w * one.worth for w, one in self._parts()), np.zeros(1))

    def _parts(self) -> list[tuple[float, Opinion]]:
        return list(zip(self.weights, self.opinions, strict=True))


def belief(known: Known) -> Belief:
    """What the full accuracies teach, with the short trainings and without them.

    The second model is there because a fixed rule can't know whether short trainings mislead: on NAS-Bench-201 they
    tell the best cells, among ConvNets on digits the free scores tell them better (benchmarks/RESULTS.md).
    """
    without = _opinion(known.columns.vote, known.columns.features, np.zeros(len(known.columns)), known, SLOPE)
    if len(known.shortly) < 2:
        return Belief((without,), (1.0,))
    opinions = _with_short(known), without
    if opinions[0].model is None or opinions[1].model is None:
        return Belief(opinions, (0.5, 0.5))
    ratio = np.clip(opinions[1].model.evidence - opinions[0].model.evidence, -50, 50)
    trust = float(1 / (1 + np.exp(ratio)))
    return Belief(opinions, (trust, 1 - trust))


def _with_short(known: Known) -> Opinion:
    """The opinion whose vote the short accuracy, measured or predicted, has joined."""
    columns, at = known.columns, known.shortly
    short_model, mean, std = _of_short(known)
    scale = float(mean.std()) or 1.0
    short, unsure = mean.copy(), std / scale
    short[at], unsure[at] = known.short[at], 0.0
    short = (short - mean.mean()) / scale
    # Where the free scores do not even tell the short accuracy, they are no vote on the full one.
    weight = float(np.clip(short_model.learned_slope() / short_model.slope, 0, 1))
    features = np.column_stack([columns.features, SHORT_WEIGHT * short / math.sqrt(_num_features(columns))])
    return _opinion(standardised(short + weight * columns.vote), features, unsure, known, TRUSTED)


def _opinion(vote: np.ndarray, features: np.ndarray, unsure: np.ndarray, known: Known, slope: float) -> Opinion:
    """The model of the full accuracies by these columns; without two of them the vote alone."""
    fully = known.fully
    if len(fully) < 2:
        return Opinion(vote, features, unsure, None, vote, np.ones(len(vote)))
    model = fitted(vote[fully], features[fully], known.full[fully], slope=slope)
    return Opinion(vote, features, unsure, model, *model.predict(vote, features))


def _num_features(columns: Columns) -> int:
    return max(1, columns.features.shape[1])


def next_full(known: Known, num: int, seed: int) -> list[int]:
    """The next ``num`` candidates to train fully, best first.

    Within a round, the model takes its own expectation for the result of those that were chosen before.

    Args:
        known: what is known.
        num: how many, less where the candidates end.
        seed: of the random ones.
    """
    chosen: list[int] = []
    while len(chosen) < num:
        taken = {*known.fully.tolist(), *known.failed, *chosen}
        left = np.array([one for one in range(len(known.columns)) if one not in taken], dtype=int)
        if not len(left):
            break
        place = len(known.fully) + len(known.failed) + 1
        now = None
        if not len(known.shortly) and place <= VOTE_FIRST:
            one = int(left[np.argmax(known.columns.vote[left])])
        elif not len(known.shortly) and place % RANDOM_EVERY == 0:
            one = int(np.random.default_rng([seed, place]).choice(left))
        else:
            now = belief(known)
            # Without truths to judge them by, the opinions take turns.
            worth = now.worth if now.has_model else now.opinions[(place - 1) % len(now.opinions)].worth
            one = int(left[np.argmax(worth[left])])
        chosen.append(one)
        if len(chosen) < num:
            full = known.full.copy()
            full[one] = _expected(known, now or belief(known), one)
            known = replace(known, full=full)
    return chosen


def _expected(known: Known, now: Belief, one: int) -> float:
    """What is expected of candidate ``one``; without a model the mean of what is known."""
    if now.has_model:
        return float(now.mean[one])
    fully = known.fully
    return float(known.full[fully].mean()) if len(fully) else 0.0
