"""What was measured of the validated candidates, as the rows, summaries and costs of a report."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from nasproxy.baselines import Spending
from nasproxy.condense.cost import FIRST_ORDER
from nasproxy.config import SearchConfig, ValidateConfig
from nasproxy.correlation import (
    Difference,
    Estimate,
    biases,
    corrected,
    differences,
    effects,
    grouped,
    lexicographic_ranks,
    parts,
    rank_agreement,
    rank_correlation,
    reliability,
)
from nasproxy.datasets import Dataset, denormalize
from nasproxy.devices import DeviceChoice, hardware, versions
from nasproxy.evaluations import MeanScore, Task, TrainingTask
from nasproxy.figures import class_strips
from nasproxy.objective import combined
from nasproxy.proxyset import ProxySet, per_class
from nasproxy.report import CandidateRow, ClassPicture, Cost, EpochAgreement, Failure, FrontPoint, ScoreSummary
from nasproxy.search import SearchResult
from nasproxy.spaces import Candidate, SearchSpace, SpaceInspection
from nasproxy.train import num_updates
from nasproxy.truth import Truth
from nasproxy.zero_cost import ZERO_COST

COUNTED = ("params", "flops")  # known from the space's inspection


@dataclass(frozen=True)
class Measured:
    candidate: Candidate
    group: str
    scores: dict[str, MeanScore]  # by score name; "full" is the truth
    by_seed: dict[str, tuple[float, ...]] = field(default_factory=dict)  # its values, where all seeds have one


MAX_CLASSES, MAX_IMAGES = 20, 10  # on the page


def pictures_of(proxy: ProxySet, dataset: Dataset) -> tuple[tuple[ClassPicture, ...], str]:
    """The set's images by class, the training image nearest to each, and a note that says what is shown."""
    labels = proxy.labels[0] if proxy.labels.ndim == 2 else proxy.labels[0].argmax(1)

    def strips(pixels: np.ndarray) -> list[tuple[str, bytes]]:
        return class_strips(pixels, labels.numpy(), proxy.class_names, max_classes=MAX_CLASSES, max_images=MAX_IMAGES)

    own = strips(denormalize(proxy.images[0], proxy.mean, proxy.std).numpy())
    near = strips(dataset.train.images[nearest_real(proxy, labels, dataset)].numpy())
    note = f"{proxy.describe()}. Colours are clipped to what a screen can show."
    if proxy.num_classes > MAX_CLASSES:
        note += f" Shown: the first {MAX_CLASSES} of {proxy.num_classes} classes."
    if max(proxy.counts) > MAX_IMAGES:
        note += f" Shown: {MAX_IMAGES} of {per_class(proxy.counts).replace(' per', ' images per')}."
    pictures = tuple(
        ClassPicture(name, base64.b64encode(png).decode(), base64.b64encode(real).decode())
        for (name, png), (_, real) in zip(own, near, strict=True)
    )
    return pictures, note[0].upper() + note[1:]


def nearest_real(proxy: ProxySet, labels: Tensor, dataset: Dataset) -> Tensor:
    """For each image of the first set the number of the training image of its class nearest in normalised pixels.

    For a set that stores several images in each, each of its images stays one.
    """
    nearest = torch.zeros(len(labels), dtype=torch.int64)
    for label, members in enumerate(dataset.train.by_class(dataset.num_classes)):
        own = (labels == label).nonzero()[:MAX_IMAGES, 0]
        if label >= MAX_CLASSES or not len(own) or not len(members):
            continue
        images = proxy.images[0, own].flatten(1)
        parts = [
            torch.cdist(images, dataset.normalize(dataset.train.images[p]).flatten(1)) for p in members.split(1000)
        ]
        nearest[own] = members[torch.cat(parts, 1).argmin(1)]
    return nearest


def candidate_row(one: Measured, inspection: SpaceInspection, ranking: dict[str, float]) -> CandidateRow:
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
        stds={name: score.std for name, score in one.scores.items() if score.std is not None and name != "full"},
        curve=full.curve if full else (),
    )


def _ranking_score(task: Task, scores: list[MeanScore]) -> np.ndarray:
    """What ranks candidates by a score: its value; of a trained one the accuracy, the loss breaking ties.

    Where it is minus infinity, a number below all others stands for it.
    """
    values = np.array([score.value for score in scores], dtype=float)
    if not isinstance(task, TrainingTask):
        finite = values[~np.isnan(values)]
        if not finite.size:
            return np.zeros_like(values)
        return np.where(np.isnan(values), finite.min() - max(0.05 * np.ptp(finite), 1e-3), values)
    return lexicographic_ranks(values, -np.array([score.loss for score in scores], dtype=float))


def columns_of(
    complete: list[Measured], inspection: SpaceInspection, measured_by: Mapping[str, Task], search: SearchResult
) -> dict[str, np.ndarray]:
    """What each score ranks the candidates by, ``(n,)`` each, higher better."""
    columns = {name: _ranking_score(task, [one.scores[name] for one in complete]) for name, task in measured_by.items()}
    columns["params"] = np.array([inspection.counts(one.candidate).params for one in complete], dtype=float)
    columns["flops"] = np.array([inspection.counts(one.candidate).flops for one in complete], dtype=float)
    objective = search.objective
    if objective.is_sum and all(task.score in columns for _, task in objective.terms):

        def value(one: Measured) -> float:
            counts = inspection.counts(one.candidate)
            own = one.scores | {
                name: MeanScore(float(count), None, None, 0.0, 1, None)
                for name, count in (("params", counts.params), ("flops", counts.flops))
            }
            terms = replace(objective, against=())
            return combined(terms, search.standings, [own[task.score] for task in terms.tasks])[0].value or 0.0

        columns[objective.name] = np.array([value(one) for one in complete], dtype=float)
    return columns


def summaries_of(
    complete: list[Measured],
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


def strata_of(complete: list[Measured], inspection: SpaceInspection) -> dict[str, list[str]]:
    """For each parameter of the space its value by candidate; numbers with many values in bands."""
    names = [parameter.name for parameter in inspection.space.parameters]
    return {name: grouped([one.candidate.params.get(name) for one in complete]) for name in names}


def one_training(task: TrainingTask, flops: float) -> float:
    """FLOPs of training and measuring one net once, whose forward pass of an image takes ``flops``."""
    seen = task.recipe.epochs * len(task.train.images)
    return float(flops * (FIRST_ORDER * seen + len(task.held_out.images)))


def epochs_of(complete: list[Measured], columns: Mapping[str, np.ndarray], seed: int) -> tuple[EpochAgreement, ...]:
    """How the proxy agrees with full training after some of its epochs, and that with its end."""
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


def truths_of(complete: list[Measured]) -> np.ndarray:
    """Full accuracy of every candidate, ``(n,)``."""
    return np.array([one.scores["full"].value for one in complete], dtype=float)


def reliability_of(complete: list[Measured], name: str, seed: int) -> Estimate:
    """How far the mean over seeds of a score, or of the truth, agrees with another such mean."""
    rows = [one.by_seed.get(name, ()) for one in complete]
    num_seeds = min(map(len, rows), default=0)
    if num_seeds < 2:
        return Estimate(None, None, None, len(rows), "it takes at least two seeds")
    return reliability(np.array([row[:num_seeds] for row in rows]), seed=seed)


def differences_of(
    complete: list[Measured], columns: Mapping[str, np.ndarray], seed: int
) -> tuple[Estimate | None, tuple[Difference, ...]]:
    """ρ of the proxy minus that of the random subset, and minus that of every other score, tested together."""
    truth = truths_of(complete)
    others = {name: column for name, column in columns.items() if name != "proxy"}
    found = differences(columns["proxy"], others, truth, seed=seed)
    against_random = next((one.difference for one in found if one.score == "random_subset"), None)
    return against_random, found


def front_points(search: SearchResult) -> tuple[FrontPoint, ...]:
    """Every ranked candidate of a search with several objectives."""
    if not search.objective.against:
        return ()
    best = {row.candidate.id for row in search.front}
    return tuple(
        FrontPoint(row.candidate.params, row.score.value or 0.0, row.against, row.candidate.id in best)
        for row in search.ranking
    )


def pick_of(rows: tuple[CandidateRow, ...], search: SearchResult, inspection: SpaceInspection) -> CandidateRow | None:
    """The best of the search's top by full accuracy; without full accuracies, the proxy's own first."""
    top = [row for row in rows if row.group == "top" and row.truth is not None]
    if top:
        return max(top, key=lambda row: row.truth or 0.0)
    if search.ranking:
        best = search.ranking[0]
        return candidate_row(Measured(best.candidate, "top", {search.objective.name: best.score}), inspection, {})
    return None


def failures(measured: list[Measured], search: SearchResult) -> tuple[Failure, ...]:
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


def costs(
    measured: list[Measured],
    search: SearchResult,
    search_config: SearchConfig,
    proxy: ProxySet,
    full: TrainingTask | None,
    config: ValidateConfig,
    inspection: SpaceInspection,
    spending: Spending | None,
) -> tuple[Cost, ...]:
    searched = [*search.ranking, *search.failed, *search.pruned]
    trained = search.objective.trained
    making = None if spending is None else spending.making

    def flops(task: TrainingTask, candidates: Sequence[Candidate], seeds: int) -> float:
        return sum((seeds * one_training(task, inspection.counts(candidate).flops) for candidate in candidates), 0.0)

    whole = [row.candidate for row in (*search.ranking, *search.failed)]
    used = min(search_config.seeds, proxy.num_sets)
    costs = [
        Cost(
            "Building the proxy set"
            if proxy.num_sets == 1
            else f"Building {used} {'' if used == proxy.num_sets else f'of {proxy.num_sets} '}proxy sets",
            float(proxy.record["seconds"]) * used / proxy.num_sets,
            None,
            proxy.record["hardware"],
            making,
        ),
        Cost(
            "Search",
            search.seconds,
            None if trained is None else len(trained.train.images),
            f"{len(searched)} candidates"
            + ("" if trained is None else f", {num_updates(trained.recipe, len(trained.train.images))} updates each")
            + (f"; rungs ended {len(search.pruned)} early" if search.pruned else ""),
            None if trained is None or search.pruned else flops(trained, whole, search_config.seeds),
        ),
    ]
    if full is not None:
        distinct = {one.candidate.id: one for one in measured}.values()
        trainings = [one.scores["full"] for one in distinct]
        energies = [score.joules for score in trainings]
        num_full = len(full.train.images)
        costs.append(
            Cost(
                "Full training, for validation",
                sum(score.seconds for score in trainings),
                num_full,
                f"{len(trainings)} candidates, {config.epochs} epochs, {config.seeds} seed(s)",
                flops(full, [one.candidate for one in distinct], config.seeds),
                None if None in energies else sum(energy for energy in energies if energy is not None),
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
                    flops(full, [row.candidate for row in searched], config.seeds),
                )
            )
    return tuple(costs)


def truth_note(dataset: Dataset, config: ValidateConfig, truth: Truth | None) -> str:
    if truth is not None:
        return f"accuracy from the table {truth.source}"
    num = len(dataset.train) if config.images is None else min(config.images, len(dataset.train))
    seeds = "1 seed" if config.seeds == 1 else f"mean of {config.seeds} seeds"
    products = "" if config.precision == "float32" else f", products in {config.precision}"
    return (
        f"validation accuracy ({len(dataset.val):,} images) after {config.epochs} epochs on {num:,} of "
        f"{len(dataset.train):,} training images, {seeds}{products}"
    )


def reproducibility(
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
