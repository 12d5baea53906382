"""The tasks of a validation: by which trainings and measurements each score, and the truth, are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nasproxy.core.errors import NasproxyError
from nasproxy.data import Dataset
from nasproxy.data.proxy_set import ProxySet, check_fit
from nasproxy.scores.baselines import Making
from nasproxy.scores.full_training import full_task
from nasproxy.scores.proxy import candidate_recipe, proxy_task
from nasproxy.scores.registry import SCORES, make_task, score_names
from nasproxy.scores.spending import Spending, spending_of
from nasproxy.search.loop import SearchResult
from nasproxy.training.tasks import Task, TrainingTask
from nasproxy.validation.measured import COUNTED, ValidatedCandidate, Validation

# A baseline at equal total cost must be able to spend at least so much more, or it is the one at equal training cost.
LEAST_TIMES = 1.02

DRAWN = ("random_subset", "random_total")  # baselines of random images


@dataclass(frozen=True)
class ScoreTasks:
    """How every score of a validation is measured.

    Args:
        by_name: one task for each score, the proxy first.
        draws: baselines of random images: one task for each seed, each with other images.
        full: full training measured on the validation split; None: the truth comes from a table.
        test: the same measured on the test split, for the pick only.
        spending: what the search spends; None where it is not known.
        notes: which scores were left out, and why.
    """

    by_name: dict[str, Task]
    draws: dict[str, list[Task]]
    full: TrainingTask | None
    test: TrainingTask | None
    spending: Spending | None
    notes: tuple[str, ...] = ()

    @property
    def proxy(self) -> TrainingTask:
        """The task of the score "proxy"."""
        task = self.by_name["proxy"]
        assert isinstance(task, TrainingTask)
        return task

    @property
    def trained(self) -> list[str]:
        """The scores that train candidates."""
        return [name for name, task in self.by_name.items() if isinstance(task, TrainingTask)]


def score_tasks(
    validation: Validation,
    candidates: Sequence[ValidatedCandidate],
    beside: Sequence[ProxySet] = (),
    progress: Callable[[int, int, str], None] | None = None,
) -> ScoreTasks:
    """The tasks of ``validation``.

    Args:
        candidates: those that will be measured.
        beside: other proxy sets of the same data, each a score of its own.
        progress: is told of what must be computed for the baselines.

    Raises:
        NasproxyError: when a set of ``beside`` was made of other data.
    """
    search, proxy, dataset = validation.search, validation.proxy, validation.dataset
    config, session, table = validation.config, validation.session, validation.truth is not None
    settings = search.config
    recipe = candidate_recipe(proxy, dataset, settings)
    task = proxy_task(proxy, dataset, recipe, precision=settings.precision)
    full = None if table else full_task(dataset, config)
    spending = spending_of(proxy, dataset, task, search.inspection, settings)
    making = Making(task.recipe, task.precision, 0, session.choice.device, session.run, spending, progress)
    tasks: dict[str, Task] = {"proxy": task} | _beside(beside, dataset, task, search)
    # The baselines can cost as much as a proxy set, and the search's best alone are not compared with them.
    asked = ("random_subset", *score_names(config.scores)) if any(one.group == "sample" for one in candidates) else ()
    left_out = _why_no_totals(making, task, full, settings.trials)
    notes = [left_out] if left_out and any(SCORES[name].total for name in asked) else []
    for name in asked:
        if name in (*tasks, *COUNTED) or (SCORES[name].total and left_out is not None):
            continue
        try:
            tasks[name] = make_task(name, proxy, dataset, making=making)
        except NasproxyError as error:
            notes.append(f"No row for {name}: {error}")
    for own in search.objective.tasks:
        if own.score not in COUNTED:
            tasks.setdefault(own.score, own)
    # Each seed has a draw of its own: otherwise the luck of one draw would count as what random images know.
    draws = {
        name: [make_task(name, proxy, dataset, making=replace(making, draw=seed)) for seed in range(settings.seeds)]
        for name in DRAWN
        if name in tasks
    }
    for name, drawn in draws.items():
        if len(drawn) > 1:
            tasks[name] = _labelled(drawn[0], f"{len(drawn)} draws")
    for name, own in tasks.items():
        if isinstance(own, TrainingTask) and (num_sets := own.num_sets(settings.seeds)) > 1:
            tasks[name] = _labelled(own, f"{num_sets} sets")
    test = None if table else full_task(dataset, config, split="test")
    return ScoreTasks(tasks, draws, full, test, spending, tuple(notes))


def _labelled(task: Task, more: str) -> Task:
    """``task`` with ``more`` inside the brackets at the end of its label."""
    return replace(task, label=f"{task.label[:-1]}, {more})")


def _beside(beside: Sequence[ProxySet], dataset: Dataset, task: TrainingTask, search: SearchResult) -> dict[str, Task]:
    """Other proxy sets as scores. They train by their own recipe (or the search's) for as many epochs as the proxy;
    a recipe that was learned with a set keeps its epochs.
    """
    tasks: dict[str, Task] = {}
    for other in beside:
        check_fit(other, dataset)
        recipe = candidate_recipe(other, dataset, replace(search.config, epochs=None))
        if not recipe.learned:
            recipe = replace(recipe, epochs=task.recipe.epochs)
        name = f"{other.method}-{other.content_id[:8]}"
        own = proxy_task(other, dataset, recipe, precision=task.precision, score=name)
        if own.label in [known.label for known in (task, *tasks.values())]:  # of the same method and size
            own = replace(own, label=f"{own.label[:-1]}, {other.content_id[:8]})")
        tasks[name] = own
    return tasks


def _why_no_totals(making: Making, task: TrainingTask, full: TrainingTask | None, trials: int) -> str | None:
    """Why there are no baselines at equal total cost; empty when that needs no words, None when there are some."""
    times = making.times(True)
    if full is not None and making.spending is not None:
        seen, fully = (each.recipe.epochs * len(each.train.images) for each in (task, full))
        if making.spending.buys_full_training(seen, fully):
            return (
                f"No baselines at equal total cost: making the proxy set and training {trials} candidates on it costs "
                f"{times:.0f} times as much as the training alone. For that, each of them could be trained fully."
            )
    return "" if times < LEAST_TIMES else None
