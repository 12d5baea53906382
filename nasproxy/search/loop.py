"""The search: an Optuna study over a space, every candidate measured by the objective, nothing trained twice.

The study lives in SQLite in the run's folder, or in a PostgreSQL database that many hosts share, and can be opened with
optuna-dashboard. What ends a process at any moment loses nothing: a trial is written at once, complete with its
parameters; trainings are rows of the ledger before the study hears of them; a trial that was left running is trained by
whoever comes next. What is proposed does not depend on any of this: see proposals.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from nasproxy.config import SearchConfig
from nasproxy.core.errors import NasproxyError
from nasproxy.search.callbacks import Finished, Watcher
from nasproxy.search.objective import Objective, single
from nasproxy.search.proposals import MAX_WALK, Proposer, SpaceExhausted
from nasproxy.search.standings import Standings, combined
from nasproxy.search.study import Study
from nasproxy.search.trial_runner import Answer, Climb
from nasproxy.spaces import Candidate, SearchSpace, SpaceInspection
from nasproxy.training.coordinator import Coordinator
from nasproxy.training.crew import Crew
from nasproxy.training.jobs import Job
from nasproxy.training.ledger import Ledger
from nasproxy.training.results import MeanScore, mean_score
from nasproxy.training.tasks import Task


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
        objective: see :func:`~nasproxy.search.objective.make_objective`; a task alone stands for the best by it.

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
    with Study(run, space, objective, config, ledger, workers=crew.size) as study:
        climb = Climb(space, objective, config, Coordinator(crew, ledger), study.pending)
        if objective.is_sum:
            climb.measure_references(inspection, config.seed)
        _search(study, climb, config, inspection=inspection, watch=watch)
        return _result(study, climb)


def _search(
    study: Study,
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
    with Study(run, space, objective, config, ledger) as study:
        climb = Climb(space, objective, config, Coordinator(crew, ledger), study.pending)
        if objective.is_sum:
            climb.measure_references(inspection, config.seed)
        return _result(study, climb)


def _result(study: Study, climb: Climb) -> SearchResult:
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
