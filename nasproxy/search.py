"""The search: an Optuna study over a space, every candidate trained on the proxy set, nothing trained twice.

The study lives in SQLite in the run's folder, or in a PostgreSQL database that many hosts share, and can be opened with
optuna-dashboard. What ends a process at any moment loses nothing: a trial is written at once, complete with its
parameters; trainings are rows of the ledger before the study hears of them; a trial that was left running is trained by
whoever comes next. What is proposed does not depend on any of this: see proposals.py.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import optuna
from optuna.trial import FrozenTrial, TrialState

from nasproxy.config import SearchConfig, config_hash
from nasproxy.coordinator import Coordinator
from nasproxy.errors import NasproxyError
from nasproxy.evaluations import MeanScore, TrainingTask, mean_score
from nasproxy.ledger import Ledger
from nasproxy.proposals import MAX_WALK, Proposer, SpaceExhausted
from nasproxy.spaces import Candidate, SearchSpace, SpaceInspection
from nasproxy.workers import Crew, Job

STUDY_FILE = "study.sqlite"
OWNER_FILE = ".owner"
FORMAT = 2  # of a study


@dataclass(frozen=True)
class Ranked:
    """One searched candidate and its mean score on the proxy."""

    candidate: Candidate
    score: MeanScore


@dataclass(frozen=True)
class SearchResult:
    """``ranking``, best first: by held-out accuracy, the loss breaking ties. ``history``: accuracies as proposed."""

    ranking: tuple[Ranked, ...]
    failed: tuple[Ranked, ...]
    history: tuple[tuple[int, float], ...]


@contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """Holds the run folder: a second process is refused, and told which is the first; a dead one's lock is void.

    Raises:
        NasproxyError: naming the process that holds it.
    """
    from filelock import FileLock, Timeout

    run.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run / ".lock")
    owner = run / OWNER_FILE
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = owner.read_text().strip() if owner.exists() else ""
        raise NasproxyError(
            f"The run '{run}' is in use by another nasproxy process{f' ({who})' if who else ''}: wait for it, end it, "
            "or choose another --out."
        ) from None
    try:
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        yield
    finally:
        lock.release()


def default_pending(workers: int, trials: int) -> int:
    """Candidates at work at once: enough that one slow candidate leaves other workers something to do.

    A fifth of the trials, but 4 to 16, so that proposals are the same with one worker or with four; more only when
    there are more workers.
    """
    return max(workers, 4, min(16, trials // 5))


class _Study:
    """The Optuna study of one search: its trials by number."""

    def __init__(
        self,
        run: Path,
        space: SearchSpace,
        task: TrainingTask,
        config: SearchConfig,
        ledger: Ledger,
        *,
        workers: int = 1,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        identity: dict[str, Any] = {
            "format": FORMAT,
            "space": space.hash,
            "task": task.setting,
            "sampler": config.sampler,
            "seeds": config.seeds,
            "seed": config.seed,
        }
        self.ledger = ledger
        self._trials: list[FrozenTrial] | None = None
        if ledger.local:
            name, url = space.name, f"sqlite:///{run / STUDY_FILE}"
        else:
            name, url = f"{space.name}-{config_hash(identity)[:12]}", ledger.url
        self.name = name
        with ledger.exclusive(f"study {name}"):  # Optuna's schema, too, is written by one process
            self._storage = optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
            self._study = ledger.patiently(
                lambda: optuna.create_study(
                    storage=self._storage,
                    study_name=name,
                    direction="maximize",
                    load_if_exists=True,
                    sampler=optuna.samplers.RandomSampler(),  # asked nothing: see proposals.py
                )
            )
            known = self._study.user_attrs
            if "identity" not in known:
                pending = config.pending or default_pending(workers, config.trials)
                for key, value in {"pending": pending, "identity": identity}.items():  # with the last it has begun
                    ledger.patiently(partial(self._study.set_user_attr, key, value))
                known = self._study.user_attrs
        changed = [key for key in identity if known["identity"].get(key) != identity[key]]
        if changed:
            raise NasproxyError(
                f"The run '{run}' was started with another {', '.join(changed)}: its trials cannot be mixed. "
                "Choose another --out, or --fork this one."
            )
        self.pending = int(known["pending"])
        if config.pending not in (None, self.pending):
            raise NasproxyError(
                f"The run '{run}' was started with --pending {self.pending}, on which its proposals depend, but got "
                f"{config.pending}: leave it out, or choose another --out."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._storage.remove_session()
        self._storage.engine.dispose()

    def trials(self) -> list[FrozenTrial]:
        """All of them, by number. Of a file, which has one writer, they are read once."""
        if self.ledger.local and self._trials is not None:
            return self._trials
        trials = self.ledger.patiently(lambda: self._study.get_trials(deepcopy=False))
        self._trials = list(trials)
        for trial in trials:
            if "candidate" not in trial.user_attrs:
                raise NasproxyError(
                    f"Trial {trial.number} of the study '{self.name}' was not written by nasproxy, and what is "
                    "proposed depends on all trials: start a new run."
                )
        return trials

    def add(self, trial: FrozenTrial) -> None:
        """Appends ``trial``, whose number is the next one."""
        tried = False

        def write() -> None:
            nonlocal tried
            # A lost connection may hide that it was written.
            if not tried or len(self._study.get_trials(deepcopy=False)) == trial.number:
                tried = True
                self._study.add_trial(trial)

        self.ledger.patiently(write)
        if self._trials is not None:
            self._trials.append(trial)

    def tell(self, number: int, accuracy: float | None) -> None:
        """The answer to trial ``number``; None: it failed. Whoever sees all its trainings tells it."""
        state = TrialState.FAIL if accuracy is None else TrialState.COMPLETE
        with suppress(optuna.exceptions.UpdateFinishedTrialError):  # another host told the same just now
            self.ledger.patiently(lambda: self._study.tell(number, accuracy, state=state, skip_if_finished=True))
        if self._trials is not None:
            told = copy(self._trials[number])
            told.state, told.values = state, None if accuracy is None else [accuracy]
            self._trials[number] = told


def run_search(
    space: SearchSpace,
    task: TrainingTask,
    config: SearchConfig,
    *,
    inspection: SpaceInspection,
    run: Path,
    ledger: Ledger,
    crew: Crew,
    progress: Callable[[int, int, str], None] | None = None,
) -> SearchResult:
    """Evaluates ``config.trials`` distinct candidates in total, or all valid ones of a smaller space.

    Candidates that ``inspection`` found impossible are told to the study as pruned and not counted. Call it again with
    the same arguments to resume, or with more trials to go on; or on several hosts at once, with ledgers in one
    database: every candidate is trained by one of them.

    Raises:
        NasproxyError: when the run folder holds a study of another space, proxy set or sampler, or when
            ``brute-force`` is asked for a space that is not finite.
    """
    size = space.size()
    if config.sampler == "brute-force" and (size is None or size > MAX_WALK):
        raise NasproxyError(
            f"--sampler brute-force needs a space of at most {MAX_WALK:,} candidates, but '{space.name}' has "
            f"{'infinitely many' if size is None else f'{size:,}'}: give its ranges steps, or use another sampler."
        )
    with _Study(run, space, task, config, ledger, workers=crew.size) as study:
        _search(study, space, task, config, inspection=inspection, ledger=ledger, crew=crew, progress=progress)
    return search_result(space, task, config, run=run, ledger=ledger)


def _search(
    study: _Study,
    space: SearchSpace,
    task: TrainingTask,
    config: SearchConfig,
    *,
    inspection: SpaceInspection,
    ledger: Ledger,
    crew: Crew,
    progress: Callable[[int, int, str], None] | None,
) -> None:
    """Proposes, trains and tells until ``config.trials`` candidates have their answers."""
    coordinator = Coordinator(crew, ledger)
    proposer = Proposer(space, inspection, sampler=config.sampler, seed=config.seed, pending=study.pending)
    total = config.trials if inspection.num_valid is None else min(config.trials, inspection.num_valid)
    exhausted = False

    def job_of(trial: FrozenTrial) -> Job:
        candidate = space.candidate(trial.params)
        return Job(task, space, candidate.id, candidate.params, tuple(range(config.seeds)))

    def wanted(trials: list[FrozenTrial]) -> Iterator[Job]:
        nonlocal exhausted
        for trial in trials:
            if trial.state == TrialState.RUNNING:
                yield job_of(trial)
        while not exhausted:
            with ledger.exclusive(f"propose {study.name}"):
                trials = study.trials()
                proposer.catch_up(trials)
                if len(proposer.known) >= total:
                    return
                try:
                    proposal = proposer.propose(trials)
                except SpaceExhausted:
                    exhausted = True
                    return
                if proposal is None:
                    return
                study.add(proposal)
            if proposal.state == TrialState.RUNNING:
                yield job_of(proposal)

    while True:
        trials = study.trials()
        answers: dict[str, float | None] = {}
        running = 0
        for trial in trials:
            if trial.state == TrialState.RUNNING:
                rows = coordinator.evaluations(job_of(trial))
                if rows is None:
                    running += 1
                    continue
                accuracy = mean_score(rows).accuracy
                study.tell(trial.number, accuracy)
                answers[trial.user_attrs["candidate"]] = accuracy
            elif trial.state != TrialState.PRUNED:
                answers[trial.user_attrs["candidate"]] = trial.value
        if progress is not None:
            best = max((value for value in answers.values() if value is not None), default=None)
            note = f"best {100 * best:.1f} %" if best is not None else ""
            progress(min(len(answers), total), total, note)
        if not running and (len(answers) >= total or exhausted):
            break
        coordinator.step(wanted(trials))


def search_result(
    space: SearchSpace, task: TrainingTask, config: SearchConfig, *, run: Path, ledger: Ledger
) -> SearchResult:
    """What the study of ``run`` has found so far; trains nothing."""
    ranked: dict[str, Ranked] = {}
    history: list[tuple[int, float]] = []
    with _Study(run, space, task, config, ledger) as study:
        trials = study.trials()
    for trial in trials:
        identity = trial.user_attrs["candidate"]
        if trial.state not in (TrialState.COMPLETE, TrialState.FAIL) or identity in ranked:
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
