"""What a training gives: one row per candidate, task and seed, and the mean over seeds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nasproxy.spaces import Params


class FailureKind(StrEnum):
    """Why a candidate has no number. The text beside it says the same to people, with its particulars."""

    OUT_OF_MEMORY = "out_of_memory"
    DIVERGED = "diverged"  # a loss became infinite or NaN
    NET_ERROR = "net_error"  # torch raised an error while the net was built or run
    UNDEFINED = "undefined"  # the score is NaN or plus infinity
    MINUS_INFINITY = "minus_infinity"  # no table can hold this score, but any ranking can: it is the lowest
    WORKER_DIED = "worker_died"  # its process ended or hung, at every attempt
    NOT_MEASURED = "not_measured"  # no training is recorded


@dataclass(frozen=True)
class Evaluation:
    """One candidate's score with one seed.

    ``score`` is a name in ``SCORES``, or "full" or "test" for the full accuracy; ``setting`` is a digest of the images,
    the recipe and the held-out split. ``value`` is the held-out accuracy, a fraction, of a trained score, whose
    held-out cross-entropy is ``loss``; with a ``failure`` it is None. ``curve`` and ``joules`` as in
    :class:`~nasproxy.training.results.Fit`.
    """

    candidate: str
    params: Params
    score: str
    setting: str
    seed: int
    value: float | None
    loss: float | None
    seconds: float
    failure: str | None = None
    failure_kind: FailureKind | None = None
    curve: tuple[tuple[int, float], ...] = ()
    joules: float | None = None


@dataclass(frozen=True)
class MeanScore:
    """Mean over seeds: ``value`` with standard deviation ``std``, ``loss``, total ``seconds``; or a ``failure``.

    ``curve`` is the mean one, ``joules`` the sum, where every seed has them.
    """

    value: float | None
    std: float | None
    loss: float | None
    seconds: float
    num_seeds: int
    failure: str | None
    failure_kind: FailureKind | None = None
    curve: tuple[tuple[int, float], ...] = ()
    joules: float | None = None


def mean_score(evaluations: list[Evaluation]) -> MeanScore:
    """Averages one candidate's seeds; one failed seed fails the candidate, with the seed's reason.

    ``std`` is the sample standard deviation, None for one seed.
    """
    seconds = sum(evaluation.seconds for evaluation in evaluations)
    n = len(evaluations)
    if n == 0:
        return MeanScore(None, None, None, 0.0, 0, "no training is recorded", FailureKind.NOT_MEASURED)
    for evaluation in evaluations:
        if evaluation.failure is not None:
            return MeanScore(None, None, None, seconds, n, evaluation.failure, evaluation.failure_kind)
    values = [evaluation.value for evaluation in evaluations if evaluation.value is not None]
    losses = [evaluation.loss for evaluation in evaluations if evaluation.loss is not None]
    mean = sum(values) / n
    std = (sum((value - mean) ** 2 for value in values) / (n - 1)) ** 0.5 if n > 1 else None
    epochs = {tuple(epoch for epoch, _ in evaluation.curve) for evaluation in evaluations}
    curve: tuple[tuple[int, float], ...] = ()
    if len(epochs) == 1:
        by_epoch = zip(*(evaluation.curve for evaluation in evaluations), strict=True)
        curve = tuple((points[0][0], sum(value for _, value in points) / n) for points in by_epoch)
    energies = [evaluation.joules for evaluation in evaluations if evaluation.joules is not None]
    joules = sum(energies) if len(energies) == n else None
    return MeanScore(mean, std, sum(losses) / n, seconds, n, None, None, curve, joules)


@dataclass(frozen=True)
class Fit:
    """What one training gave: ``value``, the accuracy in [0, 1], and mean cross-entropy ``loss`` on held-out images.

    Of a score that needs no training, ``value`` is the score. A failure is a reason in words; value and loss are then
    None, never a sentinel number. ``curve``: the accuracy after some of the epochs, where it was watched; ``joules``:
    what the device took meanwhile, where it tells.
    """

    value: float | None
    loss: float | None
    seconds: float
    failure: str | None = None
    failure_kind: FailureKind | None = None
    curve: tuple[tuple[int, float], ...] = ()
    joules: float | None = None

    def __post_init__(self) -> None:
        if (self.failure is None) != (self.failure_kind is None):
            raise ValueError(
                f"`failure` and `failure_kind` must be given together, but got {self.failure!r} and "
                f"{self.failure_kind!r}: use failed_fit."
            )


def failed_fit(kind: FailureKind, reason: str, seconds: float) -> Fit:
    """A fit that gave no number after ``seconds``; ``reason`` is one line for people."""
    return Fit(None, None, seconds, reason, kind)
