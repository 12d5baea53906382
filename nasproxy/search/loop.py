"""The search loop: an Optuna study over a space; every candidate is measured by the objective, none is trained twice.

The study lives in SQLite in the run's folder, or in a PostgreSQL database that several hosts share, and can be opened
with optuna-dashboard. A process may end at any moment and nothing is lost: a trial is written at once, with all its
parameters; trainings are in the ledger before the study hears of them; a trial that was left running is measured by the
next process. What is proposed does not depend on any of this: see proposals.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from nasproxy.config import SearchConfig
from nasproxy.core.errors import NasproxyError
from nasproxy.search.callbacks import FinishedTrial, SearchCallback
from nasproxy.search.objective import Objective, single
from nasproxy.search.proposals import MAX_WALK, Proposer, SpaceExhausted
from nasproxy.search.reference_ranks import ReferenceRanks, combined_score
from nasproxy.search.study import Study
from nasproxy.search.trial_runner import TrialOutcome, TrialRunner
from nasproxy.spaces import Candidate, SpaceInspection
from nasproxy.training.jobs import Job
from nasproxy.training.results import MeanScore, mean_score
from nasproxy.training.session import Session
from nasproxy.training.tasks import Task

STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


@dataclass(frozen=True)
class SearchedCandidate:
    """One candidate of a search.

    Args:
        score: by the objective; of a candidate that was pruned, the score of its last rung.
        against: what is minimised at the same time.
    """

    candidate: Candidate
    score: MeanScore
    against: tuple[float, ...] = ()


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Args:
        inspection: the space, and which of its candidates can be built.
        config: the settings of the search.
        objective: what was maximised.
        ranking: the complete candidates, best first; the held-out loss breaks ties.
        failed: the candidates that could not be measured.
        history: number of candidates so far, and the score of that candidate, in the order of proposals.
        pruned: the candidates that were ended at a rung.
        front: the Pareto front: candidates that no other beats in the score and in everything of ``against``.
        seconds: of all measurements.
        reference_ranks: the reference candidates of a sum.
    """

    inspection: SpaceInspection
    config: SearchConfig
    objective: Objective
    ranking: tuple[SearchedCandidate, ...] = ()
    failed: tuple[SearchedCandidate, ...] = ()
    history: tuple[tuple[int, float], ...] = ()
    pruned: tuple[SearchedCandidate, ...] = ()
    front: tuple[SearchedCandidate, ...] = ()
    seconds: float = 0.0
    reference_ranks: ReferenceRanks | None = None

    @property
    def unpruned_seconds(self) -> float | None:
        """Estimated seconds of the same search without rungs: complete candidates give the mean; None without any."""
        if not self.ranking:
            return None
        mean = sum(row.score.seconds for row in self.ranking) / len(self.ranking)
        return mean * (len(self.ranking) + len(self.pruned)) + sum(row.score.seconds for row in self.failed)


def run_search(
    inspection: SpaceInspection,
    objective: Objective | Task,
    config: SearchConfig,
    session: Session,
    *,
    callback: SearchCallback | None = None,
) -> SearchResult:
    """Evaluates ``config.trials`` distinct candidates in total, or all valid ones of a smaller space.

    The same call resumes a search; with more trials it continues. Several hosts may call it at the same time with one
    database: each candidate is trained by one of them. Candidates that ``inspection`` found impossible are told to the
    study as pruned and are not counted.

    Args:
        inspection: the space, from :func:`~nasproxy.spaces.inspect_space`.
        objective: from :func:`~nasproxy.search.objective.make_objective`; or a task, which is then maximised alone.
        config: the settings of the search.
        session: the run, from :func:`~nasproxy.search.open_session.open_session`.
        callback: is told of every trial that ended.

    Raises:
        NasproxyError: when the run holds a study of another space, objective or sampler, or when ``brute-force`` is
            asked for a space that is not finite.
    """
    space, size = inspection.space, inspection.space.size()
    if config.sampler == "brute-force" and (size is None or size > MAX_WALK):
        raise NasproxyError(
            f"--sampler brute-force needs a space of at most {MAX_WALK:,} candidates, but '{space.name}' has "
            f"{'infinitely many' if size is None else f'{size:,}'}: give its ranges steps, or use another sampler."
        )
    objective = objective if isinstance(objective, Objective) else single(objective)
    with Study(session.run, space, objective, config, session.ledger, workers=session.crew.size) as study:
        runner = _runner(study, inspection, objective, config, session)
        _Loop(study, runner, inspection, config).run(callback)
        return _result(study, runner, inspection, config)


def search_result(
    inspection: SpaceInspection, objective: Objective | Task, config: SearchConfig, session: Session
) -> SearchResult:
    """What the study of a run has found so far. Only the reference candidates of a sum are measured, if missing.

    Raises:
        NasproxyError: when the run holds a study of another space, objective or sampler.
    """
    objective = objective if isinstance(objective, Objective) else single(objective)
    with Study(session.run, inspection.space, objective, config, session.ledger) as study:
        return _result(study, _runner(study, inspection, objective, config, session), inspection, config)


def _runner(
    study: Study, inspection: SpaceInspection, objective: Objective, config: SearchConfig, session: Session
) -> TrialRunner:
    runner = TrialRunner(inspection.space, objective, config, session.coordinator(), study.pending)
    if objective.is_sum:
        runner.measure_references(inspection, config.seed)
    return runner


class _Loop:
    """Proposes trials, has them measured and tells the study, until ``config.trials`` candidates have an outcome."""

    def __init__(self, study: Study, runner: TrialRunner, inspection: SpaceInspection, config: SearchConfig) -> None:
        self._study, self._runner = study, runner
        self._proposer = Proposer(
            inspection.space,
            inspection,
            sampler=config.sampler,
            seed=config.seed,
            pending=study.pending,
            num_against=len(runner.objective.against),
        )
        self._total = config.trials if inspection.num_valid is None else min(config.trials, inspection.num_valid)
        self._exhausted = False  # the space has no candidate left to propose
        self._candidates: set[str] = set()  # that have an outcome
        self._settled = 0  # all trials before this one have their outcome
        self._told: set[int] = set()  # and so have these after it

    def run(self, callback: SearchCallback | None) -> None:
        earlier = True  # the first round finds what an earlier process finished
        while True:
            finished, running = self._outcomes(earlier=earlier)
            earlier = False
            if callback is not None:
                callback.update(min(len(self._candidates), self._total), self._total, finished)
            if not running and (len(self._candidates) >= self._total or self._exhausted):
                return
            self._runner.coordinator.step(self._jobs(self._study.trials()))

    def _outcomes(self, *, earlier: bool) -> tuple[list[FinishedTrial], int]:
        """The trials that ended since the last call, which are told to the study; and how many are running."""
        trials = self._study.trials()
        finished: list[FinishedTrial] = []
        running = 0
        for number in range(self._settled, len(trials)):
            trial = trials[number]
            if "reason" in trial.user_attrs or number in self._told:
                continue
            if trial.state == TrialState.RUNNING:
                outcome = self._runner.advance(trial, trials)
                if isinstance(outcome, list):
                    running += 1
                    continue
                self._study.tell(number, outcome)
            else:  # told by an earlier process, or by another host
                outcome = TrialOutcome(trial.state, trial.values, trial.intermediate_values)
            self._told.add(number)
            self._candidates.add(trial.user_attrs["candidate"])
            before = earlier and trial.state.is_finished()
            finished.append(_finished(trial, outcome, self._runner.objective, before=before))
        while self._settled in self._told or (
            self._settled < len(trials) and "reason" in trials[self._settled].user_attrs
        ):
            self._told.discard(self._settled)
            self._settled += 1
        return finished, running

    def _jobs(self, trials: list[FrozenTrial]) -> Iterator[Job]:
        """What must be measured now: for running trials first, then for new ones, which are proposed as needed."""
        for trial in trials[self._settled :]:
            if trial.state == TrialState.RUNNING:
                yield from self._jobs_of(trial, trials)
        while not self._exhausted:
            proposal = self._propose()
            if proposal is None:
                return
            if proposal.state == TrialState.RUNNING:
                yield from self._jobs_of(proposal, self._study.trials())

    def _jobs_of(self, trial: FrozenTrial, trials: list[FrozenTrial]) -> list[Job]:
        found = self._runner.advance(trial, trials)
        return found if isinstance(found, list) else []

    def _propose(self) -> FrozenTrial | None:
        """The next trial, added to the study; None when there is none to propose now."""
        study = self._study
        with study.ledger.exclusive(f"propose {study.name}"):
            trials = study.trials()
            self._proposer.catch_up(trials)
            if len(self._proposer.known) >= self._total:
                return None
            try:
                proposal = self._proposer.propose(trials)
            except SpaceExhausted:
                self._exhausted = True
                return None
            if proposal is not None:
                study.add(proposal)
        return proposal


def _finished(trial: FrozenTrial, outcome: TrialOutcome, objective: Objective, *, before: bool) -> FinishedTrial:
    complete = outcome.state == TrialState.COMPLETE and outcome.values is not None
    values = list(outcome.values or ()) if complete else []
    return FinishedTrial(
        number=trial.number,
        candidate=trial.user_attrs["candidate"],
        params=trial.params,
        state=STATES[outcome.state],
        score=values[0] if complete else None,
        against={task.score: value for task, value in zip(objective.against, values[1:], strict=False)},
        rungs=[value for _, value in sorted(outcome.rungs.items())],
        before=before,
    )


def _result(study: Study, runner: TrialRunner, inspection: SpaceInspection, config: SearchConfig) -> SearchResult:
    objective = runner.objective
    scored: dict[str, SearchedCandidate] = {}
    pruned: dict[str, SearchedCandidate] = {}
    history: list[tuple[int, float]] = []
    seconds: dict[tuple[str, str, str], float] = {}  # of each job once, however many trials ask for it

    def score_by(candidate: Candidate, task: Task) -> MeanScore:
        job = runner.job(candidate, task)
        score = mean_score(runner.coordinator.evaluations(job) or [])
        seconds.setdefault(job.key, score.seconds)
        return score

    for trial in study.trials():
        if not trial.state.is_finished() or "reason" in trial.user_attrs:
            continue
        candidate = runner.space.candidate(trial.params)
        measured = objective.rungs[: max(1, len(trial.intermediate_values))]
        rungs = [score_by(candidate, task) for task in measured]
        if trial.state == TrialState.PRUNED:
            pruned.setdefault(candidate.id, SearchedCandidate(candidate, rungs[-1]))
        elif candidate.id not in scored:
            if rungs and rungs[-1].value is None:
                scored[candidate.id] = SearchedCandidate(candidate, rungs[-1])
            else:
                scores = [score_by(candidate, task) for task in objective.tasks]
                score, against = combined_score(objective, runner.reference_ranks, scores)
                scored[candidate.id] = SearchedCandidate(candidate, score, against)
            value = scored[candidate.id].score.value
            if value is not None:
                history.append((len(scored.keys() | pruned.keys()), value))
    good = [row for row in scored.values() if row.score.value is not None]
    good.sort(key=lambda row: (-(row.score.value or 0.0), row.score.loss or 0.0))
    return SearchResult(
        inspection,
        config,
        objective,
        ranking=tuple(good),
        failed=tuple(row for row in scored.values() if row.score.value is None),
        history=tuple(history),
        pruned=tuple(row for identity, row in pruned.items() if identity not in scored),
        front=_front(good),
        seconds=sum(seconds.values()),
        reference_ranks=runner.reference_ranks,
    )


def _front(ranking: Sequence[SearchedCandidate]) -> tuple[SearchedCandidate, ...]:
    """The rows, best score first, that no other row equals or beats in everything and beats in something."""

    def costs(row: SearchedCandidate) -> tuple[float, ...]:
        return (-(row.score.value or 0.0), *row.against)

    front: list[SearchedCandidate] = []
    for row in sorted(ranking, key=costs):  # a row is only beaten by one before it
        beaten = (all(a <= b for a, b in zip(costs(other), costs(row), strict=True)) for other in front)
        if not any(one and costs(other) != costs(row) for one, other in zip(beaten, front, strict=True)):
            front.append(row)
    return tuple(front)
