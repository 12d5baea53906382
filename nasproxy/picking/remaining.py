"""How far the pick may be from the best: what the model believes of candidates that were not trained fully."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nasproxy.picking.policy import Known, Opinion, belief

NUM_DRAWS = 4000
NUM_FOLLOWED = 400  # candidates that may be the best; the others' chances are far smaller
POINT = 0.01  # of accuracy


@dataclass(frozen=True)
class Remaining:
    """What is left, by the model. ``better``: the probability that a candidate is better than the pick by ``margin``.

    ``low`` to ``high``: with a probability of 95 % the best candidate is better than the pick by so much.
    ``candidate``: the index of the candidate that is most likely the best of those that were not trained.
    """

    better: float
    margin: float
    expected: float
    low: float
    high: float
    candidate: int | None


def remaining(known: Known, *, margin: float = POINT, seed: int = 0) -> Remaining | None:
    """What is left besides the pick, the candidate with the best full accuracy.

    The noise-free accuracies of the most promising candidates and of the pick are drawn together from the model, so an
    accuracy that is high by luck is drawn lower.

    Returns:
        None while the model has fewer than four full accuracies.
    """
    fully = known.fully
    if len(fully) < 4:
        return None
    now = belief(known)
    pick = int(fully[np.argmax(known.full[fully])])
    out = {*fully.tolist(), *known.failed}
    order = [one for one in np.argsort(-(now.mean + 2 * now.std), kind="stable").tolist() if one not in out]
    followed = np.array([pick, *order[:NUM_FOLLOWED]])
    if len(followed) == 1:
        return Remaining(0.0, margin, 0.0, 0.0, 0.0, None)
    rng = np.random.default_rng(seed)
    shares = [round(weight * NUM_DRAWS) for weight in now.weights]
    drawn = np.concatenate(
        [_drawn(own, followed, share, rng) for own, share in zip(now.opinions, shares, strict=True) if share]
    )
    gap = np.maximum(drawn[:, 1:].max(1) - drawn[:, 0], 0.0)
    low, high = np.quantile(gap, [0.025, 0.975])
    likely = int(followed[1 + np.bincount(drawn[:, 1:].argmax(1), minlength=len(followed) - 1).argmax()])
    return Remaining(float((gap > margin).mean()), margin, float(gap.mean()), float(low), float(high), likely)


def _drawn(own: Opinion, followed: np.ndarray, num: int, rng: np.random.Generator) -> np.ndarray:
    """``num`` draws of the noise-free accuracies of the candidates ``followed``, ``(num, m)``."""
    assert own.model is not None
    covariance = own.model.covariance(own.vote[followed], own.features[followed])
    # What a predicted short accuracy leaves open comes on top, for each candidate alone.
    alone = (own.model.scale * own.model.slope * own.unsure[followed] / 2) ** 2
    return rng.multivariate_normal(own.mean[followed], covariance + np.diag(alone), num, method="eigh")
