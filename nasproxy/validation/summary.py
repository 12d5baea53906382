"""What was measured of the validated candidates, as the rows, summaries and costs of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from nasproxy.config import Recipe, ValidateConfig
from nasproxy.core.devices import hardware, versions
from nasproxy.correlation import (
    AgainstRival,
    Difference,
    Estimate,
    against_rivals,
    biases,
    corrected,
    cutoffs,
    differences,
    effects,
    grouped,
    parts,
    rank_agreement,
    rank_correlation,
    rivals_of,
)
from nasproxy.data import Dataset
from nasproxy.report.data import (
    CandidateRow,
    CorrelationReport,
    EpochAgreement,
    FrontPoint,
    ParameterRival,
    ScoreSummary,
)
from nasproxy.scores.zero_cost import ZERO_COST
from nasproxy.search.loop import SearchResult
from nasproxy.search.reference_ranks import combined_score
from nasproxy.spaces import SpaceInspection
from nasproxy.training.results import MeanScore
from nasproxy.training.tasks import Task, TrainingTask
from nasproxy.validation.calibration import calibration_of
from nasproxy.validation.costs import costs
from nasproxy.validation.failures import failures, ranking_score, with_failures_last
from nasproxy.validation.loss_curves import loss_curves_of
from nasproxy.validation.measured import (
    COUNTED,
    TRUTHS,
    ValidatedCandidate,
    Validation,
    one_training,
    reliability_of,
    truths_of,
)
from nasproxy.validation.pictures import pictures_of
from nasproxy.validation.replays import replayed_ways
from nasproxy.validation.score_tasks import ScoreTasks
from nasproxy.validation.seeds import stuck_seeds, with_medians
from nasproxy.validation.truth_length import length_of, with_lengths
from nasproxy.validation.truth_table import Truth


def report_of(
    validation: Validation,
    tasks: ScoreTasks,
    candidates: list[ValidatedCandidate],
    complete: list[ValidatedCandidate],
    columns: Mapping[str, np.ndarray],
) -> CorrelationReport:
    """The report without its rows of candidates, its pick and its notes.

    Args:
        candidates: all candidates that were measured.
        complete: those of the sample that have all scores and a truth.
        columns: what each score ranks ``complete`` by, ``(n,)`` each.
    """
    search, config, dataset = validation.search, validation.config, validation.dataset
    space, objective = search.inspection.space, search.objective
    difference, compared = differences_of(complete, columns, config.seed)
    pictures, pictures_note = pictures_of(validation.proxy, dataset)
    summaries = summaries_of(complete, columns, tasks.by_name, search.inspection, config)
    rivals, against = rivals_and_scores(complete, columns, search.inspection, config.seed)
    drawn = [one for one in candidates if one.group == "sample"]
    if len(drawn) > len(complete):
        summaries = with_failures_last(summaries, drawn, tasks.by_name, search.inspection, config.seed)
    summaries = with_lengths(summaries, complete, columns, (config.epochs, config.epochs_of_check()), config.seed)
    return CorrelationReport(
        title=f"{space.name} on {dataset.name}",
        dataset=dataset.name,
        space=space.name,
        space_size=space.size(),
        num_invalid=search.inspection.num_invalid,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        candidates=(),
        scores=summaries,
        difference=difference,
        differences=compared,
        ceiling=reliability_of(complete, "full", config.seed),
        sample_seconds=_mean_seconds(complete, None),
        effects=effects(truths_of(complete), strata_of(complete, search.inspection), seed=config.seed),
        epochs=epochs_of(complete, columns, config.seed),
        full_seconds=None if tasks.full is None else _mean_seconds(complete, "full"),
        history=search.history,
        objective=objective.name,
        in_percent=objective.trained is not None,
        against=tuple(own.score for own in objective.against),
        front=front_points(search),
        pick=None,
        pick_test_accuracy=None,
        pick_test_std=None,
        failures=failures(candidates, search),
        costs=costs(validation, tasks, candidates),
        pictures=pictures,
        pictures_note=pictures_note,
        truth_note=truth_note(dataset, config, validation.truth),
        length=length_of(validation, candidates),
        rivals=rivals,
        against_rivals=against,
        calibration=calibration_of(
            complete, columns, {one.name: one.label for one in summaries}, search.inspection, config.seed
        ),
        loss_curves=loss_curves_of(
            complete, columns, {name: tasks.by_name[name].label for name in tasks.trained}, config.seed
        ),
        replays=replayed_ways(complete, columns, search.inspection, config.seed),
        stuck=stuck_seeds(candidates, ("full", *tasks.trained), dataset.val),
        notes=(),
        reproducibility=reproducibility(validation, tasks.proxy.recipe),
        commands=(),
    )


def _mean_seconds(complete: list[ValidatedCandidate], only: str | None) -> float | None:
    """Mean seconds of a candidate of the sample, for one score, or for full training and all scores together."""
    totals = [
        sum(s.seconds for name, s in one.scores.items() if name == only or (only is None and name != "long"))
        for one in complete
    ]
    return sum(totals) / len(totals) if totals else None


def candidate_rows(
    candidates: list[ValidatedCandidate],
    complete: list[ValidatedCandidate],
    columns: Mapping[str, np.ndarray],
    inspection: SpaceInspection,
) -> tuple[CandidateRow, ...]:
    """A row for each of ``candidates``; those of ``complete`` have what each score ranks them by."""
    places = {id(one): place for place, one in enumerate(complete)}
    return tuple(
        candidate_row(
            one,
            inspection,
            {name: float(column[places[id(one)]]) for name, column in columns.items()} if id(one) in places else {},
        )
        for one in candidates
    )


def candidate_row(one: ValidatedCandidate, inspection: SpaceInspection, ranking: dict[str, float]) -> CandidateRow:
    """One candidate of the report; ``ranking`` is what each score ranks it by."""
    full = one.scores.get("full")
    counts = inspection.counts(one.candidate)
    scores: dict[str, float | None] = {name: score.value for name, score in one.scores.items() if name not in TRUTHS}
    scores |= {"params": float(counts.params), "flops": float(counts.flops)}
    return CandidateRow(
        id=one.candidate.id,
        params=one.candidate.params,
        group=one.group,
        truth=full.value if full else None,
        truth_std=full.std if full else None,
        truth_seeds=full.num_seeds if full else 0,
        scores=scores,
        ranking=ranking,
        stds={name: score.std for name, score in one.scores.items() if score.std is not None and name not in TRUTHS},
        curve=full.curve if full else (),
        by_seed=one.by_seed.get("full", ()),
        long_truth=one.scores["long"].value if "long" in one.scores else None,
    )


def columns_of(
    complete: list[ValidatedCandidate], measured_by: Mapping[str, Task], search: SearchResult
) -> dict[str, np.ndarray]:
    """What each score ranks the candidates by, ``(n,)`` each; a higher number is better."""
    inspection = search.inspection
    columns = {name: ranking_score(task, [one.scores[name] for one in complete]) for name, task in measured_by.items()}
    columns["params"] = np.array([inspection.counts(one.candidate).params for one in complete], dtype=float)
    columns["flops"] = np.array([inspection.counts(one.candidate).flops for one in complete], dtype=float)
    objective = search.objective
    if objective.is_sum and all(task.score in columns for _, task in objective.terms):

        def value(one: ValidatedCandidate) -> float:
            counts = inspection.counts(one.candidate)
            own = one.scores | {
                name: MeanScore(float(count), None, 0.0)
                for name, count in (("params", counts.params), ("flops", counts.flops))
            }
            terms = replace(objective, against=())
            scores = [own[task.score] for task in terms.tasks]
            return combined_score(terms, search.reference_ranks, scores)[0].value or 0.0

        columns[objective.name] = np.array([value(one) for one in complete], dtype=float)
    return columns


def summaries_of(
    complete: list[ValidatedCandidate],
    columns: Mapping[str, np.ndarray],
    measured_by: Mapping[str, Task],
    inspection: SpaceInspection,
    config: ValidateConfig,
) -> tuple[ScoreSummary, ...]:
    """Agreement of every score with the truth, on the sampled candidates that all of them could measure."""
    truth = truths_of(complete)
    labels = {name: task.label for name, task in measured_by.items()}
    labels |= {name: ZERO_COST[name].label for name in COUNTED}
    size = np.array([inspection.counts(one.candidate).params for one in complete], dtype=float)
    strata = strata_of(complete, inspection)
    flops = float(np.mean([inspection.counts(one.candidate).flops for one in complete])) if complete else 0.0
    of_truth = reliability_of(complete, "full", config.seed)

    def seconds(name: str) -> float:
        return float(np.mean([one.scores[name].seconds for one in complete])) if complete else 0.0

    def summary(name: str, column: np.ndarray) -> ScoreSummary:
        agreement = rank_agreement(column, truth, k=config.k, seed=config.seed)
        task = measured_by.get(name)
        measured = task is not None
        trained = isinstance(task, TrainingTask)
        energies = [one.scores[name].joules for one in complete] if measured else []
        num_seeds = complete[0].scores[name].num_seeds if complete and measured else 1
        own = reliability_of(complete, name, config.seed) if measured else EXACT
        return ScoreSummary(
            name=name,
            label=labels.get(name, f"Searched by: {name}"),
            agreement=agreement,
            num_images=None if task is None else len(task.train.images),
            seconds_per_candidate=seconds(name) if measured else 0.0,
            one_off_seconds=task.made_in * task.num_sets(num_seeds) if isinstance(task, TrainingTask) else 0.0,
            parts=parts(column, truth, size=size, strata=strata, seed=config.seed),
            reliability=own,
            corrected=corrected(agreement.spearman, own, of_truth),
            effects=effects(column, strata, seed=config.seed),
            biases=biases(column, truth, strata, seed=config.seed),
            trained=trained,
            cutoffs=cutoffs(column, truth, seed=config.seed) if trained else (),
            with_medians=with_medians(column, complete, config.seed),
            flops_per_candidate=(
                num_seeds * one_training(task, flops) if isinstance(task, TrainingTask) else None if measured else 0.0
            ),
            joules_per_candidate=_mean_known(energies),
        )

    return tuple(summary(name, column) for name, column in columns.items())


def _mean_known(values: Sequence[float | None]) -> float | None:
    """The mean when every value is known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def strata_of(complete: list[ValidatedCandidate], inspection: SpaceInspection) -> dict[str, list[str]]:
    """For each parameter of the space its value by candidate; numbers with many values in bands."""
    names = [parameter.name for parameter in inspection.space.parameters]
    return {name: grouped([one.candidate.params.get(name) for one in complete]) for name in names}


def epochs_of(
    complete: list[ValidatedCandidate], columns: Mapping[str, np.ndarray], seed: int
) -> tuple[EpochAgreement, ...]:
    """Correlations of the proxy with full training after some of its epochs, and of these with its end."""
    curves = [dict(one.scores["full"].curve) for one in complete]
    shared = sorted(set.intersection(*map(set, curves))) if curves else []
    truth = truths_of(complete)
    found = []
    for epoch in shared:
        then = np.array([curve[epoch] for curve in curves])
        found.append(
            EpochAgreement(
                epoch,
                rank_correlation(columns["proxy"], then, seed=seed),
                rank_correlation(then, truth, seed=seed),
            )
        )
    return tuple(found)


# Of a count, which no seed changes.
EXACT = Estimate(1.0, 1.0, 1.0, 0)


def differences_of(
    complete: list[ValidatedCandidate], columns: Mapping[str, np.ndarray], seed: int
) -> tuple[Estimate | None, tuple[Difference, ...]]:
    """ρ of the proxy minus that of the random subset, and minus that of every other score, tested together.

    Where scores have several seeds, each with another set or draw of images, the intervals hold the luck of these, too.
    """
    truth = truths_of(complete)
    others = {name: column for name, column in columns.items() if name != "proxy"}
    sets = {name: values for name in columns if (values := _by_seed(complete, name)) is not None}
    found = differences(columns["proxy"], others, truth, first_sets=sets.get("proxy"), other_sets=sets, seed=seed)
    against_random = next((one.difference for one in found if one.score == "random_subset"), None)
    return against_random, found


def _by_seed(complete: list[ValidatedCandidate], name: str) -> np.ndarray | None:
    """A trained score by seed, ``(n, seeds)``; None for fewer than two seeds, and for a score that trains nothing."""
    rows = [one.by_seed.get(name, ()) for one in complete]
    trained = all(name in one.scores and one.scores[name].loss is not None for one in complete)
    num = min(map(len, rows), default=0)
    return np.array([row[:num] for row in rows]) if trained and num > 1 else None


def rivals_and_scores(
    complete: list[ValidatedCandidate], columns: Mapping[str, np.ndarray], inspection: SpaceInspection, seed: int
) -> tuple[tuple[ParameterRival, ...], tuple[AgainstRival, ...]]:
    """What the space's parameters alone know of the truth, and every score against that."""
    truth = truths_of(complete)
    found = rivals_of(strata_of(complete, inspection), truth)
    against = against_rivals(columns, found, truth, seed=seed)
    rho = {one.rival: one.rho for one in against}
    return tuple(ParameterRival(one.name, one.label, one.parameters, rho[one.name]) for one in found), against


def front_points(search: SearchResult) -> tuple[FrontPoint, ...]:
    """Every ranked candidate of a search with several objectives."""
    if not search.objective.against:
        return ()
    best = {row.candidate.id for row in search.front}
    return tuple(
        FrontPoint(row.candidate.params, row.score.value or 0.0, row.against, row.candidate.id in best)
        for row in search.ranking
    )


def pick_of(rows: tuple[CandidateRow, ...], search: SearchResult) -> CandidateRow | None:
    """The best of the search's top by full accuracy; without full accuracies, the proxy's own first."""
    top = [row for row in rows if row.group == "top" and row.truth is not None]
    if top:
        return max(top, key=lambda row: row.truth or 0.0)
    if search.ranking:
        best = search.ranking[0]
        one = ValidatedCandidate(best.candidate, "top", {search.objective.name: best.score})
        return candidate_row(one, search.inspection, {})
    return None


def truth_note(dataset: Dataset, config: ValidateConfig, truth: Truth | None) -> str:
    """What the full accuracies are, in words."""
    if truth is not None:
        return f"accuracy from the table {truth.source}"
    num = len(dataset.train) if config.images is None else min(config.images, len(dataset.train))
    seeds = "1 seed" if config.seeds == 1 else f"mean of {config.seeds} seeds"
    products = "" if config.precision == "float32" else f", products in {config.precision}"
    return (
        f"validation accuracy ({len(dataset.val):,} images) after {config.epochs} epochs on {num:,} of "
        f"{len(dataset.train):,} training images, {seeds}{products}"
    )


def reproducibility(validation: Validation, recipe: Recipe) -> tuple[tuple[str, str], ...]:
    """What it takes to repeat the run: names and values. ``recipe`` trains candidates on the proxy set."""
    proxy, dataset, space = validation.proxy, validation.dataset, validation.search.inspection.space
    rows = {
        "data set": f"{dataset.name}, fingerprint {dataset.fingerprint[:16]}",
        "splits": f"{len(dataset.train):,} train, {len(dataset.val):,} validation, {len(dataset.test):,} test images",
        "search space": f"{space.name}, hash {space.hash[:16]}",
        "proxy set": f"{proxy.describe()}, content {proxy.content_id[:16]}",
        "proxy settings": ", ".join(f"{name}={value}" for name, value in proxy.provenance["config"].items()),
        "proxy built with": ", ".join(f"{name} {value}" for name, value in proxy.record["versions"].items()),
        "recipe on small sets": ", ".join(f"{name}={value}" for name, value in vars(recipe).items()),
        "search settings": ", ".join(f"{name}={value}" for name, value in vars(validation.search.config).items()),
        "validation settings": ", ".join(f"{name}={value}" for name, value in vars(validation.config).items()),
        "hardware": hardware(validation.session.choice),
        "versions": ", ".join(f"{name} {value}" for name, value in versions().items()),
    }
    return tuple(rows.items())
