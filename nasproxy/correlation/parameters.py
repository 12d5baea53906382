"""What the parameters of a space say of a ranking, and where a score misjudges them: arrays in, estimates out.

References: [K] Kelley, "An unbiased correlation ratio measure", PNAS 1935.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nasproxy.correlation.bootstrap import NUM_RESAMPLES, Estimate, checked, draws, estimate, undefined
from nasproxy.correlation.ranks import ranks

MAX_VALUES = 6  # of a number that are told apart; more are put into bands
NUM_BANDS = 3


@dataclass(frozen=True)
class Effect:
    """How much of a ranking one ``parameter`` explains: ``share`` of the variance of ranks between its values."""

    parameter: str
    share: Estimate


@dataclass(frozen=True)
class Bias:
    """How a score misjudges the candidates with ``value`` of ``parameter``.

    ``mean``: of their :func:`rank_residuals`; above 0 the score ranks them too well.
    """

    parameter: str
    value: str
    mean: Estimate


def grouped(values: Sequence[str | int | float | bool | None]) -> list[str]:
    """A parameter's values as text, by candidate: numbers with many values in bands of about equally many.

    None, a parameter that is not active, is "–".
    """
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    known = sum(value is not None for value in values)
    if len(numbers) < known or len(set(numbers)) <= MAX_VALUES:
        return ["–" if value is None else str(value) for value in values]
    edges = np.quantile(sorted(set(numbers)), np.linspace(0, 1, NUM_BANDS + 1))
    bands = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
    names = {}
    for band in sorted(set(bands.tolist())):
        members = [number for number, own in zip(numbers, bands, strict=True) if own == band]
        names[band] = f"{min(members):.4g} to {max(members):.4g}"
    own_bands = iter(bands.tolist())
    return ["–" if value is None else names[next(own_bands)] for value in values]


def rank_residuals(score: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(Rank by ``score`` − rank by ``truth``) / (n − 1), ``(n,)``: 1 for the truly worst that the score has first."""
    return np.asarray((ranks(np.asarray(score)) - ranks(np.asarray(truth))) / max(1, len(truth) - 1))


def effects(
    values: np.ndarray,
    strata: Mapping[str, Sequence[str]],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> tuple[Effect, ...]:
    """For each parameter, how much of the variance of the ranks of ``values`` ``(n,)`` lies between its values.

    Kelley's ε² [K] = (SS_between − (g − 1) MS_within) / SS_total, which is 0 on average for a parameter that says
    nothing, whatever its number of values g; it can come out below 0.

    Args:
        strata: for each parameter its value by candidate, as text.
    """
    (values,) = checked(values=values)
    n = len(values)
    found = []
    for name, labels in strata.items():
        codes = np.unique(np.array(list(labels)), return_inverse=True)[1].reshape(-1)
        num = int(codes.max(initial=-1)) + 1
        why = undefined(n, values=values)
        if why is None and num < 2:
            why = "all candidates have the same value"
        if why is None and n < 2 * num:
            why = f"{num} values are too many for {n} candidates"
        if why is not None:
            found.append(Effect(name, Estimate(None, None, None, n, why)))
            continue
        index = draws(n, num_resamples, seed)
        resampled = _epsilon_squared(ranks(values[index]), codes[index], num)
        value = _epsilon_squared(ranks(values)[None], codes[None], num)
        found.append(Effect(name, estimate(float(value[0]), resampled, n)))
    return tuple(found)


def _epsilon_squared(ranked: np.ndarray, codes: np.ndarray, num: int) -> np.ndarray:
    """ε² of every row of ``ranked`` and ``codes`` ``(B, n)``; NaN where it is undefined."""
    n = ranked.shape[-1]
    total = ((ranked - ranked.mean(-1, keepdims=True)) ** 2).sum(-1)
    between, groups = np.zeros(len(ranked)), np.zeros(len(ranked))
    mean = ranked.mean(-1)
    for code in range(num):
        own = codes == code
        size = own.sum(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            gap = np.where(size > 0, (ranked * own).sum(-1) / size - mean, 0.0)
        between += size * gap**2
        groups += size > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        within = (total - between) / (n - groups)
        return np.where((total > 0) & (groups < n), (between - (groups - 1) * within) / total, np.nan)


def biases(
    score: np.ndarray,
    truth: np.ndarray,
    strata: Mapping[str, Sequence[str]],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> tuple[Bias, ...]:
    """The mean residual of the candidates with each value of each parameter that at least four of them have.

    Ranks are those among all candidates; resamples are drawn from those with the value.
    """
    score, truth = checked(score=score, truth=truth)
    if undefined(len(truth), score=score, truth=truth):
        return ()
    residuals = rank_residuals(score, truth)
    found = []
    for name, labels in strata.items():
        texts = np.array(list(labels))
        distinct = list(dict.fromkeys(labels))
        if not 1 < len(distinct) <= max(2, len(truth) // 2):
            continue
        for value in sorted(distinct, key=_natural):
            own = residuals[texts == value]
            n = len(own)
            if n < MIN_MEMBERS:
                some = Estimate(None, None, None, n, f"fewer than {MIN_MEMBERS} candidates")
            else:
                some = estimate(float(own.mean()), own[draws(n, num_resamples, seed)].mean(-1), n)
            found.append(Bias(name, value, some))
    return tuple(found)


MIN_MEMBERS = 4


def _natural(text: str) -> tuple[int, float, str]:
    """Numbers by size, before words."""
    try:
        return 0, float(text.split(" to ")[0]), text
    except ValueError:
        return 1, 0.0, text
