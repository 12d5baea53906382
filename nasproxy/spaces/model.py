"""A search space: a network family, the parameters that vary, and the candidates that they span."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasproxy.config import config_hash
from nasproxy.core.errors import NasproxyError, nearest, unknown
from nasproxy.spaces.assignments import Assignments
from nasproxy.spaces.parameter import SCALARS, Parameter, Params, Range, key_of, text_of
from nasproxy.spaces.user_network import user_function

if TYPE_CHECKING:
    import optuna
    from torch import nn

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Candidate:
    """One architecture of a space. Only its id is hashed.

    Attributes:
        space: the name of the space.
        params: the active parameters, in the space's order.
        id: 12 hex digits, a digest of the network and all its arguments, constants and the family's defaults included.
            A default that is left out and the same value written down are one architecture.
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
    """A network family and the parameters that vary; :func:`~nasproxy.spaces.load_space` makes one from a file.

    Attributes:
        name: names the runs that search it.
        network: a name in ``NETWORKS``, or ``file.py:function``.
        parameters: parents before children.
        constants: arguments of the network that do not vary.
        limits: the largest candidate wanted.
        source: what :func:`~nasproxy.spaces.load_space` finds the file by from anywhere: a shipped file's name, else
            its absolute path.
        network_file: the Python file of a user's network.
        network_sha256: the digest of that file.
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
        """The identity of the family: its name, with the digest of a user's file."""
        function = self.network.rpartition(":")[2]
        return f"{self.network_sha256}:{function}" if self.network_file else function

    @cached_property
    def hash(self) -> str:
        """SHA-256 of all that defines the space, not of comments, the order of keys, or the place of its file."""
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
        """What defines the space, in lines for people to compare."""
        lines = [f"network: {self.network}{' ' + self.network_sha256[:12] if self.network_sha256 else ''}"]
        for parameter in self.parameters:
            when = "".join(f", when {p} is {' or '.join(map(text_of, values))}" for p, values in parameter.when.items())
            lines.append(f"{parameter.name}: {parameter}{when}")
        lines += [f"{name}: {text_of(value)} (constant)" for name, value in self.constants.items()]
        return lines + [f"{name}: {value}" for name, value in asdict(self.limits).items() if value is not None]

    # ---- candidates

    def candidate(self, params: Mapping[str, Any]) -> Candidate:
        """Checks ``params`` and makes the candidate with them. Values of inactive parameters are dropped.

        Raises:
            NasproxyError: for a name or value that the space does not have, or a missing active parameter.
        """
        given = self._known(params)
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

    def _known(self, params: Mapping[str, Any]) -> Params:
        """``params`` as scalars of Python, once their names and the values of constants are checked."""
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
        return given

    def parse_candidate(self, texts: Mapping[str, str]) -> Candidate:
        """The candidate of a table's row, whose cells are text; inactive parameters may be absent.

        Raises:
            NasproxyError: as :meth:`candidate` does.
        """
        parameters = {parameter.name: parameter for parameter in self.parameters}
        values = {name: parameters[name].parse(text) if name in parameters else text for name, text in texts.items()}
        return self.candidate(values)

    def suggest(self, trial: optuna.trial.BaseTrial) -> Candidate:
        """Asks ``trial`` for every active parameter, and only for those."""
        assigned = dict(self.constants)
        for parameter in self.parameters:
            if parameter.active(assigned):
                assigned[parameter.name] = parameter.suggest(trial)
        return self._candidate(assigned)

    def size(self) -> int | None:
        """Number of distinct assignments, conditions respected; None when a continuous range makes it infinite."""
        return self._assignments.size()

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
        return map(self._candidate, self._assignments)

    def at(self, index: int) -> Candidate:
        """The candidate at ``index``, from 0, of :meth:`enumerate`, found without the ones before it."""
        return self._candidate(self._assignments.at(index))

    def sample(self, rng: np.random.Generator) -> Candidate:
        """A random candidate: uniform over the distinct assignments of a finite space, also with conditions.

        A space with a continuous range is sampled parameter by parameter, log ranges log-uniformly.
        """
        return self._candidate(self._assignments.sample(rng))

    @cached_property
    def _assignments(self) -> Assignments:
        return Assignments(self.parameters, self.constants)

    def _candidate(self, assigned: Params) -> Candidate:
        """The candidate of constants and active parameters that are known to be of this space."""
        options = inspect.signature(self.family).parameters.values()
        arguments = {
            o.name: key_of(o.default) for o in options if isinstance(o.default, str | int | float | bool | None)
        }
        arguments |= {name: key_of(value) for name, value in assigned.items()}
        params = {name: value for name, value in assigned.items() if name not in self.constants}
        return Candidate(self.name, params, config_hash(self._reference, arguments)[:12])

    # ---- nets

    def build(self, params: Mapping[str, Any], input_shape: Shape, num_classes: int) -> nn.Module:
        """Checks ``params`` and builds the untrained net of that candidate.

        Args:
            params: as :meth:`candidate` takes them.
            input_shape: ``(c, h, w)`` of the images.

        Raises:
            NasproxyError: for parameters outside the space, or when the family cannot build them for this input.
        """
        return self.build_candidate(self.candidate(params), input_shape, num_classes)

    def build_candidate(self, candidate: Candidate, input_shape: Shape, num_classes: int) -> nn.Module:
        """The untrained net of ``candidate``, which this space made: the family called with constants and parameters.

        Raises:
            NasproxyError: when the family cannot build it for this input.
        """
        return self.family(input_shape, num_classes, **self.constants | candidate.params)

    # ---- a part of the space

    def function_of(self, candidate: Candidate) -> str:
        """What ``candidate`` computes: equal for candidates that are one function under two names.

        It is the candidate's id where the network family does not tell.
        """
        from nasproxy.networks import FUNCTIONS

        form = FUNCTIONS.get(self.network)
        if form is None:
            return candidate.id
        known = inspect.signature(self.family).parameters
        defaults = {name: one.default for name, one in known.items() if one.kind is inspect.Parameter.KEYWORD_ONLY}
        return form(defaults | self.constants | candidate.params)

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
