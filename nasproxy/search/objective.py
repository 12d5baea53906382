"""What a search optimizes: one score or a weighted sum, further objectives (a Pareto search), and low-fidelity rungs.

Scores have scales that cannot be added: an accuracy lies in [0, 1], synflow reaches 10³⁰. So in a sum every score
counts by its *standing*, its rank among the same reference candidates, drawn uniformly from the space and measured
first. Equal weights are the rank vote of [A] Abdelfattah et al., ICLR 2021, with mean ranks for its majority.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from nasproxy.config import SearchConfig
from nasproxy.core.errors import NasproxyError, unknown
from nasproxy.data import Dataset
from nasproxy.data.proxy_set import ProxySet
from nasproxy.scores.proxy import candidate_recipe, proxy_task, smaller_proxy_task
from nasproxy.scores.registry import SCORES, make_task, score_names
from nasproxy.training.tasks import Task, TrainingTask

# Of a sum of scores. The first candidates of a validation's sample, so that their trainings are used twice.
NUM_REFERENCES = 20

Terms = tuple[tuple[float, str], ...]

_TERM = re.compile(r"\s*([+-]?)\s*(?:(\d+\.?\d*|\.\d+)\s*\*\s*)?([a-z]\w*)\s*")


def parse_terms(text: str) -> Terms:
    """``"0.7*proxy + 0.3*naswot"`` as weights and names of scores; a weight left out is 1, and may be subtracted.

    Raises:
        NasproxyError: for anything else, an unknown score, one named twice, or a weight of 0.
    """
    terms: list[tuple[float, str]] = []
    place = 0
    while place < len(text) or not terms:
        found = _TERM.match(text, place)
        if found is None or (terms and not found[1]):
            raise NasproxyError(
                f"A score is a name or a sum such as 0.7*proxy+0.3*naswot, but got '{text}': see `nasproxy list`."
            )
        sign, weight, name = found.groups()
        if name not in SCORES:
            raise unknown("score", name, SCORES)
        value = float(weight or 1) * (-1 if sign == "-" else 1)
        if value == 0 or name in [known for _, known in terms]:
            raise NasproxyError(f"Every score of a sum must count, and be named once, but got '{text}'.")
        terms.append((value, name))
        place = found.end()
    return tuple(terms)


@dataclass(frozen=True)
class Objective:
    """``terms`` are maximised, ``against`` minimised beside them; ``rungs`` come first, cheapest first.

    ``name`` is what the person asked for.
    """

    name: str
    terms: tuple[tuple[float, Task], ...]
    against: tuple[Task, ...] = ()
    rungs: tuple[Task, ...] = ()

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The values of a candidate that passed every rung."""
        return (*(task for _, task in self.terms), *self.against)

    @property
    def is_sum(self) -> bool:
        """Whether scores count by their standing among reference candidates."""
        return len(self.terms) > 1 or self.terms[0][0] != 1

    @property
    def trained(self) -> TrainingTask | None:
        """The task of a search that ranks by the accuracy after one training."""
        task = self.terms[0][1]
        return task if not self.is_sum and isinstance(task, TrainingTask) else None

    def identity(self) -> dict[str, Any]:
        """What two searches share exactly when their values mean the same."""
        return {
            "terms": [[weight, task.score, task.setting] for weight, task in self.terms],
            "against": [[task.score, task.setting] for task in self.against],
            "rungs": [[task.score, task.setting] for task in self.rungs],
        }

    def show(self, value: float) -> str:
        """``value`` for people: per cent of an accuracy, four digits of anything else."""
        return f"{100 * value:.1f} %" if self.trained is not None else f"{value:.4g}"


def single(task: Task) -> Objective:
    """The search for the best by ``task`` alone."""
    return Objective(task.score, ((1.0, task),))


def check_objective(config: SearchConfig) -> None:
    """Says what is wrong with ``score``, ``against`` or ``rungs`` before anything is loaded.

    Raises:
        NasproxyError: naming the option.
    """
    names = [name for _, name in parse_terms(config.score)]
    against = score_names(config.against)
    if len({*names, *against}) < len(names) + len(against):
        raise NasproxyError(
            f"--score and --against must name different scores, but got --score '{config.score}' and --against "
            f"'{config.against}': leave one of them out."
        )
    rungs = parse_rungs(config.rungs)
    if rungs and against:
        raise NasproxyError(
            "Rungs end candidates by one score, so they do not go with --against: leave one of the two out."
        )


def parse_rungs(text: str) -> tuple[tuple[str, int], ...]:
    """``"naswot,epochs=10"`` as ``("naswot", 0), ("epochs", 10)``.

    Raises:
        NasproxyError: for anything else than names of scores, ``epochs=N`` and ``ipc=N``.
    """
    rungs = []
    for part in text.split(",") if text.strip() else ():
        name, equals, number = (word.strip() for word in part.partition("="))
        if equals and name in ("epochs", "ipc") and number.isdigit() and int(number) > 0:
            rungs.append((name, int(number)))
        elif equals:
            raise NasproxyError(f"A rung is a score's name, epochs=N or ipc=N, but got '{part}'.")
        elif name not in SCORES or name == "proxy":
            raise unknown("rung", name, [*(score for score in SCORES if score != "proxy"), "epochs=N", "ipc=N"])
        else:
            rungs.append((name, 0))
    return tuple(rungs)


def make_objective(config: SearchConfig, proxy: ProxySet, dataset: Dataset) -> Objective:
    """The objective of a search on ``proxy`` by ``config``.

    Args:
        config: its ``score``, ``against`` and ``rungs`` name what is measured, its ``recipe`` and ``epochs`` how
            candidates train.
        proxy: the proxy set that they train on.
        dataset: the data that ``proxy`` was made of; its validation split measures them.

    Raises:
        NasproxyError: for names that do not exist, or rungs that cost no less than what comes after them.
    """
    check_objective(config)
    recipe = candidate_recipe(proxy, dataset, config)

    def task(name: str) -> Task:
        return make_task(name, proxy, dataset, recipe, precision=config.precision)

    rungs: list[Task] = []
    for kind, number in parse_rungs(config.rungs):
        if kind == "epochs":
            if number >= recipe.epochs:
                raise NasproxyError(
                    f"A rung must train less than the {recipe.epochs} epochs after it, but got epochs={number}."
                )
            rungs.append(proxy_task(proxy, dataset, replace(recipe, epochs=number), precision=config.precision))
        elif kind == "ipc":
            rungs.append(smaller_proxy_task(proxy, dataset, recipe, number, precision=config.precision))
        else:
            rungs.append(task(kind))
    return Objective(
        config.score,
        tuple((weight, task(name)) for weight, name in parse_terms(config.score)),
        tuple(task(name) for name in score_names(config.against)),
        tuple(rungs),
    )
