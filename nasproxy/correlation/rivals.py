"""What the space's own parameters know: predictions of the truth from the parameters alone, as rivals of a score.

The same truths are used, but never those of the candidates that are compared: every *pair* of candidates is ordered by
a fit to all others (leave-pair-out), in which the penalty or the parameters are chosen too. A candidate's prediction is
the number of pairs that it wins, as in a tournament.

Why not leave-one-out: the mean of all others is low exactly when a candidate itself is high. So a model that says
nothing would have ρ = −1, and within every group of equal parameters the order would be reversed. The fit of a pair is
the same for both, so this cancels: for a truth that is noise the covariance with the predictions is 0 in expectation
[A, T]. The tests simulate it.

References: [A] Airola, Pahikkala, Waegeman, De Baets, Salakoski, "An experimental comparison of cross-validation
techniques for estimating the area under the ROC curve", Computational Statistics & Data Analysis 2011 · [T] Montoya
Perez, Airola, Boström, Jambor, Pahikkala, "Tournament leave-pair-out cross-validation for receiver operating
characteristic analysis", Statistical Methods in Medical Research 2019 · [G] Golub, Heath, Wahba, "Generalized
cross-validation as a method for choosing a good ridge parameter", Technometrics 1979.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from nasproxy.core.errors import NasproxyError
from nasproxy.correlation.agreement import paired_difference, rank_correlation
from nasproxy.correlation.bootstrap import NUM_RESAMPLES, Estimate, checked, undefined
from nasproxy.correlation.ranks import ranks

MIN_RIVAL = 8  # candidates; a fit to fewer than six others is a guess
MAX_PAIRS = 1_000_000  # beyond this every candidate meets as many others, drawn at random
CHUNK = 100_000  # pairs at once
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
SHRINK = 1.0  # a group's mean counts the mean of all as one more member, an empty group has it alone


@dataclass(frozen=True)
class Rival:
    """A prediction of the truth by parameters alone.

    ``predictions``: ``(n,)``, the mean place among the n candidates that it gives each, from 1 to n; n is the best.
    Empty where there is none; ``undefined`` then says why. ``parameters``: what a fit to all candidates takes, the one
    that tells most first.
    """

    name: str
    label: str
    predictions: tuple[float, ...]
    parameters: tuple[str, ...]
    undefined: str | None = None


@dataclass(frozen=True)
class AgainstRival:
    """ρ of the score named ``score`` minus that of the rival named ``rival`` on the same candidates.

    ``beats``: the interval of the difference lies above 0; None where there is none.
    """

    score: str
    rival: str
    rho: Estimate
    difference: Estimate

    @property
    def beats(self) -> bool | None:
        return None if self.difference.low is None else self.difference.low > 0


def rivals_of(strata: Mapping[str, Sequence[str]], truth: np.ndarray) -> tuple[Rival, Rival, Rival]:
    """:func:`main_effects`, :func:`best_parameter` and :func:`best_rule_of_two`.

    Args:
        strata: for each parameter its value by candidate, as text.
        truth: ``(n,)``, higher is better.

    Raises:
        NasproxyError: for values of another number than n, or a truth that is not finite.
    """
    return main_effects(strata, truth), best_parameter(strata, truth), best_rule_of_two(strata, truth)


def against_rivals(
    scores: Mapping[str, np.ndarray],
    found: Sequence[Rival],
    truth: np.ndarray,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> tuple[AgainstRival, ...]:
    """Every score ``(n,)`` against every rival, by the paired bootstrap over candidates.

    The predictions are taken as they are: the intervals leave out that other candidates would have given another fit.
    """
    answer = []
    for rival in found:
        if rival.undefined:
            nothing = Estimate(None, None, None, len(truth), rival.undefined)
            answer += [AgainstRival(name, rival.name, nothing, nothing) for name in scores]
            continue
        column = np.array(rival.predictions)
        rho = rank_correlation(column, truth, num_resamples=num_resamples, seed=seed)
        for name, score in scores.items():
            gap = paired_difference(score, column, truth, num_resamples=num_resamples, seed=seed)
            answer.append(AgainstRival(name, rival.name, rho, gap))
    return tuple(answer)


# --------------------------------------------------------------------------------------------------------- the rivals


def main_effects(strata: Mapping[str, Sequence[str]], truth: np.ndarray) -> Rival:
    """Ridge regression of the truth's ranks on the values of all parameters, one indicator for each value.

    The penalty is the one of ``PENALTIES`` with the least generalised cross-validation error [G] in the fit of the
    pair. ``parameters``: those that vary, by the variance of their fitted effects.
    """
    name, label = "main_effects", "main effects of all parameters"
    codes, y, why = _prepared(strata, truth, 1)
    if why is not None:
        return Rival(name, label, (), (), why)
    indicators = [(own[:, None] == np.arange(own.max() + 1)).astype(float) for own in codes.values()]
    design = np.hstack([np.ones((len(y), 1)), *indicators])
    fits = [_Ridge(design, y, penalty) for penalty in PENALTIES]
    best = min(fits, key=lambda fit: fit.error)
    edges = np.cumsum([1, *(block.shape[1] for block in indicators)])
    spread = {
        own: float(np.var(block @ best.coefficients[start : start + block.shape[1]]))
        for own, block, start in zip(codes, indicators, edges[:-1], strict=True)
    }
    ordered = tuple(sorted(spread, key=lambda own: -spread[own]))
    return Rival(name, label, _tournament([fit.of_pairs for fit in fits], len(y)), ordered)


def best_parameter(strata: Mapping[str, Sequence[str]], truth: np.ndarray) -> Rival:
    """The mean rank of the candidates with the same value of one parameter, chosen in the fit of the pair.

    It is the parameter with the least leave-one-out error there. An unseen value has the mean of all.
    """
    return _best_rule("best_parameter", "best single parameter", strata, truth, 1)


def best_rule_of_two(strata: Mapping[str, Sequence[str]], truth: np.ndarray) -> Rival:
    """The mean rank of the candidates with the same values of two parameters, chosen like :func:`best_parameter`.

    Means of few candidates are drawn to the mean of all (``SHRINK``); two values never seen together have it.
    """
    return _best_rule("best_rule_of_two", "best rule of two parameters", strata, truth, 2)


def _best_rule(name: str, label: str, strata: Mapping[str, Sequence[str]], truth: np.ndarray, size: int) -> Rival:
    codes, y, why = _prepared(strata, truth, size)
    if why is not None:
        return Rival(name, label, (), (), why)
    rules = {}
    for chosen in combinations(codes, size):
        together = np.stack([codes[own] for own in chosen], axis=1)
        rules[chosen] = _GroupMeans(np.unique(together, axis=0, return_inverse=True)[1].reshape(-1), y)
    best = min(rules, key=lambda chosen: rules[chosen].error)
    return Rival(name, label, _tournament([rule.of_pairs for rule in rules.values()], len(y)), best)


def _prepared(
    strata: Mapping[str, Sequence[str]], truth: np.ndarray, least: int
) -> tuple[dict[str, np.ndarray], np.ndarray, str | None]:
    """Codes of the parameters that vary, centred ranks of the truth, and why there can be no rival."""
    (truth,) = checked(truth=truth)
    n = len(truth)
    codes = {}
    for name, values in strata.items():
        if len(values) != n:
            raise NasproxyError(f"`strata` must have a value for each of {n} truths, but '{name}' has {len(values)}.")
        own = np.unique(np.array(list(values), dtype=str), return_inverse=True)[1].reshape(-1)
        if own.max(initial=0) > 0:
            codes[name] = own
    why = undefined(n, truth=truth)
    if n < MIN_RIVAL:
        why = f"n = {n} is fewer than {MIN_RIVAL} candidates"
    elif why is None and len(codes) < least:
        why = "no parameter varies" if least == 1 else "fewer than two parameters vary"
    return codes, ranks(truth) - (n + 1) / 2, why


# ---------------------------------------------------------------------------------------------------- leave-pair-out

# Of a pair of index vectors ``(m,)``: the error of the fit to all others, and the prediction of the first minus that of
# the second, both ``(m,)``.
PairFit = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def _tournament(fits: Sequence[PairFit], n: int) -> tuple[float, ...]:
    """The mean place of each candidate, from 1 to n, when every pair is ordered by the fit with the least error."""
    won, met = np.zeros(n), np.zeros(n)
    for first, second in _pairs(n):
        least = np.full(len(first), np.inf)
        gap = np.zeros(len(first))
        for fit in fits:
            error, own = fit(first, second)
            better = error < least * (1 - 1e-12)
            least, gap = np.where(better, error, least), np.where(better, own, gap)
        sign = np.where(np.abs(gap) > 1e-9 * n, np.sign(gap), 0.0)
        won += np.bincount(first, sign, n) - np.bincount(second, sign, n)
        met += np.bincount(first, minlength=n) + np.bincount(second, minlength=n)
    return tuple(((n + 1) / 2 + (n - 1) / 2 * won / met).tolist())


def _pairs(n: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs, or ``MAX_PAIRS`` of them with each candidate in equally many, in chunks."""
    if n * (n - 1) // 2 <= MAX_PAIRS:
        first, second = np.triu_indices(n, 1)
    else:
        rng = np.random.default_rng(0)
        order, half = rng.permutation(n), (n - 1) // 2
        steps = rng.choice(half, min(half, MAX_PAIRS // n), replace=False) + 1
        start = np.repeat(np.arange(n), len(steps))
        first, second = order[start], order[(start + np.tile(steps, n)) % n]
    for begin in range(0, len(first), CHUNK):
        yield first[begin : begin + CHUNK], second[begin : begin + CHUNK]


class _GroupMeans:
    """Means of groups, drawn to the mean of all: (sum + s · mean) / (size + s), without any two candidates.

    The leave-one-out residual of a member k of a group of size m and sum S, with N candidates of sum T, is
    [(m + s + t) y − S − tT] / (m − 1 + s) with t = s / (N − 1). Its squares add up to U + tT V + (tT)² W, where each of
    U, V and W is a sum over groups, so that two candidates change the terms of their own groups only.
    """

    def __init__(self, group: np.ndarray, y: np.ndarray) -> None:
        self.group, self.y, self.n = group, y, len(y)
        self.size = np.bincount(group).astype(float)
        self.sum, self.square = np.bincount(group, y), np.bincount(group, y * y)
        own_size, own_sum, own_square = self.size[group], self.sum[group], self.square[group]
        self.whole = _terms(self.size, self.sum, self.square, self.n - 2)
        self.total = self.whole.sum(-1)
        self.without = _terms(own_size - 1, own_sum - y, own_square - y * y, self.n - 2)
        pull = SHRINK * y.sum() / (self.n - 1)
        all_terms = _terms(self.size, self.sum, self.square, self.n).sum(-1)
        self.error = float(all_terms[0] + pull * all_terms[1] + pull**2 * all_terms[2])

    def of_pairs(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y, a, b = self.y, self.group[first], self.group[second]
        same = a == b
        rest = y.sum() - y[first] - y[second]
        terms = self.total[:, None] - self.whole[:, a] + self.without[:, first]
        terms = terms - self.whole[:, b] + self.without[:, second]
        if same.any():
            i, j, own = first[same], second[same], a[same]
            left = self.sum[own] - y[i] - y[j], self.square[own] - y[i] ** 2 - y[j] ** 2
            both = _terms(self.size[own] - 2, *left, self.n - 2)
            terms[:, same] = self.total[:, None] - self.whole[:, own] + both
        pull = SHRINK * rest / (self.n - 3)
        error = terms[0] + pull * terms[1] + pull**2 * terms[2]
        mean = rest / (self.n - 2)
        means = [
            (self.sum[own] - y[one] + SHRINK * mean) / (self.size[own] - 1 + SHRINK)
            for one, own in ((first, a), (second, b))
        ]
        return error, np.where(same, 0.0, means[0] - means[1])


def _terms(size: np.ndarray, total: np.ndarray, square: np.ndarray, n: int) -> np.ndarray:
    """U, V and W of groups with these sizes, sums and sums of squares among ``n`` candidates, ``(3, groups)``."""
    a = size + SHRINK + SHRINK / (n - 1)
    scale = np.where(size > 0, 1 / np.maximum(size - 1 + SHRINK, 1e-12) ** 2, 0.0)
    return np.stack(
        [
            (a * a * square + (size - 2 * a) * total**2) * scale,
            2 * (size - a) * total * scale,
            size * scale,
        ]
    )


class _Ridge:
    """Ridge regression with a free intercept, fitted again without any two candidates in closed form.

    With the hat matrix H and the residuals e, the residuals of a left-out pair S are r = (1 − H_SS)⁻¹ e_S, those of all
    others e + H r. From these come the sum of squares and the trace that generalised cross-validation takes.
    """

    def __init__(self, design: np.ndarray, y: np.ndarray, penalty: float) -> None:
        free = np.diag([0.0] + [penalty] * (design.shape[1] - 1))
        inverse = np.linalg.inv(design.T @ design + free)
        self.design, self.n = design, len(y)
        self.coefficients = inverse @ design.T @ y
        self.rows = design @ inverse
        self.twice = self.rows @ (design.T @ design) @ inverse
        self.residuals = y - design @ self.coefficients
        self.own = np.einsum("np,np->n", self.rows, design)
        self.own_twice = np.einsum("np,np->n", self.twice, design)
        self.smoothed = design @ (inverse @ (design.T @ self.residuals))
        self.error = float((self.residuals**2).sum() / (1 - self.own.sum() / self.n) ** 2)

    def of_pairs(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        e, other = self.residuals, self.design[second]
        h = np.einsum("mp,mp->m", self.rows[first], other)
        hh = np.einsum("mp,mp->m", self.twice[first], other)
        a, b = 1 - self.own[first], 1 - self.own[second]
        det = a * b - h * h
        ra = (b * e[first] + h * e[second]) / det
        rb = (h * e[first] + a * e[second]) / det
        squares = (
            (e**2).sum()
            + 2 * (ra * self.smoothed[first] + rb * self.smoothed[second])
            + ra**2 * self.own_twice[first]
            + rb**2 * self.own_twice[second]
            + 2 * ra * rb * hh
            - ra**2
            - rb**2
        )
        # tr of the others' hat matrix: Σ_{k∉S} [H_kk + H_kS (1 − H_SS)⁻¹ H_Sk], the last by H² without the pair
        p, q, o = 1 - a, 1 - b, h
        daa = self.own_twice[first] - p * p - o * o
        dbb = self.own_twice[second] - q * q - o * o
        dab = hh - o * (p + q)
        trace = self.own.sum() - p - q + (b * daa + a * dbb + 2 * h * dab) / det
        m = self.n - 2
        error = squares / np.maximum(1 - trace / m, 1e-6) ** 2
        truth = self._truth(first) - self._truth(second)
        return error, truth - (ra - rb)

    def _truth(self, one: np.ndarray) -> np.ndarray:
        return np.asarray(self.residuals[one] + self.design[one] @ self.coefficients)
