"""What a search space is: parameters with conditions, and the candidates they span."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from nasproxy.config import config_hash
from nasproxy.core.errors import NasproxyError, nearest, unknown

if TYPE_CHECKING:
    import optuna
    from torch import nn

Scalar = str | int | float | bool | None
Params = dict[str, Scalar]
SCALARS = (str, int, float, bool, type(None))
Shape = tuple[int, int, int]


def key_of(value: Scalar) -> str:
    """Text that two scalars share exactly when they mean the same: 0 and 0.0 do, 1 and true and '1' do not."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; of integers when both are ``int``, then ``step`` is set."""

    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False

    @property
    def is_int(self) -> bool:
        return isinstance(self.low, int)

    def __len__(self) -> int:
        """Values on the grid; a continuous range has none and raises ``TypeError``."""
        if self.step is None:
            raise TypeError("A continuous range has no length.")
        return int(steps(self.low, self.high, self.step)) + 1

    def __getitem__(self, index: int) -> int | float:
        if isinstance(self.low, int) and isinstance(self.step, int):
            return self.low + index * self.step
        # Decimal, so that the third step of 0.1 is the 0.3 of a person and not 0.30000000000000004.
        return float(Decimal(str(self.low)) + index * Decimal(str(self.step)))

    def nearest(self, value: float) -> int | float | None:
        """The member that ``value`` stands for (floats may miss the grid by rounding), or None when it is outside."""
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
    return (Decimal(str(high)) - Decimal(str(low))) / Decimal(str(step))


@dataclass(frozen=True)
class Parameter:
    """One thing that varies: its choices or its range, and for each parent the values it needs to be active."""

    name: str
    domain: tuple[Scalar, ...] | Range
    when: dict[str, tuple[Scalar, ...]] = field(default_factory=dict)

    @property
    def continuous(self) -> bool:
        return isinstance(self.domain, Range) and self.domain.step is None

    def active(self, assigned: Mapping[str, Scalar]) -> bool:
        """Whether every parent is assigned one of the values that ``when`` names."""
        return all(
            parent in assigned and key_of(assigned[parent]) in map(key_of, values)
            for parent, values in self.when.items()
        )

    def member(self, value: Any) -> tuple[Scalar, ...]:
        """``value`` as the space spells it, in a tuple of one; empty when the parameter cannot take it."""
        if isinstance(self.domain, tuple):
            return tuple(choice for choice in self.domain if key_of(choice) == key_of(value))[:1]
        if isinstance(value, bool) or not isinstance(value, int | float):
            return ()
        found = self.domain.nearest(value)
        return () if found is None else (found,)

    def parse(self, text: str) -> Scalar:
        """The value that a table's cell spells; a text that spells no value is returned as it is."""
        if isinstance(self.domain, tuple):
            for choice in self.domain:
                if text in (text_of(choice), str(choice)):
                    return choice
        for number in (int, float):
            with contextlib.suppress(ValueError):
                return number(text)
        return text

    def suggest(self, trial: optuna.Trial) -> Scalar:
        """The trial's value, as the space spells it: Optuna's steps of 0.1 miss 0.3 by a rounding error."""
        if isinstance(self.domain, tuple):
            return trial.suggest_categorical(self.name, self.domain)
        low, high, step, log = self.domain.low, self.domain.high, self.domain.step, self.domain.log
        if isinstance(low, int) and isinstance(high, int) and isinstance(step, int):
            return trial.suggest_int(self.name, low, high, step=step, log=log)
        return self.domain.nearest(trial.suggest_float(self.name, low, high, step=step, log=log))

    def draw(self, rng: np.random.Generator) -> Scalar:
        """One value, uniform or log-uniform over the parameter's own domain."""
        domain = self.domain
        if isinstance(domain, Range) and domain.log:
            edge = 0.5 if domain.is_int else 0.0  # an integer owns the half units around it
            value = math.exp(rng.uniform(math.log(domain.low - edge), math.log(domain.high + edge)))
            return min(max(round(value) if domain.is_int else value, domain.low), domain.high)
        if isinstance(domain, Range) and domain.step is None:
            return float(rng.uniform(domain.low, domain.high))
        return domain[int(rng.integers(len(domain)))]

    def __str__(self) -> str:
        return str(self.domain) if isinstance(self.domain, Range) else ", ".join(text_of(v) for v in self.domain)


def text_of(value: Scalar) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True)
class Candidate:
    """One architecture of a space.

    ``params`` holds the active parameters in the space's order. ``id``, 12 hex digits, is the digest of the network and
    all its arguments, constants and the family's own defaults included: a default left out and the same value written
    down are one architecture. The id alone is hashed.
    """

    space: str
    params: Params = field(hash=False)
    id: str

    @property
    def label(self) -> str:
        """``width=32 depth=1 …``"""
        return " ".join(f"{name}={text_of(value)}" for name, value in self.params.items())


@dataclass(frozen=True)
class Limits:
    """The largest candidate wanted: trainable parameters, and FLOPs per image (two per multiply-add)."""

    max_params: int | None = None
    max_flops: int | None = None


@dataclass(frozen=True)
class SearchSpace:
    """A network family and the parameters that vary, parents before children; built by :func:`load_space`.

    ``hash`` (SHA-256) covers everything that defines the space: not comments, the order of keys, or where its file
    lies. A user's ``network_file`` enters it by ``network_sha256``, the digest of its bytes. ``source`` is what
    :func:`load_space` finds the file by from anywhere: a shipped file's name, else its absolute path.
    """

    name: str
    network: str
    parameters: tuple[Parameter, ...]
    constants: Params
    limits: Limits
    source: str
    network_file: Path | None = None
    network_sha256: str = ""

    @property
    def family(self) -> Callable[..., nn.Module]:
        """The function that builds candidates: ``family(input_shape, num_classes, **options)``."""
        if self.network_file is None:
            from nasproxy.networks import NETWORKS

            return NETWORKS[self.network]
        return user_function(self.network_file, self.network.rpartition(":")[2], self.network_sha256)

    @cached_property
    def _reference(self) -> str:
        function = self.network.rpartition(":")[2]
        return f"{self.network_sha256}:{function}" if self.network_file else function

    @cached_property
    def hash(self) -> str:
        parameters = {}
        for parameter in self.parameters:
            domain = parameter.domain
            parameters[parameter.name] = [
                ["int" if domain.is_int else "float", *map(key_of, (domain.low, domain.high, domain.step, domain.log))]
                if isinstance(domain, Range)
                else ["choices", *map(key_of, domain)],
                {parent: sorted(set(map(key_of, values))) for parent, values in parameter.when.items()},
            ]
        constants = {name: key_of(value) for name, value in self.constants.items()}
        return config_hash(self.name, self._reference, parameters, constants, asdict(self.limits))

    def describe(self) -> list[str]:
        """What defines the space, one line each, for people to compare."""
        lines = [f"network: {self.network}{' ' + self.network_sha256[:12] if self.network_sha256 else ''}"]
        for parameter in self.parameters:
            when = "".join(f", when {p} is {' or '.join(map(text_of, values))}" for p, values in parameter.when.items())
            lines.append(f"{parameter.name}: {parameter}{when}")
        lines += [f"{name}: {text_of(value)} (constant)" for name, value in self.constants.items()]
        return lines + [f"{name}: {value}" for name, value in asdict(self.limits).items() if value is not None]

    def fix(self, texts: Mapping[str, str]) -> SearchSpace:
        """The part of the space where these parameters have these values; constants may be given others.

        Raises:
            NasproxyError: for a name or value that the space does not have.
        """
        constants = dict(self.constants)
        parameters = {parameter.name: parameter for parameter in self.parameters}
        for name, text in texts.items():
            if name in constants:
                constants[name] = Parameter(name, (constants[name],)).parse(text)
            elif name in parameters:
                parameter = parameters[name]
                member = parameter.member(parameter.parse(text))
                if not member:
                    raise NasproxyError(f"'{name}' of space '{self.name}' is one of {parameter}, but got {text}.")
                parameters[name] = replace(parameter, domain=member)  # its condition stays
            else:
                raise unknown(f"parameter of space '{self.name}'", name, [*parameters, *constants])
        return replace(self, parameters=tuple(parameters.values()), constants=constants)

    def suggest(self, trial: optuna.Trial) -> Candidate:
        """Asks ``trial`` for every active parameter, and only for those."""
        assigned = dict(self.constants)
        for parameter in self.parameters:
            if parameter.active(assigned):
                assigned[parameter.name] = parameter.suggest(trial)
        return self.candidate({name: value for name, value in assigned.items() if name not in self.constants})

    def candidate(self, params: Mapping[str, Any]) -> Candidate:
        """The candidate with these parameters; values of inactive parameters are dropped.

        Raises:
            NasproxyError: for a name or value that the space does not have, or a missing active parameter.
        """
        names = [parameter.name for parameter in self.parameters]
        given: Params = {}
        for name, value in params.items():
            given[name] = value.item() if isinstance(value, np.generic) else value
            if not isinstance(given[name], SCALARS):
                raise NasproxyError(f"Values of '{name}' are text, numbers, true/false or null, but got {value!r}.")
            if name in self.constants:
                if key_of(given[name]) != key_of(self.constants[name]):
                    raise NasproxyError(
                        f"Space '{self.name}' fixes {name}={text_of(self.constants[name])}, but got {name}={value}."
                    )
            elif name not in names:
                raise unknown(f"parameter of space '{self.name}'", str(name), [*names, *self.constants])
        assigned = dict(self.constants)
        for parameter in self.parameters:
            if not parameter.active(assigned):
                continue
            if parameter.name not in given:
                raise NasproxyError(
                    f"A candidate of space '{self.name}' needs '{parameter.name}' ({parameter}), but got only "
                    f"{', '.join(map(str, params)) or 'nothing'}."
                )
            member = parameter.member(given[parameter.name])
            if not member:
                value = text_of(given[parameter.name])
                raise NasproxyError(
                    f"'{parameter.name}' of space '{self.name}' is one of {parameter}, but got {value}."
                    + nearest(value, map(text_of, parameter.domain) if isinstance(parameter.domain, tuple) else ())
                )
            assigned[parameter.name] = member[0]
        return self._candidate(assigned)

    def parse_candidate(self, texts: Mapping[str, str]) -> Candidate:
        """The candidate of a table's row, whose cells are text; inactive parameters may be absent.

        Raises:
            NasproxyError: as :meth:`candidate` does.
        """
        parameters = {parameter.name: parameter for parameter in self.parameters}
        values = {name: parameters[name].parse(text) if name in parameters else text for name, text in texts.items()}
        return self.candidate(values)

    def _candidate(self, assigned: Params) -> Candidate:
        options = inspect.signature(self.family).parameters.values()
        arguments = {
            o.name: key_of(o.default) for o in options if isinstance(o.default, str | int | float | bool | None)
        }
        arguments |= {name: key_of(value) for name, value in assigned.items()}
        params = {name: value for name, value in assigned.items() if name not in self.constants}
        return Candidate(self.name, params, config_hash(self._reference, arguments)[:12])

    def build(self, params: Mapping[str, Any], input_shape: Shape, num_classes: int) -> nn.Module:
        """The untrained net of ``params`` for images ``(c, h, w)``: the family called with constants and parameters.

        Raises:
            NasproxyError: for parameters outside the space, or when the family cannot build them for this input.
        """
        options = self.constants | self.candidate(params).params
        return self.family(input_shape, num_classes, **options)

    def size(self) -> int | None:
        """Number of distinct assignments, conditions respected; None when a continuous range makes it infinite."""
        if any(parameter.continuous for parameter in self.parameters):
            return None
        return self._completions(0, {})

    def enumerate(self) -> Iterator[Candidate]:
        """Every assignment of a finite space, the last parameter changing fastest.

        Raises:
            NasproxyError: when a continuous range makes the space infinite.
        """
        for parameter in self.parameters:
            if parameter.continuous:
                raise NasproxyError(
                    f"Only finite spaces can be enumerated, but '{parameter.name}' of '{self.name}' is the continuous "
                    f"range {parameter}: give it a step."
                )
        return map(self._candidate, self._assignments(0, self.constants))

    def _assignments(self, index: int, assigned: Params) -> Iterator[Params]:
        if index == len(self.parameters):
            yield assigned
            return
        parameter = self.parameters[index]
        if not parameter.active(assigned):
            yield from self._assignments(index + 1, assigned)
            return
        for place in range(len(parameter.domain)):
            yield from self._assignments(index + 1, assigned | {parameter.name: parameter.domain[place]})

    def at(self, index: int) -> Candidate:
        """The candidate at ``index``, from 0, of :meth:`enumerate`, found without the ones before it."""
        assigned, state = dict(self.constants), dict[str, Scalar]()
        for number, parameter in enumerate(self.parameters):
            for places, after in self._branches(number, state):
                below = self._completions(number + 1, after)
                if index < len(places) * below:
                    break
                index -= len(places) * below
            place, index = divmod(index, below)
            if parameter.active(assigned):
                assigned[parameter.name] = parameter.domain[places[place]]
            state = after
        return self._candidate(assigned)

    def sample(self, rng: np.random.Generator) -> Candidate:
        """A random candidate: uniform over the distinct assignments of a finite space, whatever its conditions.

        A space with a continuous range is sampled parameter by parameter, log ranges log-uniformly.
        """
        if self.size() is None:
            assigned = dict(self.constants)
            for parameter in self.parameters:
                if parameter.active(assigned):
                    assigned[parameter.name] = parameter.draw(rng)
            return self._candidate(assigned)
        # Each branch is drawn in proportion to the assignments below it; drawing a parent uniformly would favour
        # the candidates with few children.
        assigned, state = dict(self.constants), dict[str, Scalar]()
        for index, parameter in enumerate(self.parameters):
            branches = self._branches(index, state)
            weights = [len(places) * self._completions(index + 1, after) for places, after in branches]
            point, total, chosen = rng.random(), sum(weights), 0
            while chosen < len(weights) - 1 and point >= weights[chosen] / total:
                point -= weights[chosen] / total
                chosen += 1
            places, state = branches[chosen]
            if parameter.active(assigned):
                place = places[int(rng.integers(len(places)))]
                assigned[parameter.name] = parameter.domain[place]
        return self._candidate(assigned)

    def _branches(self, index: int, state: Params) -> list[tuple[range | list[int], Params]]:
        """Groups of places in a parameter's domain that leave the rest of the space alike, with the state after each.

        ``state`` holds the parents assigned so far. An inactive parameter has one group with one (unused) place.
        """
        parameter = self.parameters[index]
        if not parameter.active(self.constants | state):
            return [(range(1), state)]
        places = range(len(parameter.domain))
        if not any(parameter.name in child.when for child in self.parameters):
            return [(places, state)]
        return [([place], state | {parameter.name: parameter.domain[place]}) for place in places]

    def _completions(self, index: int, state: Params) -> int:
        """Distinct assignments of the parameters from ``index`` on, given the parents assigned in ``state``."""
        if index == len(self.parameters):
            return 1
        asked = {parent for parameter in self.parameters[index:] for parent in parameter.when}
        memo_key = (index, tuple((name, key_of(value)) for name, value in state.items() if name in asked))
        if memo_key not in self._memo:
            self._memo[memo_key] = sum(
                len(places) * self._completions(index + 1, after) for places, after in self._branches(index, state)
            )
        return self._memo[memo_key]

    @cached_property
    def _memo(self) -> dict[tuple[Any, ...], int]:
        return {}


@lru_cache
def user_function(file: Path, function: str, sha256: str) -> Callable[..., nn.Module]:
    """The ``function`` that the Python ``file`` defines, if the file still is the one that the space was read with."""
    source = file.read_bytes()
    if hashlib.sha256(source).hexdigest() != sha256:
        raise NasproxyError(f"'{file}' has changed since the space was read: start again, for its networks differ.")
    # In sys.modules, where dataclasses and pickle look for a class's module; executed from the bytes that were hashed.
    module = ModuleType(f"nasproxy_user_{config_hash(str(file), sha256)[:16]}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, str(file), "exec"), module.__dict__)
        found = getattr(module, function, None)
        if callable(found):
            return found
    except (Exception, SystemExit) as error:
        sys.modules.pop(module.__name__)
        raise NasproxyError(f"importing '{file}' failed: {describe_error(error)}") from error
    sys.modules.pop(module.__name__)
    defined = [name for name, value in vars(module).items() if inspect.isfunction(value)]
    raise NasproxyError(f"'{file}' has no function '{function}'.{nearest(function, defined)}")


def describe_error(error: BaseException) -> str:
    """``TypeError: first line``; an error written for the user speaks for itself."""
    line = (str(error).strip().splitlines() or ["no message"])[0]
    return line if isinstance(error, NasproxyError) else f"{type(error).__name__}: {line}"
