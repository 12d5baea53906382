"""What each stage of a run cost in seconds, images, FLOPs and energy."""

from __future__ import annotations

from collections.abc import Iterable

from nasproxy.report.data import Cost
from nasproxy.spaces import Candidate, SpaceInspection
from nasproxy.training.fit import num_updates
from nasproxy.training.tasks import TrainingTask
from nasproxy.validation.measured import ValidatedCandidate, Validation, one_training
from nasproxy.validation.score_tasks import ScoreTasks
from nasproxy.validation.truth_length import length_task


def costs(validation: Validation, tasks: ScoreTasks, candidates: list[ValidatedCandidate]) -> tuple[Cost, ...]:
    """The costs of building the proxy set, of the search, of full training and of its check, in this order."""
    return (
        _building(validation, tasks),
        _searching(validation),
        *_full_training(validation, tasks, candidates),
        *_longer_training(validation, candidates),
    )


def _flops(inspection: SpaceInspection, task: TrainingTask, candidates: Iterable[Candidate], seeds: int) -> float:
    """FLOPs of training each candidate with so many seeds."""
    return sum((seeds * one_training(task, inspection.counts(candidate).flops) for candidate in candidates), 0.0)


def _building(validation: Validation, tasks: ScoreTasks) -> Cost:
    """Of the sets of the file, those count that the search's seeds train on."""
    proxy = validation.proxy
    used = min(validation.search.config.seeds, proxy.num_sets)
    several = f"Building {used} {'' if used == proxy.num_sets else f'of {proxy.num_sets} '}proxy sets"
    return Cost(
        "Building the proxy set" if proxy.num_sets == 1 else several,
        float(proxy.record["seconds"]) * used / proxy.num_sets,
        None,
        proxy.record["hardware"],
        None if tasks.spending is None else tasks.spending.making,
    )


def _searching(validation: Validation) -> Cost:
    search = validation.search
    trained = search.objective.trained
    num = len(search.ranking) + len(search.failed) + len(search.pruned)
    words = f"{num} candidates"
    flops = None
    if trained is not None:
        words += f", {num_updates(trained.recipe, len(trained.train.images))} updates each"
        if not search.pruned:
            whole = [row.candidate for row in (*search.ranking, *search.failed)]
            flops = _flops(search.inspection, trained, whole, search.config.seeds)
    if search.pruned:
        words += f"; {len(search.pruned)} ended early at a rung"
    return Cost("Search", search.seconds, None if trained is None else len(trained.train.images), words, flops)


def _full_training(validation: Validation, tasks: ScoreTasks, candidates: list[ValidatedCandidate]) -> list[Cost]:
    """Full training of the validated candidates, and an estimate of the whole search by full training."""
    search, config, full = validation.search, validation.config, tasks.full
    if full is None:
        return []
    distinct = list({one.candidate.id: one for one in candidates}.values())
    trainings = [one.scores["full"] for one in distinct]
    energies = [score.joules for score in trainings]
    num_images, seconds = len(full.train.images), sum(score.seconds for score in trainings)
    flops = _flops(search.inspection, full, [one.candidate for one in distinct], config.seeds)
    costs = [
        Cost(
            "Full training, for validation",
            seconds,
            num_images,
            f"{len(trainings)} candidates, {config.epochs} epochs, {config.seeds} seed(s)",
            flops,
            None if None in energies else sum(energy for energy in energies if energy is not None),
        )
    ]
    searched = [row.candidate for row in (*search.ranking, *search.failed, *search.pruned)]
    if trainings and searched:
        each = seconds / len(trainings)
        words = f"estimated: {len(searched)} candidates at {each:.1f} s each"
        flops = _flops(search.inspection, full, searched, config.seeds)
        costs.append(Cost("The same search by full training", each * len(searched), num_images, words, flops))
    return costs


def _longer_training(validation: Validation, candidates: list[ValidatedCandidate]) -> list[Cost]:
    """The longer training of some candidates, which checks full training."""
    tried = [one for one in candidates if "long" in one.scores]
    if not tried:
        return []
    task = length_task(validation)
    energies = [one.scores["long"].joules for one in tried]
    return [
        Cost(
            "Longer training, to check full training",
            sum(one.scores["long"].seconds for one in tried),
            len(task.train.images),
            f"{len(tried)} candidates, {task.recipe.epochs} epochs, 1 seed",
            _flops(validation.search.inspection, task, [one.candidate for one in tried], 1),
            None if None in energies else sum(energy for energy in energies if energy is not None),
        )
    ]
