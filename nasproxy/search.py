"""The search: an Optuna study over a space, every candidate measured by the objective, nothing trained twice.

The study lives in SQLite in the run's folder, or in a PostgreSQL database that many hosts share, and can be opened with
optuna-dashboard. What ends a process at any moment loses nothing: a trial is written at once, complete with its
parameters; trainings are rows of the ledger before the study hears of them; a trial that was left running is trained by
whoever comes next. What is proposed does not depend on any of this: see proposals.py.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import optuna
from optuna.trial import FrozenTrial, TrialState

from nasproxy.climb import Answer, Climb
from nasproxy.config import SearchConfig, config_hash
from nasproxy.coordinator import Coordinator
from nasproxy.errors import NasproxyError
from nasproxy.evaluations import MeanScore, Task, mean_score
from nasproxy.ledger import Ledger
from nasproxy.objective import Objective, Standings, combined, single
from nasproxy.proposals import MAX_WALK, Proposer, SpaceExhausted, directions
from nasproxy.spaces import Candidate, SearchSpace, SpaceInspection
from nasproxy.watching import Finished, Watcher
from nasproxy.workers import Crew, Job

STUDY_FILE = "study.sqlite"
OWNER_FILE = ".owner"
FORMAT = 3  # of a study


@dataclass(frozen=True)
class Ranked:
    """One searched candidate, its score by the objective, and what that is held ``against``.

    Of a candidate that a rung ended, ``score`` is the rung's.
    """

    candidate: Candidate
    score: MeanScore
    against: tuple[float, ...] = ()


@dataclass(frozen=True)
class SearchResult:
    """``ranking``, best first: by score, the held-out loss breaking ties. ``history``: scores as proposed.

    ``pruned`` candidates were given up at a rung. ``front``: those of the ranking that no other beats in score and
    everything it is held against, best score first. ``seconds``: of all that was measured. ``standings``: those that a
    sum's scores take their rank among.
    """

    objective: Objective
    ranking: tuple[Ranked, ...]
    failed: tuple[Ranked, ...]
    history: tuple[tuple[int, float], ...]
    pruned: tuple[Ranked, ...] = ()
    front: tuple[Ranked, ...] = ()
    seconds: float = 0.0
    standings: Standings | None = None

    @property
    def unpruned_seconds(self) -> float | None:
        """What the search would have taken, had all gone all the way as those did that went; None without any."""
        if not self.ranking:
            return None
        mean = sum(row.score.seconds for row in self.ranking) / len(self.ranking)
        return mean * (len(self.ranking) + len(self.pruned)) + sum(row.score.seconds for row in self.failed)


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
        objective: Objective,
        config: SearchConfig,
        ledger: Ledger,
        *,
        workers: int = 1,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        identity: dict[str, Any] = {
            "format": FORMAT,
            "space": space.hash,
            "objective": objective.identity(),
            "sampler": config.sampler,
            "seeds": config.seeds,
            "seed": config.seed,
        }
        if objective.rungs:
            identity |= {"pruner": config.pruner, "reduction": config.reduction}
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
                    directions=directions(len(objective.against)),
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

    def tell(self, number: int, answer: Answer) -> None:
        """The answer to trial ``number``. Whoever sees all its scores tells it."""

        def write() -> None:
            with suppress(optuna.exceptions.UpdateFinishedTrialError):  # another host told the same just now
                for step, value in answer.rungs.items():
                    self._storage.set_trial_intermediate_value(self._trial_id(number), step, value)
                self._study.tell(number, answer.values, state=answer.state, skip_if_finished=True)

        self.ledger.patiently(write)
        if self._trials is not None:
            told = copy(self._trials[number])
            told.state, told.intermediate_values = answer.state, dict(answer.rungs)
            told.values = None if answer.values is None else list(answer.values)
            self._trials[number] = told

    def _trial_id(self, number: int) -> int:
        study = self._storage.get_study_id_from_name(self.name)
        return self._storage.get_trial_id_from_study_id_trial_number(study, number)


def run_search(
    space: SearchSpace,
    objective: Objective | Task,
    config: SearchConfig,
    *,
    inspection: SpaceInspection,
    run: Path,
    ledger: Ledger,
    crew: Crew,
    watch: Watcher | None = None,
) -> SearchResult:
    """Evaluates ``config.trials`` distinct candidates in total, or all valid ones of a smaller space.

    Candidates that ``inspection`` found impossible are told to the study as pruned and not counted. Call it again with
    the same arguments to resume, or with more trials to go on; or on several hosts at once, with ledgers in one
    database: every candidate is trained by one of them.

    Args:
        objective: see :func:`~nasproxy.objective.make_objective`; a task alone stands for the best by it.

    Raises:
        NasproxyError: when the run folder holds a study of another space, objective or sampler, or when
            ``brute-force`` is asked for a space that is not finite.
    """
    if not isinstance(objective, Objective):
        objective = single(objective)
    size = space.size()
    if config.sampler == "brute-force" and (size is None or size > MAX_WALK):
        raise NasproxyError(
            f"--sampler brute-force needs a space of at most {MAX_WALK:,} candidates, but '{space.name}' has "
            f"{'infinitely many' if size is None else f'{size:,}'}: give its ranges steps, or use another sampler."
        )
    with _Study(run, space, objective, config, ledger, workers=crew.size) as study:
        climb = Climb(space, objective, config, Coordinator(crew, ledger), study.pending)
        if objective.is_sum:
            climb.measure_references(inspection, config.seed)
        _search(study, climb, config, inspection=inspection, watch=watch)
        return _result(study, climb)


def _search(
    study: _Study,
    climb: Climb,
    config: SearchConfig,
    *,
    inspection: SpaceInspection,
    watch: Watcher | None,
) -> None:
    """Proposes, measures and tells until ``config.trials`` candidates have their answers."""
    objective, ledger = climb.objective, study.ledger
    proposer = Proposer(
        climb.space,
        inspection,
        sampler=config.sampler,
        seed=config.seed,
        pending=study.pending,
        num_against=len(objective.against),
    )
    total = config.trials if inspection.num_valid is None else min(config.trials, inspection.num_valid)
    exhausted = False
    answered: set[str] = set()  # candidates
    before = True  # in an earlier process
    settled = 0  # trials before it have their answers
    told: set[int] = set()  # and these after it

    def wanted(trials: list[FrozenTrial]) -> Iterator[Job]:
        nonlocal exhausted
        for trial in trials[settled:]:
            if trial.state == TrialState.RUNNING:
                found = climb.look(trial, trials)
                yield from found if isinstance(found, list) else ()
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
                found = climb.look(proposal, study.trials())
                yield from found if isinstance(found, list) else ()

    while True:
        trials = study.trials()
        running = 0
        finished: list[Finished] = []
        for number in range(settled, len(trials)):
            trial = trials[number]
            if "reason" in trial.user_attrs or number in told:
                continue
            if trial.state == TrialState.RUNNING:
                found = climb.look(trial, trials)
                if isinstance(found, list):
                    running += 1
                    continue
                study.tell(number, found)
            else:  # by an earlier process, or another host
                found = Answer(trial.state, trial.values, trial.intermediate_values)
            told.add(number)
            answered.add(trial.user_attrs["candidate"])
            finished.append(_finished(trial, found, objective, before=before and trial.state.is_finished()))
        while settled in told or (settled < len(trials) and "reason" in trials[settled].user_attrs):
            told.discard(settled)
            settled += 1
        before = False
        if watch is not None:
            watch.update(min(len(answered), total), total, finished)
        if not running and (len(answered) >= total or exhausted):
            break
        climb.coordinator.step(wanted(study.trials()))


def _finished(trial: FrozenTrial, answer: Answer, objective: Objective, *, before: bool) -> Finished:
    states = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    complete = answer.state == TrialState.COMPLETE and answer.values is not None
    values = list(answer.values or ()) if complete else []
    return Finished(
        number=trial.number,
        candidate=trial.user_attrs["candidate"],
        params=trial.params,
        state=states[answer.state],
        score=values[0] if complete else None,
        against={task.score: value for task, value in zip(objective.against, values[1:], strict=False)},
        rungs=[value for _, value in sorted(answer.rungs.items())],
        before=before,
    )


def search_result(
    space: SearchSpace,
    objective: Objective | Task,
    config: SearchConfig,
    *,
    inspection: SpaceInspection,
    run: Path,
    ledger: Ledger,
    crew: Crew,
) -> SearchResult:
    """What the study of ``run`` has found so far; measures nothing but the references of a sum, if they are missing."""
    if not isinstance(objective, Objective):
        objective = single(objective)
    with _Study(run, space, objective, config, ledger) as study:
        climb = Climb(space, objective, config, Coordinator(crew, ledger), study.pending)
        if objective.is_sum:
            climb.measure_references(inspection, config.seed)
        return _result(study, climb)


def _result(study: _Study, climb: Climb) -> SearchResult:
    objective = climb.objective
    scored: dict[str, Ranked] = {}
    pruned: dict[str, Ranked] = {}
    history: list[tuple[int, float]] = []
    seconds = 0.0
    counted: set[tuple[str, str, str]] = set()

    def score_by(candidate: Candidate, task: Task) -> MeanScore:
        nonlocal seconds
        job = climb.job(candidate, task)
        score = mean_score(climb.coordinator.evaluations(job) or [])
        if job.key not in counted:
            counted.add(job.key)
            seconds += score.seconds
        return score

    for trial in study.trials():
        if not trial.state.is_finished() or "reason" in trial.user_attrs:
            continue
        candidate = climb.space.candidate(trial.params)
        rungs = [
            score_by(candidate, task)
            for _, task in zip(
                range(max(1, len(trial.intermediate_values))) if objective.rungs else (), objective.rungs, strict=False
            )
        ]
        if trial.state == TrialState.PRUNED:
            pruned.setdefault(candidate.id, Ranked(candidate, rungs[-1]))
        elif candidate.id not in scored:
            against: tuple[float, ...] = ()
            if rungs and rungs[-1].value is None:
                score = rungs[-1]
            else:
                tasks = [score_by(candidate, task) for task in objective.tasks]
                score, against = combined(objective, climb.standings, tasks)
            scored[candidate.id] = Ranked(candidate, score, against)
            if score.value is not None:
                history.append((len(scored.keys() | pruned.keys()), score.value))
    good = [row for row in scored.values() if row.score.value is not None]
    good.sort(key=lambda row: (-(row.score.value or 0.0), row.score.loss or 0.0))
    failed = tuple(row for row in scored.values() if row.score.value is None)
    ended = tuple(row for identity, row in pruned.items() if identity not in scored)
    return SearchResult(objective, tuple(good), failed, tuple(history), ended, _front(good), seconds, climb.standings)


def _front(ranking: Sequence[Ranked]) -> tuple[Ranked, ...]:
    """The rows, best score first, that no other row equals or beats in everything and beats in something."""

    def costs(row: Ranked) -> tuple[float, ...]:
        return (-(row.score.value or 0.0), *row.against)

    front: list[Ranked] = []
    for row in sorted(ranking, key=costs):  # a row is only beaten by one before it
        beaten = (all(a <= b for a, b in zip(costs(other), costs(row), strict=True)) for other in front)
        if not any(one and costs(other) != costs(row) for one, other in zip(beaten, front, strict=True)):
            front.append(row)
    return tuple(front)
