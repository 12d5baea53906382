"""What the calibrated score is worth on candidates that it has not seen, by repeated cross-validation.

The candidates are split into five parts, again and again. A model is fitted to four parts and orders the candidates of
the fifth. Only *pairs within one part* are compared, and a candidate's place is the share of its pairs that it wins.
Predictions of different fits must not be compared: the mean of four parts is low exactly when the fifth is high, so a
model without any knowledge would be punished (see :mod:`nasproxy.correlation.rivals`).

The variances of the model are chosen in each fit anew, so nothing of the fifth part was seen.

Reference: [A] Airola, Pahikkala, Waegeman, De Baets, Salakoski, "An experimental comparison of cross-validation
techniques for estimating the area under the ROC curve", Computational Statistics & Data Analysis 2011.
"""

from __future__ import annotations

import numpy as np

from nasproxy.core.errors import NasproxyError
from nasproxy.correlation.bootstrap import checked
from nasproxy.correlation.rivals import MIN_RIVAL
from nasproxy.picking.columns import Columns
from nasproxy.picking.model import fitted

NUM_PARTS = 5
NUM_SPLITS = 20
RELIABLE = 12  # truths; with fewer the answer rests on the vote
TIE = 1e-9  # of the spread of predictions


def cross_validated(columns: Columns, truth: np.ndarray, *, num_splits: int = NUM_SPLITS, seed: int = 0) -> np.ndarray:
    """The mean place of each candidate, from 1 to n, by models that have not seen it; n is the best.

    Args:
        columns: what is known of the n candidates without their truth.
        truth: ``(n,)``, higher is better.
        num_splits: how often the candidates are split.
        seed: of the splits.

    Raises:
        NasproxyError: for fewer than eight candidates, or a truth that is not finite.
    """
    (truth,) = checked(truth=truth)
    n = len(truth)
    if n < MIN_RIVAL or len(columns) != n:
        raise NasproxyError(
            f"Cross-validation needs at least {MIN_RIVAL} candidates with a truth each, but got {len(columns)} "
            f"candidates and {n} truths: train more."
        )
    won, met = np.zeros(n), np.zeros(n)
    rng = np.random.default_rng([seed, 11])
    for _ in range(num_splits):
        for part in np.array_split(rng.permutation(n), NUM_PARTS):
            rest = np.setdiff1d(np.arange(n), part)
            model = fitted(columns.vote[rest], columns.features[rest], truth[rest])
            mean, _ = model.predict(columns.vote[part], columns.features[part])
            gap = mean[:, None] - mean[None, :]
            won[part] += np.where(np.abs(gap) > TIE * max(float(np.ptp(truth)), 1e-12), np.sign(gap), 0.0).sum(1)
            met[part] += len(part) - 1
    return np.asarray((n + 1) / 2 + (n - 1) / 2 * won / np.maximum(met, 1))


def predicted(columns: Columns, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation ``(n,)`` of the full accuracy of all candidates, in the unit of ``truth``.

    Args:
        columns: of n candidates.
        truth: ``(n,)``, NaN where it is not known.

    Raises:
        NasproxyError: for fewer than two known truths.
    """
    at = np.flatnonzero(~np.isnan(truth))
    model = fitted(columns.vote[at], columns.features[at], truth[at])
    return model.predict(columns.vote, columns.features)
