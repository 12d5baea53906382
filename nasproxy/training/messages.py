"""What the coordinator's process and its workers tell each other: one line of JSON per message."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

from nasproxy.spaces import Params
from nasproxy.training.results import FailureKind, Fit


@dataclass(frozen=True)
class Order:
    """To a worker: measure ``candidate`` with each of ``seeds``.

    ``task``, ``held_out`` and ``builder`` are paths of pickled objects; ``keep`` is the folder of checkpoints.
    """

    task: str
    held_out: str
    builder: str
    candidate: str
    params: Params
    seeds: tuple[int, ...]
    keep: str | None

    def to_line(self) -> str:
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Self:
        return cls(**json.loads(line))


@dataclass(frozen=True)
class Answer:
    """From a worker: the ``fits`` of ``seed``, by score; or ``bug``, the traceback of an error; or a sign of life."""

    seed: int | None = None
    fits: dict[str, Fit] | None = None
    bug: str | None = None

    def to_line(self) -> str:
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Self:
        """The answer in ``line``.

        Raises:
            ValueError: when the line was cut, because its worker died while it wrote.
        """
        content = json.loads(line)
        if content["fits"] is not None:
            content["fits"] = {score: _fit(values) for score, values in content["fits"].items()}
        return cls(**content)


def _fit(values: dict[str, Any]) -> Fit:
    kind = values["failure_kind"]
    values["failure_kind"] = None if kind is None else FailureKind(kind)
    values["curve"] = tuple((epoch, value) for epoch, value in values["curve"])
    values["train_losses"] = tuple(values["train_losses"])
    return Fit(**values)
