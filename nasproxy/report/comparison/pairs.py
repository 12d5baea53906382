"""Two runs against each other: the difference of their ρ, paired where both ranked the same candidates by one truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from nasproxy.correlation import Estimate, differences, holm, spearman
from nasproxy.correlation.bootstrap import CONFIDENCE, NUM_RESAMPLES, checked, draws, estimate, p_value, undefined
from nasproxy.report.comparison.runs import Run
from nasproxy.report.data import CandidateRow

ALPHA = 1 - CONFIDENCE
MIN_SHARED = 10  # candidates, for a paired difference
RESAMPLES_PER_PAIR = 100  # so that the least p-value, adjusted for all pairs, is 2 / 100
NOTHING = Estimate(None, None, None, 0)
FROM_A_TABLE = "accuracy from the table"  # how the truth's note begins: no seed changes such an accuracy


@dataclass(frozen=True)
class Pair:
    """ρ of the proxy of run ``first`` minus that of run ``second`` (keys), and its p-value adjusted for all pairs.

    ``paired``: on their ``shared`` candidates; otherwise on all ``n`` of each, resampled apart, because of ``why``.
    ``rhos`` are those of both proxies on these. ``loose``: the unpaired difference, where the shared are less than half
    of either sample. ``averaged``: both trained the truth by one protocol, and its mean is used. ``unlike``: what is
    not like for like, "data set", "space" or "truth".
    """

    first: str
    second: str
    difference: Estimate
    p: float | None
    paired: bool
    shared: int
    n: tuple[int, int]
    rhos: tuple[float | None, float | None]
    why: str = ""
    loose: Estimate | None = None
    averaged: bool = False
    unlike: tuple[str, ...] = ()


def unpaired_difference(
    score_a: np.ndarray,
    truth_a: np.ndarray,
    score_b: np.ndarray,
    truth_b: np.ndarray,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> tuple[Estimate, float | None]:
    """Spearman of ``a`` ``(n,)`` minus that of ``b`` ``(m,)``, each resampled by itself, and the p-value of none.

    For independent samples. Where the two share candidates, their correlations rise and fall together, and the interval
    is wider than need be.

    Raises:
        NasproxyError: for arrays of unequal length or values that are not finite.
    """
    resampled, values, sizes = [], [], []
    for place, (score, truth) in enumerate(((score_a, truth_a), (score_b, truth_b))):
        score, truth = checked(score=score, truth=truth)
        why = undefined(len(truth), score=score, truth=truth)
        if why:
            which = ("first", "second")[place]
            return Estimate(None, None, None, len(truth_a) + len(truth_b), f"in the {which} run {why}"), None
        index = draws(len(truth), num_resamples, seed + place)  # equal seeds would draw equal indices
        resampled.append(spearman(score[index], truth[index]))
        values.append(float(spearman(score, truth)))
        sizes.append(len(truth))
    gaps = resampled[0] - resampled[1]
    found = estimate(values[0] - values[1], gaps, sum(sizes))
    return found, None if found.low is None else p_value(gaps)


def _columns(rows: Sequence[CandidateRow]) -> tuple[np.ndarray, np.ndarray]:
    """What the proxy ranks by, and the truth."""
    return np.array([row.ranking["proxy"] for row in rows]), np.array([row.truth for row in rows], dtype=float)


def _same(first: Run, second: Run, row: str, name: str) -> bool:
    """Whether two runs agree in a row of their records, or in ``name`` where one of them has no such row."""
    a, b = first.setting(row), second.setting(row)
    if a is None or b is None:
        return bool(getattr(first.report, name) == getattr(second.report, name))
    return a == b


def _same_truth(first: Run, second: Run) -> tuple[bool, bool]:
    """Whether both runs have the same truth, and whether its numbers are equal on the candidates they share.

    It is the same when enough of the numbers are equal, or when the same protocol made both on the same data.
    """
    a, b = first.validated, second.validated
    shared = [name for name in a if name in b]
    equal = all(a[name].truth == b[name].truth for name in shared)
    if equal and len(shared) >= MIN_SHARED:
        return True, True
    note = first.report.truth_note
    told_so = note == second.report.truth_note and _same(first, second, "data set", "dataset")
    return told_so and (equal or not note.startswith(FROM_A_TABLE)), equal


def _compared(first: Run, second: Run, num_resamples: int, seed: int) -> Pair:
    """The pair with its p-value, not adjusted."""
    a, b = first.validated, second.validated
    shared = [name for name in a if name in b]
    one_truth, equal = _same_truth(first, second)
    alike = {
        "data set": _same(first, second, "data set", "dataset"),
        "space": _same(first, second, "search space", "space"),
        "truth": one_truth,
    }
    few, sizes = len(shared) < MIN_SHARED, (len(a), len(b))
    every = (*_columns(list(a.values())), *_columns(list(b.values())))
    pair = Pair(
        first=first.key,
        second=second.key,
        difference=NOTHING,
        p=None,
        paired=one_truth and not few,
        shared=len(shared),
        n=sizes,
        rhos=(first.rho.value, second.rho.value),
        unlike=tuple(name for name, same in alike.items() if not same),
    )
    if not pair.paired:
        gap, p = unpaired_difference(*every, num_resamples=num_resamples, seed=seed)
        reasons = [name for name, holds in (("candidates", few), ("truth", not one_truth)) if holds]
        return replace(pair, difference=gap, p=p, why=f"different {' and '.join(reasons)}")
    (x, truth_x), (y, truth_y) = _columns([a[name] for name in shared]), _columns([b[name] for name in shared])
    truth = truth_x if equal else (truth_x + truth_y) / 2
    (found,) = differences(x, {"second": y}, truth, num_resamples=num_resamples, seed=seed)
    loose = None
    if len(shared) < min(sizes) / 2:
        loose = unpaired_difference(*every, num_resamples=num_resamples, seed=seed)[0]
    defined = found.difference.value is not None
    return replace(
        pair,
        difference=found.difference,
        p=None if found.difference.low is None else found.p,
        rhos=(float(spearman(x, truth)), float(spearman(y, truth))) if defined else (None, None),
        loose=loose,
        averaged=not equal,
    )


def all_pairs(runs: Sequence[Run], *, num_resamples: int | None = None, seed: int = 0) -> tuple[Pair, ...]:
    """Every run against every later one; p-values are adjusted together (Holm)."""
    every = list(combinations(runs, 2))
    resamples = num_resamples or max(NUM_RESAMPLES, RESAMPLES_PER_PAIR * len(every))
    raw = [_compared(first, second, resamples, seed) for first, second in every]
    tested = {place: pair.p for place, pair in enumerate(raw) if pair.p is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return tuple(replace(pair, p=adjusted.get(place)) for place, pair in enumerate(raw))


def like_for_like(runs: Sequence[Run], pairs: Sequence[Pair]) -> tuple[tuple[str, ...], ...]:
    """The keys of runs that are like for like with the first of their group; each run is in one group."""
    unlike = {(pair.first, pair.second): pair.unlike for pair in pairs}
    groups: list[list[str]] = []
    for run in runs:
        home = next((group for group in groups if not unlike[group[0], run.key]), None)
        if home is None:
            groups.append([run.key])
        else:
            home.append(run.key)
    return tuple(map(tuple, groups))
