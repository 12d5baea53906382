"""The calibrated score: what trained candidates teach of all others.

For the accuracy y of candidates with the vote v and the features x, both from columns.py:

    (y − ȳ) / σ = c + s v + wᵀx + f(x) + ε       s ~ N(s₀, a),   w ~ N(0, a I),   f ~ GP(0, b RBF),   ε ~ N(0, e)

that is, ridge regression on ranks and a smooth part, both shrunk towards the vote. With few truths the vote speaks,
with more the data do: they can take its slope s to 0 or turn its sign. The variances a, b and e and the scale σ are
those of a small grid that make the observed accuracies most likely, so nothing is tuned by hand for a space.
scikit-learn's Gaussian process does the fitting.

Reference: [R] Rasmussen, Williams, "Gaussian Processes for Machine Learning", 2006, equations 2.25, 2.26 and 2.30.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from nasproxy.core.errors import NasproxyError

SLOPE = 0.7  # s₀: what the vote's normal score says of the accuracy's, before any truth is known
LINEAR = (0.05, 0.3)  # a
SMOOTH = (0.05, 0.3)  # b
NOISE = (0.05, 0.2, 0.6)  # e
SCALES = (1.0, 1.6, 2.5)  # σ, in standard deviations of the observed accuracies
LEVEL = 4.0  # the variance of c: trained candidates may all be better than the average of the space
LOWEST = 3.0  # an accuracy lower than the median by so many median absolute deviations counts as that
MIN_FITTED = 2  # truths; of fewer the vote alone is the answer


@dataclass(frozen=True)
class Calibrated:
    """A fitted model, see :func:`fitted`; its numbers have the unit of the accuracies.

    ``evidence`` is the log-likelihood of the accuracies, up to a constant that models of the same accuracies share.
    """

    process: Any  # a GaussianProcessRegressor
    centre: float
    scale: float
    slope: float
    evidence: float

    def predict(self, vote: np.ndarray, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation ``(n,)`` of the noise-free accuracy of candidates."""
        mean, std = self.process.predict(_design(vote, features), return_std=True)
        return self.centre + self.scale * (mean + self.slope * vote), self.scale * np.sqrt(
            np.maximum(std**2 - self.noise, 0)
        )

    def covariance(self, vote: np.ndarray, features: np.ndarray) -> np.ndarray:
        """The covariance ``(n, n)`` of the noise-free accuracies of candidates."""
        _, covariance = self.process.predict(_design(vote, features), return_cov=True)
        return np.asarray(self.scale**2 * (covariance - self.noise * np.eye(len(vote))))

    @property
    def noise(self) -> float:
        """The variance of ε."""
        return float(self.process.kernel_.k2.noise_level)

    def learned_slope(self) -> float:
        """What the data made of s."""
        at = np.zeros((2, self.process.n_features_in_))
        at[1, -1] = 1.0
        low, high = self.process.predict(at)
        return float(self.slope + high - low)


def fitted(vote: np.ndarray, features: np.ndarray, accuracy: np.ndarray, *, slope: float = SLOPE) -> Calibrated:
    """The model of ``n`` candidates that were trained.

    Args:
        vote: ``(n,)``.
        features: ``(n, d)``.
        accuracy: ``(n,)``, higher is better.
        slope: s₀.

    Raises:
        NasproxyError: for fewer than ``MIN_FITTED`` candidates, or an accuracy that is not finite.
    """
    n = len(accuracy)
    if n < MIN_FITTED or not np.isfinite(accuracy).all():
        raise NasproxyError(
            f"A model needs at least {MIN_FITTED} finite accuracies, but got {np.asarray(accuracy)[:5]}: rank by the "
            "vote, and leave failures out."
        )
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

    y = without_outliers(accuracy)
    centre, spread = float(y.mean()), float(y.std()) or 1e-3
    inputs = _design(vote, features)
    residuals = np.stack([(y - centre) / (scale * spread) - slope * vote for scale in SCALES], axis=1)
    products, bells = inputs @ inputs.T, RBF(1.0)(inputs)
    likelihoods = {
        (linear, smooth, noise, scale): likelihood - n * np.log(scale)
        for linear, smooth, noise in product(LINEAR, SMOOTH, NOISE)
        for scale, likelihood in zip(
            SCALES,
            log_likelihood(linear * products + LEVEL + smooth * bells + noise * np.eye(n), residuals),
            strict=True,
        )
    }
    linear, smooth, noise, scale = max(likelihoods, key=lambda one: likelihoods[one])
    straight = ConstantKernel(linear) * DotProduct((LEVEL / linear) ** 0.5)  # its constant is the variance of c
    kernel = straight + ConstantKernel(smooth) * RBF(1.0) + WhiteKernel(noise)
    process = GaussianProcessRegressor(kernel, optimizer=None, alpha=0.0)
    process.fit(inputs, residuals[:, SCALES.index(scale)])
    return Calibrated(process, centre, scale * spread, slope, max(likelihoods.values()))


def log_likelihood(covariance: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """log p of each column of ``residuals`` ``(n, m)`` under a normal distribution with ``covariance`` [R, 2.30]."""
    root = np.linalg.cholesky(covariance)
    white = np.linalg.solve(root, residuals)
    constant = np.log(np.diag(root)).sum() + len(root) / 2 * np.log(2 * np.pi)
    return np.asarray(-0.5 * (white**2).sum(0) - constant)


def without_outliers(accuracy: np.ndarray) -> np.ndarray:
    """``accuracy`` ``(n,)`` where what is far below the others counts as the end of their range.

    A net at chance says that it is bad, and not how bad: as it is, it would set the scale of all differences.
    """
    y = np.asarray(accuracy, dtype=float)
    if len(y) < 5:
        return y
    middle = np.median(y)
    return np.maximum(y, middle - LOWEST * np.median(np.abs(y - middle)))


def _design(vote: np.ndarray, features: np.ndarray) -> np.ndarray:
    return np.column_stack([features, vote])
