"""What is known of candidates before they are trained, as columns that a model can read: normal scores of ranks.

Scores have scales that cannot be compared: SynFlow reaches 10³⁰. So a column counts by the ranks of its values among
the candidates, mapped to quantiles of the normal distribution, so that the best few keep a distance from the others.

Reference: Van der Waerden, "Order tests for the two-sample problem and their power", 1952 (normal scores).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nasproxy.core.errors import NasproxyError
from nasproxy.correlation.ranks import ranks

# The vote: size and scores that agree with full training in most spaces for which tables were published. Size counts
# twice. NAS-Bench-201 has +.71 to +.83 for each, the macro space of TransNAS-Bench-101 +.56 to +.87 for flops and
# naswot (benchmarks/RESULTS.md).
VOTE = ("params", "flops", "naswot", "jacob_cov", "synflow")


@dataclass(frozen=True)
class Columns:
    """What is known of ``n`` candidates before any of them is trained.

    Args:
        vote: ``(n,)``, mean 0 and variance 1: the mean of the normal scores of those of ``VOTE`` that are known.
        features: ``(n, d)``: normal scores of free scores, and the parameters of the space. Σ over d of squares has
            mean 1.
        experts: the normal scores ``(n,)`` of which the vote is the mean.
    """

    vote: np.ndarray
    features: np.ndarray
    experts: tuple[np.ndarray, ...] = ()

    def __len__(self) -> int:
        return len(self.vote)

    def take(self, index: np.ndarray) -> Columns:
        """Those of the candidates ``index``, as they are: nothing is ranked again."""
        return Columns(self.vote[index], self.features[index], tuple(one[index] for one in self.experts))


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Φ⁻¹((rank − ½) / n) ``(n,)``; equal values share their mean rank. A missing value (NaN) has the score 0."""
    from scipy.special import ndtri

    values = np.asarray(values, dtype=float)
    answer = np.zeros(len(values))
    known = ~np.isnan(values)
    if known.any():
        answer[known] = ndtri((ranks(values[known]) - 0.5) / known.sum())
    return answer


def standardised(values: np.ndarray) -> np.ndarray:
    """``(n,)`` with mean 0 and variance 1; zeros where all values are equal."""
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros(len(values))


def columns_of(
    free: Mapping[str, np.ndarray],
    parameters: Mapping[str, Sequence[object]],
    trained: Mapping[str, np.ndarray] | None = None,
) -> Columns:
    """The columns of ``n`` candidates.

    Args:
        free: by the name of a score its values ``(n,)``; higher ranks better, NaN where it failed.
        parameters: by the name of a parameter its values; numbers are ordered, everything else is a category. None is
            the value of a parameter that a candidate does not have.
        trained: the same of scores that train the candidates a little. They are no part of the vote.

    Raises:
        NasproxyError: for columns of several lengths, or none.
    """
    trained = trained or {}
    sizes = {len(column) for column in (*free.values(), *parameters.values(), *trained.values())}
    if len(sizes) != 1:
        raise NasproxyError(f"Columns must have one value for each candidate, but they have {sorted(sizes)} values.")
    (n,) = sizes
    scores = {name: normal_scores(values) for name, values in free.items()}
    scores = {name: column for name, column in scores.items() if column.std() > 0}
    experts = tuple(scores[name] for name in VOTE if name in scores)
    vote = standardised(np.mean(experts, axis=0)) if experts else np.zeros(n)
    blocks = [_block(list(scores.values()), n)]
    blocks.append(_block([column for values in parameters.values() for column in _typed(values)], n))
    blocks.append(_block([normal_scores(values) for values in trained.values()], n))
    features = np.hstack([block for block in blocks if block.shape[1]] or [np.zeros((n, 1))])
    size = np.sqrt((features**2).sum(1).mean())
    return Columns(vote, features / size if size > 0 else features, experts)


def _block(columns: Sequence[np.ndarray], n: int) -> np.ndarray:
    """``columns`` side by side ``(n, k)``, scaled so that every block weighs the same."""
    varying = [column for column in columns if column.std() > 0]
    if not varying:
        return np.zeros((n, 0))
    block = np.stack(varying, axis=1)
    return block / np.sqrt((block**2).sum(1).mean())


def _typed(values: Sequence[object]) -> list[np.ndarray]:
    """A parameter's columns: normal scores of numbers, and an indicator of each value that is no number."""
    numeric = [isinstance(value, int | float) and not isinstance(value, bool) for value in values]
    columns = []
    if any(numeric):
        numbers = np.array([float(v) if own else np.nan for v, own in zip(values, numeric, strict=True)])  # type: ignore[arg-type]
        columns.append(normal_scores(numbers))
    words = [None if own else str(value) for value, own in zip(values, numeric, strict=True)]
    for word in sorted({word for word in words if word is not None}):
        columns.append(standardised(np.array([float(one == word) for one in words])))
    return columns
