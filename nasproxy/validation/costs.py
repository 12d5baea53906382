"""What each stage of a run cost in seconds, images, FLOPs and energy."""

from __future__ import annotations

from collections.abc import Sequence

from nasproxy.config import SearchConfig, ValidateConfig
from nasproxy.data.proxy_set import ProxySet
from nasproxy.report.data import Cost
from nasproxy.scores.spending import Spending
from nasproxy.search.loop import SearchResult
from nasproxy.spaces import Candidate, SpaceInspection
from nasproxy.training.fit import num_updates
from nasproxy.training.tasks import TrainingTask
from nasproxy.validation.measured import Measured, one_training


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
