"""What the coordinator's process and its workers tell each other: one line of JSON per message."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

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
    """From a worker: the ``fit`` of ``seed``; or ``bug``, the traceback of an error; or neither, a sign of life."""

    seed: int | None = None
    fit: Fit | None = None
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
        fit = content["fit"]
        if fit is not None:
            kind = fit["failure_kind"]
            fit["failure_kind"] = None if kind is None else FailureKind(kind)
            fit["curve"] = tuple((epoch, value) for epoch, value in fit["curve"])
            content["fit"] = Fit(**fit)
        return cls(**content)
