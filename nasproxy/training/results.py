"""The numbers that a training gives: one fit, the fit of a named candidate, and the mean over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from nasproxy.spaces import Params


class FailureKind(StrEnum):
    """Why a candidate has no number. ``Fit.failure`` says the same to people, with the details."""

    OUT_OF_MEMORY = "out_of_memory"
    DIVERGED = "diverged"  # a loss became infinite or NaN
    NET_ERROR = "net_error"  # torch raised an error while the net was built or run
    UNDEFINED = "undefined"  # the score is NaN or plus infinity
    MINUS_INFINITY = "minus_infinity"  # no table can hold this score, but a ranking can: it is the lowest
    WORKER_DIED = "worker_died"  # the worker process ended or hung, at every attempt
    NOT_MEASURED = "not_measured"  # no training is recorded


@dataclass(frozen=True)
class Fit:
    """What one training gave, or one measurement of a score that needs no training.

    Attributes:
        value: the accuracy on held-out images, in [0, 1], or the score. None after a failure, never a sentinel number.
        loss: the mean cross-entropy on held-out images. None after a failure, and for a score without training.
        seconds: how long it took.
        failure: why there is no number, in one line for people; None when there is one.
        failure_kind: the same for code. It is given exactly when ``failure`` is.
        curve: ``(epoch, accuracy)`` after some of the epochs, counted from 1; empty unless the training was watched.
        joules: the energy that the device used; None where the device has no meter.
        train_losses: the mean training loss in each of up to 32 equal parts of the training; empty after a failure, for
            a score without training, and where an earlier version trained.
    """

    value: float | None
    loss: float | None
    seconds: float
    failure: str | None = None
    failure_kind: FailureKind | None = None
    curve: tuple[tuple[int, float], ...] = ()
    joules: float | None = None
    train_losses: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if (self.failure is None) != (self.failure_kind is None):
            raise ValueError(
                f"`failure` and `failure_kind` must be given together, but got {self.failure!r} and "
                f"{self.failure_kind!r}: use failed_fit."
            )


def failed_fit(kind: FailureKind, reason: str, seconds: float) -> Fit:
    """A fit that gave no number after ``seconds``; ``reason`` is one line for people."""
    return Fit(None, None, seconds, reason, kind)


@dataclass(frozen=True, kw_only=True)
class Evaluation(Fit):
    """The fit of one candidate for one score and one seed: a row of the table of evaluations.

    Attributes:
        candidate: the id of the architecture.
        params: its parameters.
        score: a name in ``SCORES``, or "full" or "test" for the full accuracy.
        setting: a digest of the images, the recipe and the held-out split.
        seed: the seed of initialisation, order of images, augmentation and dropout.
    """

    candidate: str
    params: Params
    score: str
    setting: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class MeanScore(Fit):
    """The mean of one candidate's fits: ``seconds`` and ``joules`` are sums, all other numbers means.

    Attributes:
        std: the sample standard deviation of ``value``; None for fewer than two seeds.
        num_seeds: how many fits there are.
    """

    std: float | None = None
    num_seeds: int = 1


def mean_score(fits: Sequence[Fit]) -> MeanScore:
    """Averages one candidate's fits with different seeds. One failed fit fails the candidate, with its reason.

    Args:
        fits: one per seed. ``curve``, ``train_losses`` and ``joules`` are there only where every fit has them.

    Returns:
        The mean; a failure of the kind ``NOT_MEASURED`` for no fits.
    """
    seconds = sum(fit.seconds for fit in fits)
    n = len(fits)
    failed = next((fit for fit in fits if fit.failure is not None), None)
    if failed is not None:
        return MeanScore(None, None, seconds, failed.failure, failed.failure_kind, num_seeds=n)
    if n == 0:
        return MeanScore(None, None, 0.0, "no training is recorded", FailureKind.NOT_MEASURED, num_seeds=0)
    values = [fit.value for fit in fits if fit.value is not None]
    losses = [fit.loss for fit in fits if fit.loss is not None]
    mean = sum(values) / n
    std = (sum((value - mean) ** 2 for value in values) / (n - 1)) ** 0.5 if n > 1 else None
    curve: tuple[tuple[int, float], ...] = ()
    if len({tuple(epoch for epoch, _ in fit.curve) for fit in fits}) == 1:
        by_epoch = zip(*(fit.curve for fit in fits), strict=True)
        curve = tuple((points[0][0], sum(value for _, value in points) / n) for points in by_epoch)
    train_losses: tuple[float, ...] = ()
    if len({len(fit.train_losses) for fit in fits}) == 1:
        train_losses = tuple(sum(part) / n for part in zip(*(fit.train_losses for fit in fits), strict=True))
    energies = [fit.joules for fit in fits if fit.joules is not None]
    joules = sum(energies) if len(energies) == n else None
    loss = sum(losses) / n
    return MeanScore(mean, loss, seconds, curve=curve, joules=joules, train_losses=train_losses, std=std, num_seeds=n)
