"""What was measured: one row per candidate, score, setting and seed, kept so that nothing is ever trained twice."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from nasproxy.config import Recipe, config_hash
from nasproxy.errors import NasproxyError
from nasproxy.spaces import Candidate, Params, SearchSpace
from nasproxy.train import TrainingImages, train_candidate


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
    """Train on ``train`` by ``recipe``, measure on ``held_out``: a trained score, or the full accuracy."""

    score: str
    label: str
    train: TrainingImages
    held_out: TrainingImages
    recipe: Recipe
    num_classes: int
    setting: str


def task_setting(images: str, recipe: Recipe, held_out: str) -> str:
    """Digest that two trainings share exactly when images, recipe and held-out images are the same."""
    return config_hash(images, asdict(recipe), held_out)[:16]


class Ledger:
    """The table of evaluations of one run, in SQLite. One process writes; every row is on disk when ``add`` returns."""

    COLUMNS = ("candidate", "score", "setting", "seed", "params", "accuracy", "loss", "seconds", "failure")

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = sqlite3.connect(path)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS evaluations (candidate TEXT, score TEXT, setting TEXT, seed INTEGER, "
                "params TEXT, accuracy REAL, loss REAL, seconds REAL, failure TEXT, "
                "PRIMARY KEY (candidate, score, setting, seed))"
            )
        except sqlite3.DatabaseError as error:
            raise NasproxyError(f"'{path}' is no readable table of evaluations ({error}): move it away.") from None

    def get(self, candidate: str, score: str, setting: str, seed: int) -> Evaluation | None:
        """The stored evaluation, or None."""
        row = self._connection.execute(
            "SELECT params, accuracy, loss, seconds, failure FROM evaluations "
            "WHERE candidate = ? AND score = ? AND setting = ? AND seed = ?",
            (candidate, score, setting, seed),
        ).fetchone()
        if row is None:
            return None
        params, accuracy, loss, seconds, failure = row
        return Evaluation(candidate, json.loads(params), score, setting, seed, accuracy, loss, seconds, failure)

    def add(self, evaluation: Evaluation) -> None:
        """Stores ``evaluation`` durably, in place of one with the same key."""
        values = asdict(evaluation) | {"params": json.dumps(evaluation.params)}
        marks = ", ".join("?" for _ in self.COLUMNS)
        with self._connection:
            self._connection.execute(
                f"INSERT OR REPLACE INTO evaluations ({', '.join(self.COLUMNS)}) VALUES ({marks})",
                [values[column] for column in self.COLUMNS],
            )

    def close(self) -> None:
        self._connection.close()


def evaluate_net(
    task: TrainingTask,
    identity: str,
    params: Params,
    build: Callable[[], nn.Module],
    seed: int,
    *,
    ledger: Ledger,
    device: torch.device,
    on_update: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """The evaluation by ``task`` with ``seed`` of the net called ``identity``: from the ledger, else trained now and
    stored."""
    known = ledger.get(identity, task.score, task.setting, seed)
    if known is not None:
        return known
    result = train_candidate(
        build, task.train, task.held_out, task.recipe, seed=seed, device=device, on_update=on_update
    )
    evaluation = Evaluation(
        identity,
        params,
        task.score,
        task.setting,
        seed,
        result.accuracy,
        result.loss,
        result.seconds,
        result.failure,
    )
    ledger.add(evaluation)
    return evaluation


def evaluate_candidate(
    task: TrainingTask,
    space: SearchSpace,
    candidate: Candidate,
    seed: int,
    *,
    ledger: Ledger,
    device: torch.device,
    on_update: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """:func:`evaluate_net` for a ``candidate`` of ``space``."""
    _, channels, height, width = task.train.images.shape
    build = partial(space.build, candidate.params, (channels, height, width), task.num_classes)
    return evaluate_net(
        task, candidate.id, candidate.params, build, seed, ledger=ledger, device=device, on_update=on_update
    )


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
