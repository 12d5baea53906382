"""What is measured: a training task, one row per candidate, task and seed, and their mean over seeds."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from nasproxy.config import Recipe, config_hash
from nasproxy.spaces import Params
from nasproxy.train import TrainingImages


@dataclass(frozen=True)
class Evaluation:
    """One training of one candidate.

    ``score`` names what was trained on ("proxy", "random_subset", "full", "test"); ``setting`` is a digest of the
    images, the recipe and the held-out split. ``accuracy`` is a fraction; with a ``failure`` it is None.
    """

    candidate: str
    params: Params
    score: str
    setting: str
    seed: int
    accuracy: float | None
    loss: float | None
    seconds: float
    failure: str | None = None


@dataclass(frozen=True)
class TrainingTask:
    """Train on ``train`` by ``recipe``, measure on ``held_out``: a trained score, or the full accuracy.

    Its images lie in main memory; whoever trains moves them. With ``precision`` "bfloat16" the net's products are taken
    in it, weights and updates stay float32.
    """

    score: str
    label: str
    train: TrainingImages
    held_out: TrainingImages
    recipe: Recipe
    num_classes: int
    setting: str
    precision: str = "float32"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """``(c, h, w)`` of every image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width


def task_setting(images: str, recipe: Recipe, held_out: str, precision: str = "float32") -> str:
    """Digest that two trainings share exactly when images, recipe, held-out images and precision are the same."""
    lower = [] if precision == "float32" else [precision]
    return config_hash(images, asdict(recipe), held_out, *lower)[:16]


@dataclass(frozen=True)
class MeanScore:
    """Mean over seeds: ``accuracy`` with standard deviation ``std``, ``loss``, total ``seconds``; or a ``failure``."""

    accuracy: float | None
    std: float | None
    loss: float | None
    seconds: float
    num_seeds: int
    failure: str | None


def mean_score(evaluations: list[Evaluation]) -> MeanScore:
    """Averages one candidate's seeds; one failed seed fails the candidate, with the seed's reason.

    ``std`` is the sample standard deviation, None for one seed.
    """
    seconds = sum(evaluation.seconds for evaluation in evaluations)
    n = len(evaluations)
    if n == 0:
        return MeanScore(None, None, None, 0.0, 0, "no training is recorded")
    for evaluation in evaluations:
        if evaluation.failure is not None:
            return MeanScore(None, None, None, seconds, n, evaluation.failure)
    accuracies = [evaluation.accuracy for evaluation in evaluations if evaluation.accuracy is not None]
    losses = [evaluation.loss for evaluation in evaluations if evaluation.loss is not None]
    mean = sum(accuracies) / n
    std = (sum((value - mean) ** 2 for value in accuracies) / (n - 1)) ** 0.5 if n > 1 else None
    return MeanScore(mean, std, sum(losses) / n, seconds, n, None)
