"""Can the proxy be believed? Full-data accuracy of a uniform sample of the space, and every score held against it.

The global numbers come from candidates drawn uniformly from the space. The search's own best are trained as well, but
shown apart: a sample chosen by the score would flatter or damn it.
"""

from __future__ import annotations

import base64
import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from nasproxy.config import SearchConfig, ValidateConfig
from nasproxy.coordinator import Coordinator
from nasproxy.correlation import Estimate, lexicographic_ranks, paired_difference, rank_agreement
from nasproxy.datasets import Dataset, denormalize
from nasproxy.devices import DeviceChoice, hardware, versions
from nasproxy.errors import NasproxyError
from nasproxy.evaluations import MeanScore, Task, TrainingTask, mean_score
from nasproxy.figures import class_strips
from nasproxy.ledger import Ledger
from nasproxy.objective import combined
from nasproxy.proxyset import ProxySet
from nasproxy.report import (
    CandidateRow,
    ClassPicture,
    CorrelationReport,
    Cost,
    Failure,
    FrontPoint,
    ScoreSummary,
)
from nasproxy.scores import full_task, make_task, random_subset_task, score_names
from nasproxy.search import SearchResult
from nasproxy.spaces import Candidate, SearchSpace, SpaceInspection, uniform_sample
from nasproxy.train import num_updates
from nasproxy.workers import Crew, Job
from nasproxy.zero_cost import ZERO_COST

COUNTED = ("params", "flops")  # known from the space's inspection


@dataclass(frozen=True)
class Truth:
    """Full accuracies from a table, by candidate id, and the table's file name."""

    accuracy: Mapping[str, float]
    source: str


def load_truth(path: Path, space: SearchSpace) -> Truth:
    """Reads a CSV table with one column per parameter of ``space`` and a column ``accuracy`` (a fraction in [0, 1]).

    Cells of inactive conditional parameters are empty. Further columns are ignored.

    Raises:
        NasproxyError: naming the file and line of the first row that cannot be used.
    """
    if not path.is_file():
        raise NasproxyError(f"No table of accuracies at '{path}': check --truth.")
    names = [parameter.name for parameter in space.parameters]
    accuracy: dict[str, float] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in [*names, "accuracy"] if name not in (reader.fieldnames or [])]
            if missing:
                raise NasproxyError(
                    f"'{path}' needs a column for every parameter of space '{space.name}' and 'accuracy', but lacks "
                    f"{', '.join(missing)} (it has: {', '.join(reader.fieldnames or [])})."
                )
            for row in reader:
                where = f"{path}:{reader.line_num}"
                try:
                    value = float(row["accuracy"])
                except (TypeError, ValueError):
                    raise NasproxyError(f"{where}: accuracy must be a number, but is '{row['accuracy']}'.") from None
                if not 0 <= value <= 1:
                    raise NasproxyError(
                        f"{where}: accuracy must be a fraction in [0, 1], but is {value:g}: divide percentages by 100."
                    )
                try:
                    candidate = space.parse_candidate(
                        {name: row[name] for name in names if row[name] not in ("", None)}
                    )
                except NasproxyError as error:
                    raise NasproxyError(f"{where}: {error}") from None
                if accuracy.setdefault(candidate.id, value) != value:
                    raise NasproxyError(f"{where}: {candidate.label} has two accuracies: keep one row per candidate.")
    except (UnicodeDecodeError, csv.Error) as error:
        raise NasproxyError(f"'{path}' is no readable CSV table ({error}).") from None
    if not accuracy:
        raise NasproxyError(f"'{path}' holds no candidate of space '{space.name}'.")
    return Truth(accuracy, path.name)


@dataclass(frozen=True)
class _Measured:
    candidate: Candidate
    group: str
    scores: dict[str, MeanScore]  # by score name; "full" is the truth


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
    """
    sample = uniform_sample(
        inspection, config.sample, config.seed, among=lambda c: truth is None or c.id in truth.accuracy
    )
    top = [row.candidate for row in search.ranking if truth is None or row.candidate.id in truth.accuracy][: config.top]
    notes_list = list(notes)
    measured_by: dict[str, Task] = {"proxy": task}
    try:
        measured_by["random_subset"] = random_subset_task(proxy, dataset, task.recipe, precision=task.precision)
    except NasproxyError as error:
        notes_list.append(f"No random subset of equal size: {error}")
    for name in score_names(config.scores):
        if name not in (*measured_by, *COUNTED):
            measured_by[name] = make_task(name, proxy, dataset, task.recipe, precision=task.precision)
    for own in search.objective.tasks:
        if own.score not in COUNTED:
            measured_by.setdefault(own.score, own)
    full = full_task(dataset, config) if truth is None else None
    test = full_task(dataset, config, split="test") if truth is None else None

    # Interrupted early, the run should still have complete candidates: all scores of one, then the next.
    chosen = [(candidate, "sample") for candidate in sample] + [(candidate, "top") for candidate in top]
    jobs: dict[tuple[int, str], Job] = {}
    for place, (candidate, group) in enumerate(chosen):
        tasks = dict(measured_by) if group == "sample" else {"proxy": task}
        if full is not None:
            tasks["full"] = full
        for name, each in tasks.items():
            seeds = config.seeds if name == "full" else search_config.seeds
            jobs[place, name] = Job(each, space, candidate.id, candidate.params, tuple(range(seeds)))
    coordinator = Coordinator(crew, ledger)
    total = len(jobs) + (test is not None and bool(top))  # the pick is trained once more for its test accuracy

    def trained_so_far(done: int, _: int) -> None:
        if progress is not None:
            progress(done, total, "")

    found = dict(zip(jobs, map(mean_score, coordinator.finish(list(jobs.values()), trained_so_far)), strict=True))
    measured: list[_Measured] = []
    for place, (candidate, group) in enumerate(chosen):
        scores = {name: score for (number, name), score in found.items() if number == place}
        if truth is not None:
            scores["full"] = MeanScore(truth.accuracy[candidate.id], None, None, 0.0, 1, None)
        measured.append(_Measured(candidate, group, scores))
    trained = [name for name, own in measured_by.items() if isinstance(own, TrainingTask)]
    complete = [
        one
        for one in measured
        if one.group == "sample" and all(one.scores[name].value is not None for name in ("full", *trained))
    ]
    for name in [name for name in measured_by if name not in trained]:
        undefined = [one.scores[name] for one in complete if one.scores[name].value is None]
        if undefined:
            label = measured_by.pop(name).label
            notes_list.append(
                f"No row for {label}: it could not be measured for {len(undefined)} of {len(complete)} candidates "
                f"({undefined[0].failure})."
            )
    columns = _columns(complete, inspection, measured_by, search)
    places = {id(one): place for place, one in enumerate(complete)}
    rows = tuple(
        _row(one, inspection, {name: float(column[places[id(one)]]) for name, column in columns.items()})
        if id(one) in places
        else _row(one, inspection, {})
        for one in measured
    )
    summaries, difference = _summaries(complete, columns, measured_by, proxy, config)
    pick, pick_test = _pick(rows, search, inspection), None
    if pick is not None and test is not None and pick.truth is not None:
        if progress is not None:
            progress(len(jobs), total, "test accuracy of the pick")
        job = Job(test, space, pick.id, pick.params, tuple(range(config.seeds)))
        pick_test = mean_score(coordinator.finish([job])[0])
    if progress is not None:
        progress(total, total, "")
    pictures, pictures_note = _pictures(proxy)
    return CorrelationReport(
        title=f"{space.name} on {dataset.name}",
        dataset=dataset.name,
        space=space.name,
        space_size=space.size(),
        num_invalid=inspection.num_invalid,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        candidates=rows,
        scores=summaries,
        difference=difference,
        history=search.history,
        objective=search.objective.name,
        in_percent=search.objective.trained is not None,
        against=tuple(own.score for own in search.objective.against),
        front=_front(search),
        pick=pick,
        pick_test_accuracy=pick_test.value if pick_test else None,
        pick_test_std=pick_test.std if pick_test else None,
        failures=_failures(measured, search),
        costs=_costs(measured, search, proxy, full, config),
        pictures=pictures,
        pictures_note=pictures_note,
        truth_note=_truth_note(dataset, config, truth),
        notes=tuple(notes_list),
        reproducibility=_reproducibility(space, proxy, dataset, search_config, config, task, choice),
        commands=commands,
    )


MAX_CLASSES, MAX_IMAGES = 20, 10  # on the page


def _pictures(proxy: ProxySet) -> tuple[tuple[ClassPicture, ...], str]:
    """The set's images by class, and a note that says what is shown."""
    labels = proxy.labels[0] if proxy.labels.ndim == 2 else proxy.labels[0].argmax(1)
    strips = class_strips(
        denormalize(proxy.images[0], proxy.mean, proxy.std).numpy(),
        labels.numpy(),
        proxy.class_names,
        max_classes=MAX_CLASSES,
        max_images=MAX_IMAGES,
    )
    note = f"{proxy.describe()}. Colours are clipped to what a screen can show."
    if proxy.num_classes > MAX_CLASSES:
        note += f" Shown: the first {MAX_CLASSES} of {proxy.num_classes} classes."
    if proxy.ipc > MAX_IMAGES:
        note += f" Shown: {MAX_IMAGES} of {proxy.ipc} images per class."
    pictures = tuple(ClassPicture(name, base64.b64encode(png).decode()) for name, png in strips)
    return pictures, note[0].upper() + note[1:]


def _row(one: _Measured, inspection: SpaceInspection, ranking: dict[str, float]) -> CandidateRow:
    full = one.scores.get("full")
    counts = inspection.counts(one.candidate)
    scores: dict[str, float | None] = {name: score.value for name, score in one.scores.items() if name != "full"}
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
    )


def _ranking_score(task: Task, scores: list[MeanScore]) -> np.ndarray:
    """What ranks candidates by a score: its value; of a trained one the accuracy, the loss breaking ties."""
    values = np.array([score.value for score in scores], dtype=float)
    if not isinstance(task, TrainingTask):
        return values
    return lexicographic_ranks(values, -np.array([score.loss for score in scores], dtype=float))


def _columns(
    complete: list[_Measured], inspection: SpaceInspection, measured_by: Mapping[str, Task], search: SearchResult
) -> dict[str, np.ndarray]:
    """What each score ranks the candidates by, ``(n,)`` each, higher better."""
    columns = {name: _ranking_score(task, [one.scores[name] for one in complete]) for name, task in measured_by.items()}
    columns["params"] = np.array([inspection.counts(one.candidate).params for one in complete], dtype=float)
    columns["flops"] = np.array([inspection.counts(one.candidate).flops for one in complete], dtype=float)
    objective = search.objective
    if objective.is_sum and all(task.score in columns for _, task in objective.terms):

        def value(one: _Measured) -> float:
            counts = inspection.counts(one.candidate)
            own = one.scores | {
                name: MeanScore(float(count), None, None, 0.0, 1, None)
                for name, count in (("params", counts.params), ("flops", counts.flops))
            }
            terms = replace(objective, against=())
            return combined(terms, search.standings, [own[task.score] for task in terms.tasks])[0].value or 0.0

        columns[objective.name] = np.array([value(one) for one in complete], dtype=float)
    return columns


def _summaries(
    complete: list[_Measured],
    columns: Mapping[str, np.ndarray],
    measured_by: Mapping[str, Task],
    proxy: ProxySet,
    config: ValidateConfig,
) -> tuple[tuple[ScoreSummary, ...], Estimate | None]:
    """Agreement of every score with the truth, on the sampled candidates that all of them could measure."""
    truth = np.array([one.scores["full"].value for one in complete], dtype=float)
    labels = {name: task.label for name, task in measured_by.items()}
    labels |= {name: ZERO_COST[name].label for name in COUNTED}

    def seconds(name: str) -> float:
        return float(np.mean([one.scores[name].seconds for one in complete])) if complete else 0.0

    summaries = tuple(
        ScoreSummary(
            name=name,
            label=labels.get(name, f"Searched by: {name}"),
            agreement=rank_agreement(column, truth, k=config.k, seed=config.seed),
            num_images=len(measured_by[name].train.images) if name in measured_by else None,
            seconds_per_candidate=seconds(name) if name in measured_by else 0.0,
            one_off_seconds=float(proxy.record["seconds"]) if name == "proxy" else 0.0,
        )
        for name, column in columns.items()
    )
    difference = None
    if "random_subset" in columns:
        difference = paired_difference(columns["proxy"], columns["random_subset"], truth, seed=config.seed)
    return summaries, difference


def _front(search: SearchResult) -> tuple[FrontPoint, ...]:
    """Every ranked candidate of a search with several objectives."""
    if not search.objective.against:
        return ()
    best = {row.candidate.id for row in search.front}
    return tuple(
        FrontPoint(row.candidate.params, row.score.value or 0.0, row.against, row.candidate.id in best)
        for row in search.ranking
    )


def _pick(rows: tuple[CandidateRow, ...], search: SearchResult, inspection: SpaceInspection) -> CandidateRow | None:
    """The best of the search's top by full accuracy; without full accuracies, the proxy's own first."""
    top = [row for row in rows if row.group == "top" and row.truth is not None]
    if top:
        return max(top, key=lambda row: row.truth or 0.0)
    if search.ranking:
        best = search.ranking[0]
        return _row(_Measured(best.candidate, "top", {search.objective.name: best.score}), inspection, {})
    return None


def _failures(measured: list[_Measured], search: SearchResult) -> tuple[Failure, ...]:
    stages = {
        "proxy": "training on the proxy set",
        "random_subset": "training on random images",
        "full": "full training",
    }
    searched = "measuring" if search.objective.trained is None else stages["proxy"]
    found: dict[tuple[str, str], Failure] = {}
    for row in search.failed:
        found[row.candidate.id, "proxy"] = Failure(
            row.candidate.id, row.candidate.params, searched, row.score.failure or ""
        )
    for one in measured:
        for name, score in one.scores.items():
            if score.failure is not None:
                found[one.candidate.id, name] = Failure(
                    one.candidate.id, one.candidate.params, stages.get(name, name), score.failure
                )
    return tuple(found.values())


def _costs(
    measured: list[_Measured],
    search: SearchResult,
    proxy: ProxySet,
    full: TrainingTask | None,
    config: ValidateConfig,
) -> tuple[Cost, ...]:
    searched = [*search.ranking, *search.failed, *search.pruned]
    trained = search.objective.trained
    costs = [
        Cost("Building the proxy set", float(proxy.record["seconds"]), None, proxy.record["hardware"]),
        Cost(
            "Search",
            search.seconds,
            None if trained is None else len(trained.train.images),
            f"{len(searched)} candidates"
            + ("" if trained is None else f", {num_updates(trained.recipe, len(trained.train.images))} updates each")
            + (f"; rungs ended {len(search.pruned)} early" if search.pruned else ""),
        ),
    ]
    if full is not None:
        trainings = [one.scores["full"] for one in {one.candidate.id: one for one in measured}.values()]
        num_full = len(full.train.images)
        costs.append(
            Cost(
                "Full training, for validation",
                sum(score.seconds for score in trainings),
                num_full,
                f"{len(trainings)} candidates, {config.epochs} epochs, {config.seeds} seed(s)",
            )
        )
        if trainings and searched:
            per_full = sum(score.seconds for score in trainings) / len(trainings)
            estimated = per_full * len(searched)
            costs.append(
                Cost(
                    "The same search by full training",
                    estimated,
                    num_full,
                    f"estimated: {len(searched)} candidates at {per_full:.1f} s each",
                )
            )
    return tuple(costs)


def _truth_note(dataset: Dataset, config: ValidateConfig, truth: Truth | None) -> str:
    if truth is not None:
        return f"accuracy from the table {truth.source}"
    num = len(dataset.train) if config.images is None else min(config.images, len(dataset.train))
    seeds = "1 seed" if config.seeds == 1 else f"mean of {config.seeds} seeds"
    return (
        f"validation accuracy ({len(dataset.val):,} images) after {config.epochs} epochs on {num:,} of "
        f"{len(dataset.train):,} training images, {seeds}"
    )


def _reproducibility(
    space: SearchSpace,
    proxy: ProxySet,
    dataset: Dataset,
    search_config: SearchConfig,
    config: ValidateConfig,
    task: TrainingTask,
    choice: DeviceChoice,
) -> tuple[tuple[str, str], ...]:
    rows = {
        "data set": f"{dataset.name}, fingerprint {dataset.fingerprint[:16]}",
        "splits": f"{len(dataset.train):,} train, {len(dataset.val):,} validation, {len(dataset.test):,} test images",
        "search space": f"{space.name}, hash {space.hash[:16]}",
        "proxy set": f"{proxy.describe()}, content {proxy.content_id[:16]}",
        "proxy settings": ", ".join(f"{name}={value}" for name, value in proxy.provenance["config"].items()),
        "proxy built with": ", ".join(f"{name} {value}" for name, value in proxy.record["versions"].items()),
        "recipe on small sets": ", ".join(f"{name}={value}" for name, value in vars(task.recipe).items()),
        "search settings": ", ".join(f"{name}={value}" for name, value in vars(search_config).items()),
        "validation settings": ", ".join(f"{name}={value}" for name, value in vars(config).items()),
        "hardware": hardware(choice),
        "versions": ", ".join(f"{name} {value}" for name, value in versions().items()),
    }
    return tuple(rows.items())
