"""The search: an Optuna study over a space, every candidate trained on the proxy set, nothing trained twice.

The study lives in SQLite in the run's folder and can be opened with optuna-dashboard. What ends a process at any moment
loses no finished trial: trainings are rows of the ledger before the study hears of them, and a trial that was left
running is closed and asked again. The sampler's random stream is derived from the seed and the number of finished
trials, so an interrupted search proposes what an uninterrupted one would have.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from nasproxy.config import SearchConfig
from nasproxy.errors import NasproxyError, unknown
from nasproxy.evaluations import Ledger, MeanScore, TrainingTask, evaluate_candidate, mean_score
from nasproxy.randomness import derive_seed
from nasproxy.spaces import Candidate, SearchSpace, SpaceInspection

if TYPE_CHECKING:
    import optuna

STUDY_FILE = "study.sqlite"

# A sampler that keeps proposing known candidates is helped out by a random new one after this many proposals.
MAX_REPEATS = 20


@dataclass(frozen=True)
class Ranked:
    """One searched candidate and its mean score on the proxy."""

    candidate: Candidate
    score: MeanScore


@dataclass(frozen=True)
class SearchResult:
    """``ranking``, best first: by held-out accuracy, the loss breaking ties. ``history``: accuracies as they came."""

    ranking: tuple[Ranked, ...]
    failed: tuple[Ranked, ...]
    history: tuple[tuple[int, float], ...]


@contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """Holds the run folder: a second process is refused, a dead one's lock is void."""
    from filelock import FileLock, Timeout

    run.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise NasproxyError(
            f"The run '{run}' is in use by another nasproxy process: wait for it, end it, or choose another --out."
        ) from None
    try:
        yield
    finally:
        lock.release()


def make_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """The Optuna sampler called ``name`` (see ``SAMPLERS`` in config.py), drawing from ``seed``."""
    from optuna import samplers

    class BruteForce(samplers.BruteForceSampler):
        def after_trial(self, *arguments: object, **named: object) -> None:
            """Optuna ends ``optimize`` here when the space is exhausted; under ask and tell the loop below knows."""

    seed = seed % 2**32
    table: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
        "tpe": lambda: samplers.TPESampler(seed=seed),
        "random": lambda: samplers.RandomSampler(seed=seed),
        "nsga2": lambda: samplers.NSGAIISampler(seed=seed),
        "gp": lambda: samplers.GPSampler(seed=seed, deterministic_objective=True),
        "brute-force": lambda: BruteForce(seed=seed),
    }
    if name not in table:
        raise unknown("sampler", name, table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna marks some samplers experimental; the choice is the user's
        return table[name]()


def _open_study(run: Path, space: SearchSpace, task: TrainingTask, config: SearchConfig) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    identity = {"space": space.hash, "task": task.setting, "sampler": config.sampler, "seeds": config.seeds}
    study = optuna.create_study(
        storage=f"sqlite:///{run / STUDY_FILE}", study_name=space.name, direction="maximize", load_if_exists=True
    )
    known = study.user_attrs.get("identity")
    if known is None:
        study.set_user_attr("identity", identity)
    elif known != identity:
        changed = ", ".join(name for name in identity if known.get(name) != identity[name])
        raise NasproxyError(
            f"The run '{run}' was started with another {changed}: its trials cannot be mixed. Choose another --out."
        )
    return study


def _close_left_running(study: optuna.Study, space: SearchSpace) -> None:
    """Trials of a process that is gone stay RUNNING for ever: close them and ask for the same parameters again.

    One that had only some of its parameters is not asked again: the sampler, seeded alike, proposes it anew, but would
    fill up a part from the beginning of its stream.
    """
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        try:
            space.candidate(trial.params)
        except NasproxyError:
            continue
        study.enqueue_trial(trial.params)


def _answered(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that the loop told the study an answer for. A failed one has a reason; without, its process died."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    return [trial for trial in trials if trial.state != TrialState.FAIL or "reason" in trial.user_attrs]


@dataclass(frozen=True)
class _Position:
    """Where a study stands, from its trials alone, so that a resumed search goes on as if it had not stopped.

    ``answers``: every trained candidate's mean accuracy, None for one that failed. ``repeats``: proposals since the
    last new candidate.
    """

    answers: dict[str, float | None]
    num_answered: int
    repeats: int


def _position(study: optuna.Study) -> _Position:
    answers: dict[str, float | None] = {}
    repeats = 0
    trials = _answered(study)
    for trial in trials:
        identity = trial.user_attrs.get("candidate")
        repeats = repeats + 1 if identity is None or identity in answers else 0
        if identity is not None:
            answers[identity] = trial.value
    return _Position(answers, len(trials), repeats)


def run_search(
    space: SearchSpace,
    task: TrainingTask,
    config: SearchConfig,
    *,
    inspection: SpaceInspection,
    run: Path,
    ledger: Ledger,
    device: torch.device,
    progress: Callable[[int, int, str], None] | None = None,
) -> SearchResult:
    """Evaluates ``config.trials`` distinct candidates in total, or all valid ones of a smaller space.

    Candidates that ``inspection`` found impossible are told to the study as pruned and not counted. Call it again with
    the same arguments to resume, or with more trials to go on.

    Raises:
        NasproxyError: when the run folder holds a study of another space, proxy set or sampler.
    """
    from optuna.trial import TrialState

    study = _open_study(run, space, task, config)
    _close_left_running(study, space)
    total = config.trials if inspection.num_valid is None else min(config.trials, inspection.num_valid)
    while True:
        position = _position(study)
        if progress is not None:
            best = max((value for value in position.answers.values() if value is not None), default=None)
            note = f"best {100 * best:.1f} %" if best is not None else ""
            progress(min(len(position.answers), total), total, note)
        if len(position.answers) >= total:
            break
        study.sampler = make_sampler(config.sampler, derive_seed(config.seed, "sampler", position.num_answered))
        if position.repeats >= MAX_REPEATS:
            rng = np.random.default_rng(derive_seed(config.seed, "unseen", position.num_answered))
            study.enqueue_trial(dict(_unseen(inspection, position.answers, rng).params), skip_if_exists=True)
        trial = study.ask()
        candidate = space.suggest(trial)
        reason = inspection.reason(candidate)
        if reason is not None:
            trial.set_user_attr("reason", reason)
            study.tell(trial, state=TrialState.PRUNED)
            continue
        score = mean_score(
            [
                evaluate_candidate(task, space, candidate, seed, ledger=ledger, device=device)
                for seed in range(config.seeds)
            ]
        )
        trial.set_user_attr("candidate", candidate.id)
        trial.set_user_attr("seconds", round(score.seconds, 3))
        if score.accuracy is None:
            trial.set_user_attr("reason", score.failure)
            study.tell(trial, state=TrialState.FAIL)
        else:
            trial.set_user_attr("loss", score.loss)
            study.tell(trial, score.accuracy)
    return search_result(space, task, config, run=run, ledger=ledger)


def _unseen(inspection: SpaceInspection, answers: dict[str, float | None], rng: np.random.Generator) -> Candidate:
    """A valid candidate, uniform among those without an answer."""
    while True:
        candidate = inspection.sample(rng)
        if candidate.id not in answers:
            return candidate


def search_result(
    space: SearchSpace, task: TrainingTask, config: SearchConfig, *, run: Path, ledger: Ledger
) -> SearchResult:
    """What the study of ``run`` has found so far; trains nothing."""
    ranked: dict[str, Ranked] = {}
    history: list[tuple[int, float]] = []
    for trial in _answered(_open_study(run, space, task, config)):
        identity = trial.user_attrs.get("candidate")
        if identity is None or identity in ranked:
            continue
        rows = [ledger.get(identity, task.score, task.setting, seed) for seed in range(config.seeds)]
        score = mean_score([row for row in rows if row is not None])
        ranked[identity] = Ranked(space.candidate(trial.params), score)
        if score.accuracy is not None:
            history.append((len(ranked), score.accuracy))
    good = [row for row in ranked.values() if row.score.accuracy is not None]
    good.sort(key=lambda row: (-(row.score.accuracy or 0.0), row.score.loss or 0.0))
    failed = tuple(row for row in ranked.values() if row.score.accuracy is None)
    return SearchResult(tuple(good), failed, tuple(history))
