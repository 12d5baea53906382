"""One parameter of a search space: its choices or its range, and when it is active."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from nasproxy.core.errors import NasproxyError

if TYPE_CHECKING:
    import optuna

Scalar = str | int | float | bool | None
Params = dict[str, Scalar]
SCALARS = (str, int, float, bool, type(None))


def key_of(value: Scalar) -> str:
    """A text that is equal for two scalars exactly when they mean the same: 0 and 0.0 do; 1, true and '1' do not."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included.

    They are integers when both ends are ``int``; then ``step`` is set. ``step`` None is a continuous range. With
    ``log``, samples are uniform in the logarithm.
    """

    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False

    @property
    def is_int(self) -> bool:
        """Whether its members are integers."""
        return isinstance(self.low, int)

    def __len__(self) -> int:
        """How many members it has.

        Raises:
            TypeError: for a continuous range.
        """
        if self.step is None:
            raise TypeError("A continuous range has no length.")
        return int(steps(self.low, self.high, self.step)) + 1

    def __getitem__(self, index: int) -> int | float:
        if isinstance(self.low, int) and isinstance(self.step, int):
            return self.low + index * self.step
        # Decimal, so that the third step of 0.1 is 0.3 and not 0.30000000000000004.
        return float(Decimal(str(self.low)) + index * Decimal(str(self.step)))

    def nearest(self, value: float) -> int | float | None:
        """The member equal to ``value``, up to the rounding of floats; None when there is none."""
        slack = 1e-9 * (self.high - self.low)
        if not self.low - slack <= value <= self.high + slack:
            return None
        if self.step is None:
            return min(max(float(value), self.low), self.high)
        member = self[round((value - self.low) / self.step)]
        return member if abs(member - value) <= (0 if self.is_int else slack) else None

    def __str__(self) -> str:
        extra = f" in steps of {self.step}" if self.step not in (None, 1) else ""
        return f"{self.low} to {self.high}{extra}{' (log)' if self.log else ''}"


def steps(low: float, high: float, step: float) -> Decimal:
    """How many steps lead from ``low`` to ``high``; it is whole when the step divides the range."""
    return (Decimal(str(high)) - Decimal(str(low))) / Decimal(str(step))


@dataclass(frozen=True)
class Parameter:
    """One argument of a network that varies.

    Attributes:
        name: of the argument.
        domain: its choices, or its range.
        when: parent → the values of the parent at which this parameter is active; it needs all of its parents.
    """

    name: str
    domain: tuple[Scalar, ...] | Range
    when: dict[str, tuple[Scalar, ...]] = field(default_factory=dict)

    @property
    def continuous(self) -> bool:
        """Whether it has infinitely many values."""
        return isinstance(self.domain, Range) and self.domain.step is None

    def active(self, assigned: Mapping[str, Scalar]) -> bool:
        """Whether every parent is assigned, and to one of the values that ``when`` names."""
        return all(
            parent in assigned and key_of(assigned[parent]) in map(key_of, values)
            for parent, values in self.when.items()
        )

    def member(self, value: Any) -> tuple[Scalar, ...]:
        """``value`` as the domain spells it, in a tuple of one; empty when the parameter cannot take it."""
        if isinstance(self.domain, tuple):
            return tuple(choice for choice in self.domain if key_of(choice) == key_of(value))[:1]
        if isinstance(value, bool) or not isinstance(value, int | float):
            return ()
        found = self.domain.nearest(value)
        return () if found is None else (found,)

    def parse(self, text: str) -> Scalar:
        """The value that ``text``, a cell of a table, spells; a text that spells no value is returned unchanged."""
        if isinstance(self.domain, tuple):
            for choice in self.domain:
                if text in (text_of(choice), str(choice)):
                    return choice
        for number in (int, float):
            with contextlib.suppress(ValueError):
                return number(text)
        return text

    def suggest(self, trial: optuna.trial.BaseTrial) -> Scalar:
        """The value that ``trial`` proposes, as the domain spells it: Optuna's steps of 0.1 miss 0.3 by rounding.

        Raises:
            NasproxyError: when the trial was told a value that the parameter cannot take.
        """
        domain = self.domain
        value: Scalar
        if isinstance(domain, tuple):
            value = trial.suggest_categorical(self.name, domain)
        elif isinstance(domain.low, int) and isinstance(domain.high, int) and isinstance(domain.step, int):
            value = trial.suggest_int(self.name, domain.low, domain.high, step=domain.step, log=domain.log)
        else:
            value = trial.suggest_float(self.name, domain.low, domain.high, step=domain.step, log=domain.log)
        member = self.member(value)
        if not member:
            raise NasproxyError(f"'{self.name}' is one of {self}, but the trial has {text_of(value)}.")
        return member[0]

    def draw(self, rng: np.random.Generator) -> Scalar:
        """A random value, uniform over the domain, or log-uniform over a log range."""
        domain = self.domain
        if isinstance(domain, Range) and domain.log:
            edge = 0.5 if domain.is_int else 0.0  # an integer is drawn from half a unit around it
            value = math.exp(rng.uniform(math.log(domain.low - edge), math.log(domain.high + edge)))
            return min(max(round(value) if domain.is_int else value, domain.low), domain.high)
        if isinstance(domain, Range) and domain.step is None:
            return float(rng.uniform(domain.low, domain.high))
        return domain[int(rng.integers(len(domain)))]

    def __str__(self) -> str:
        return str(self.domain) if isinstance(self.domain, Range) else ", ".join(text_of(v) for v in self.domain)


def text_of(value: Scalar) -> str:
    """``value`` as a YAML file spells it."""
    return value if isinstance(value, str) else json.dumps(value)
