"""Can the proxy be believed? Full-data accuracy of a uniform sample of the space, and every score held against it.

The global numbers come from candidates drawn uniformly from the space. The search's own best are trained as well, but
shown apart: a sample chosen by the score would flatter or damn it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from nasproxy.config import SearchConfig, ValidateConfig
from nasproxy.core.devices import DeviceChoice
from nasproxy.core.errors import NasproxyError
from nasproxy.correlation import effects
from nasproxy.data import Dataset
from nasproxy.data.proxy_set import ProxySet, check_fit
from nasproxy.report.data import CorrelationReport
from nasproxy.scores.baselines import Making
from nasproxy.scores.full_training import full_task
from nasproxy.scores.proxy import candidate_recipe, proxy_task
from nasproxy.scores.registry import SCORES, make_task, score_names
from nasproxy.scores.spending import spending_of
from nasproxy.search.loop import SearchResult
from nasproxy.spaces import SearchSpace, SpaceInspection, uniform_sample
from nasproxy.training.coordinator import Coordinator
from nasproxy.training.crew import Crew
from nasproxy.training.jobs import Job
from nasproxy.training.ledger import Ledger
from nasproxy.training.results import Evaluation, FailureKind, MeanScore, mean_score
from nasproxy.training.tasks import Task, TrainingTask
from nasproxy.validation.costs import costs
from nasproxy.validation.measured import COUNTED, Measured, reliability_of, truths_of
from nasproxy.validation.pictures import pictures_of
from nasproxy.validation.summary import (
    candidate_row,
    columns_of,
    differences_of,
    epochs_of,
    failures,
    front_points,
    pick_of,
    reproducibility,
    strata_of,
    summaries_of,
    truth_note,
)
from nasproxy.validation.truth_table import Truth

# At equal total cost a rival must be able to spend at least so much more, or it is the one at equal training cost.
LEAST_TIMES = 1.02

DRAWN = ("random_subset", "random_total")


def validate(
    space: SearchSpace,
    proxy: ProxySet,
    dataset: Dataset,
    task: TrainingTask,
    search: SearchResult,
    *,
    search_config: SearchConfig,
    config: ValidateConfig,
    inspection: SpaceInspection,
    ledger: Ledger,
    crew: Crew,
    choice: DeviceChoice,
    truth: Truth | None = None,
    beside: Sequence[ProxySet] = (),
    folder: Path | None = None,
    notes: tuple[str, ...] = (),
    commands: tuple[str, ...] = (),
    progress: Callable[[int, int, str], None] | None = None,
) -> CorrelationReport:
    """Trains what is missing and puts the report together. Everything trained is kept in ``ledger``: call it again.

    Args:
        task: the score "proxy", as the search used it.
        choice: the device that ``crew`` trains on, for the record.
        truth: full accuracies from a table; nothing is then trained on the full data, and the sample and the top are
            drawn from the table's candidates.
        beside: other proxy sets of the same data, each a score, trained by its own recipe (or the search's, where that
            has another) for as many epochs; by one that was learned for its own.
        folder: keeps what is computed for the baselines.

    Raises:
        NasproxyError: when a set of ``beside`` was made of other data.
    """
    sample = uniform_sample(
        inspection, config.sample, config.seed, among=lambda c: truth is None or c.id in truth.accuracy
    )
    top = [row.candidate for row in search.ranking if truth is None or row.candidate.id in truth.accuracy][: config.top]
    notes_list = list(notes)
    making = Making(
        recipe=task.recipe,
        precision=task.precision,
        device=choice.device,
        folder=folder,
        spending=spending_of(proxy, dataset, task, inspection, search_config),
        progress=progress,
    )
    measured_by: dict[str, Task] = {"proxy": task}
    for other in beside:
        check_fit(other, dataset)
        recipe = candidate_recipe(other, dataset, replace(search_config, epochs=None))
        if not recipe.learned:
            recipe = replace(recipe, epochs=task.recipe.epochs)
        name = f"{other.method}-{other.content_id[:8]}"
        rival = proxy_task(other, dataset, recipe, precision=task.precision, score=name)
        if rival.label in [known.label for known in measured_by.values()]:  # of the same method and size
            rival = replace(rival, label=f"{rival.label[:-1]}, {other.content_id[:8]})")
        measured_by[name] = rival
    full = full_task(dataset, config) if truth is None else None
    test = full_task(dataset, config, split="test") if truth is None else None
    # Rivals can cost as much as a proxy set to make; the search's best alone are not held against them.
    asked = ("random_subset", *score_names(config.scores)) if sample else ()
    totals_spared = making.times(True) < LEAST_TIMES
    if full is not None and making.spending is not None and any(SCORES[name].total for name in asked):
        seen, fully = (each.recipe.epochs * len(each.train.images) for each in (task, full))
        if making.spending.buys_full_training(seen, fully):
            totals_spared = True
            notes_list.append(
                f"No rivals at equal total cost: making the proxy set and training {search_config.trials} candidates "
                f"on it costs {making.times(True):.0f} times as much as the training alone, for which each of them "
                "could have been trained fully."
            )
    for name in asked:
        if name in (*measured_by, *COUNTED) or (SCORES[name].total and totals_spared):
            continue
        try:
            measured_by[name] = make_task(name, proxy, dataset, making=making)
        except NasproxyError as error:
            notes_list.append(f"No row for {name}: {error}")
    for own in search.objective.tasks:
        if own.score not in COUNTED:
            measured_by.setdefault(own.score, own)
    # A draw for each seed: otherwise the luck of one would count as what random images know.
    draws = {
        name: [
            make_task(name, proxy, dataset, making=replace(making, draw=seed)) for seed in range(search_config.seeds)
        ]
        for name in DRAWN
        if name in measured_by
    }

    for name, drawn in draws.items():
        if len(drawn) > 1:
            measured_by[name] = replace(drawn[0], label=f"{drawn[0].label[:-1]}, {len(drawn)} draws)")
    for name, own in measured_by.items():
        if isinstance(own, TrainingTask) and (num_sets := own.num_sets(search_config.seeds)) > 1:
            measured_by[name] = replace(own, label=f"{own.label[:-1]}, {num_sets} sets)")
    # Interrupted early, the run should still have complete candidates: all scores of one, then the next.
    chosen = [(candidate, "sample") for candidate in sample] + [(candidate, "top") for candidate in top]
    jobs: dict[tuple[int, str, int], Job] = {}
    for place, (candidate, group) in enumerate(chosen):
        tasks = dict(measured_by) if group == "sample" else {"proxy": task}
        if full is not None:
            tasks["full"] = full
        for name, each in tasks.items():
            seeds = tuple(range(config.seeds if name == "full" else search_config.seeds))
            for part, (own_task, own_seeds) in enumerate(
                [(each, seeds)] if name not in draws else [(drawn, (seed,)) for seed, drawn in enumerate(draws[name])]
            ):
                jobs[place, name, part] = Job(own_task, space, candidate.id, candidate.params, own_seeds)
    coordinator = Coordinator(crew, ledger)
    total = len(jobs) + (test is not None and bool(top))  # the pick is trained once more for its test accuracy

    def trained_so_far(done: int, _: int) -> None:
        if progress is not None:
            progress(done, total, "")

    measured = [Measured(candidate, group, {}) for candidate, group in chosen]
    found: dict[tuple[int, str], list[Evaluation]] = {}
    for (place, name, _), rows in zip(jobs, coordinator.finish(list(jobs.values()), trained_so_far), strict=True):
        found.setdefault((place, name), []).extend(rows)
    for (place, name), rows in found.items():
        measured[place].scores[name] = mean_score(rows)
        values = tuple(row.value for row in rows if row.value is not None)
        measured[place].by_seed[name] = values if len(values) == len(rows) else ()
    for one in measured:
        if truth is not None:
            one.scores["full"] = MeanScore(truth.accuracy[one.candidate.id], None, 0.0)
    trained = [name for name, own in measured_by.items() if isinstance(own, TrainingTask)]
    complete = [
        one
        for one in measured
        if one.group == "sample" and all(one.scores[name].value is not None for name in ("full", *trained))
    ]
    for name in [name for name in measured_by if name not in trained]:
        undefined = [one.scores[name] for one in complete if one.scores[name].value is None]
        all_lowest = all(score.failure_kind is FailureKind.MINUS_INFINITY for score in undefined)
        if undefined and all_lowest and len(undefined) < len(complete):
            notes_list.append(
                f"{measured_by[name].label} is minus infinity for {len(undefined)} of {len(complete)} candidates, "
                "which it ranks last."
            )
        elif undefined:
            label = measured_by.pop(name).label
            notes_list.append(
                f"No row for {label}: it could not be measured for {len(undefined)} of {len(complete)} candidates "
                f"({undefined[0].failure})."
            )
    columns = columns_of(complete, inspection, measured_by, search)
    places = {id(one): place for place, one in enumerate(complete)}
    candidates = tuple(
        candidate_row(one, inspection, {name: float(column[places[id(one)]]) for name, column in columns.items()})
        if id(one) in places
        else candidate_row(one, inspection, {})
        for one in measured
    )
    difference, compared = differences_of(complete, columns, config.seed)
    pick, pick_test = pick_of(candidates, search, inspection), None
    if pick is not None and test is not None and pick.truth is not None:
        if progress is not None:
            progress(len(jobs), total, "test accuracy of the pick")
        job = Job(test, space, pick.id, pick.params, tuple(range(config.seeds)))
        pick_test = mean_score(coordinator.finish([job])[0])
    if progress is not None and total:
        progress(total, total, "")
    pictures, pictures_note = pictures_of(proxy, dataset)
    return CorrelationReport(
        title=f"{space.name} on {dataset.name}",
        dataset=dataset.name,
        space=space.name,
        space_size=space.size(),
        num_invalid=inspection.num_invalid,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        candidates=candidates,
        scores=summaries_of(complete, columns, measured_by, inspection, config),
        difference=difference,
        differences=compared,
        ceiling=reliability_of(complete, "full", config.seed),
        sample_seconds=_mean_seconds(complete, None),
        effects=effects(truths_of(complete), strata_of(complete, inspection), seed=config.seed),
        epochs=epochs_of(complete, columns, config.seed),
        full_seconds=None if full is None else _mean_seconds(complete, "full"),
        history=search.history,
        objective=search.objective.name,
        in_percent=search.objective.trained is not None,
        against=tuple(own.score for own in search.objective.against),
        front=front_points(search),
        pick=pick,
        pick_test_accuracy=pick_test.value if pick_test else None,
        pick_test_std=pick_test.std if pick_test else None,
        failures=failures(measured, search),
        costs=costs(measured, search, search_config, proxy, full, config, inspection, making.spending),
        pictures=pictures,
        pictures_note=pictures_note,
        truth_note=truth_note(dataset, config, truth),
        notes=tuple(notes_list),
        reproducibility=reproducibility(space, proxy, dataset, search_config, config, task, choice),
        commands=commands,
    )


def _mean_seconds(complete: list[Measured], only: str | None) -> float | None:
    """What a candidate of the sample took, for one score or for full training and all scores together."""
    totals = [sum(s.seconds for name, s in one.scores.items() if only in (None, name)) for one in complete]
    return sum(totals) / len(totals) if totals else None
