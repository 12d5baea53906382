"""Can a score be believed? A uniform sample of the space is trained fully, and every score is compared with that truth.

The correlations are over candidates that are drawn uniformly from the space. The search's own best candidates are
trained as well, but shown apart: they were chosen by the score, and such a sample would flatter it or damn it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from nasproxy.config import ValidateConfig
from nasproxy.data import Dataset
from nasproxy.data.proxy_set import ProxySet
from nasproxy.report.data import CorrelationReport
from nasproxy.scores.measuring import shared
from nasproxy.search.loop import SearchResult
from nasproxy.training.jobs import Job
from nasproxy.training.results import Evaluation, FailureKind, MeanScore, mean_score
from nasproxy.training.session import Session
from nasproxy.validation.measured import ValidatedCandidate, Validation, choose_candidates
from nasproxy.validation.score_tasks import ScoreTasks, score_tasks
from nasproxy.validation.summary import candidate_rows, columns_of, pick_of, report_of
from nasproxy.validation.truth_length import train_longer
from nasproxy.validation.truth_table import Truth

Progress = Callable[[int, int, str], None]


def validate(
    search: SearchResult,
    proxy: ProxySet,
    dataset: Dataset,
    config: ValidateConfig,
    session: Session,
    *,
    truth: Truth | None = None,
    beside: Sequence[ProxySet] = (),
    notes: Sequence[str] = (),
    commands: Sequence[str] = (),
    progress: Progress | None = None,
) -> CorrelationReport:
    """Trains what is missing and makes the report. All trainings are kept in the run: the same call resumes.

    Args:
        search: what :func:`~nasproxy.search.loop.run_search` found on ``proxy``.
        proxy: the proxy set of the search.
        dataset: the data that ``proxy`` was made of.
        config: the settings of the validation.
        session: the run, from :func:`~nasproxy.search.open_session.open_session`.
        truth: full accuracies from a table. Nothing is then trained fully, and all candidates are in the table.
        beside: other proxy sets of the same data; each is a score.
        notes: what a reader of the report must know, besides what is found here.
        commands: commands that repeat the run, for the report.
        progress: is called with trainings done, in total, and a note.

    Raises:
        NasproxyError: when a set of ``beside`` was made of other data.
    """
    validation = Validation(search, proxy, dataset, config, session, truth)
    candidates = choose_candidates(validation)
    tasks = score_tasks(validation, candidates, beside, progress)
    tests_pick = int(tasks.test is not None and any(one.group == "top" for one in candidates))
    longer = min(len(candidates), config.num_checked(len(dataset.train))) if tasks.full is not None else 0
    total = _measure(validation, candidates, tasks, more=longer + tests_pick, progress=progress)
    before = total - longer - tests_pick

    def report_longer(done: int) -> None:
        if progress is not None:
            progress(before + done, total, "longer training, to check full training")

    train_longer(validation, candidates, report_longer)
    complete = [
        one
        for one in candidates
        if one.group == "sample" and all(one.scores[name].value is not None for name in ("full", *tasks.trained))
    ]
    tasks = _without_undefined(tasks, complete)
    columns = columns_of(complete, tasks.by_name, search)
    rows = candidate_rows(candidates, complete, columns, search.inspection)
    pick, tested = pick_of(rows, search), None
    if pick is not None and pick.truth is not None and tasks.test is not None:
        if progress is not None:
            progress(total - 1, total, "test accuracy of the pick")
        job = Job(tasks.test, search.inspection.space, pick.id, pick.params, tuple(range(config.seeds)))
        tested = mean_score(session.coordinator().finish([job])[0])
    if progress is not None and total:
        progress(total, total, "")
    report = report_of(validation, tasks, candidates, complete, columns)
    return replace(
        report,
        candidates=rows,
        pick=pick,
        pick_test_accuracy=tested.value if tested else None,
        pick_test_std=tested.std if tested else None,
        notes=(*notes, *tasks.notes),
        commands=tuple(commands),
    )


def _measure(
    validation: Validation,
    candidates: list[ValidatedCandidate],
    tasks: ScoreTasks,
    *,
    more: int,
    progress: Progress | None,
) -> int:
    """Measures all scores and the truth of ``candidates``, into their ``scores`` and ``by_seed``.

    All scores of one candidate come before those of the next, so that an interrupted run has complete candidates.
    ``more`` trainings follow later and count in the progress.

    Returns:
        The number of all trainings and measurements.
    """
    jobs: dict[tuple[int, str, int], Job] = {}
    search, truth = validation.search, validation.truth
    space, seeds = search.inspection.space, tuple(range(search.config.seeds))
    by_name = dict(zip(tasks.by_name, shared(list(tasks.by_name.values())), strict=True))
    for place, one in enumerate(candidates):
        wanted = dict(by_name) if one.group == "sample" else {"proxy": tasks.proxy}
        if tasks.full is not None:
            wanted["full"] = tasks.full
        for name, task in wanted.items():
            own_seeds = tuple(range(validation.config.seeds)) if name == "full" else seeds
            parts = [(task, own_seeds)]
            if name in tasks.draws:
                parts = [(drawn, (seed,)) for seed, drawn in enumerate(tasks.draws[name])]
            for part, (own, its_seeds) in enumerate(parts):
                jobs[place, name, part] = Job(own, space, one.candidate.id, one.candidate.params, its_seeds)

    def report(done: int, _: int) -> None:
        if progress is not None:
            progress(done, len(jobs) + more, "")

    found: dict[tuple[int, str], list[Evaluation]] = {}
    evaluations = validation.session.coordinator().finish(list(jobs.values()), report)
    for (place, name, _), rows in zip(jobs, evaluations, strict=True):
        found.setdefault((place, name), []).extend(rows)
    for (place, name), rows in found.items():
        candidates[place].scores[name] = mean_score(rows)
        values = tuple(row.value for row in rows if row.value is not None)
        candidates[place].by_seed[name] = values if len(values) == len(rows) else ()
    if truth is not None:
        for one in candidates:
            one.scores["full"] = MeanScore(truth.accuracy[one.candidate.id], None, 0.0)
    return len(jobs) + more


def _without_undefined(tasks: ScoreTasks, complete: list[ValidatedCandidate]) -> ScoreTasks:
    """``tasks`` without scores that some candidate has none of, each with a note.

    A score that is minus infinity for some candidates stays: it ranks them last.
    """
    kept, notes = dict(tasks.by_name), list(tasks.notes)
    for name in [name for name in kept if name not in tasks.trained]:
        undefined = [one.scores[name] for one in complete if one.scores[name].value is None]
        label = kept[name].label
        all_lowest = all(score.failure_kind is FailureKind.MINUS_INFINITY for score in undefined)
        if undefined and all_lowest and len(undefined) < len(complete):
            notes.append(
                f"{label} is minus infinity for {len(undefined)} of {len(complete)} candidates, which it ranks last."
            )
        elif undefined:
            del kept[name]
            notes.append(
                f"No row for {label}: it could not be measured for {len(undefined)} of {len(complete)} candidates "
                f"({undefined[0].failure})."
            )
    return replace(tasks, by_name=kept, notes=tuple(notes))
