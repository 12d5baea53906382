"""The assignments of a finite space: how many there are, all of them, the one at an index, and a random one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from nasproxy.spaces.parameter import Parameter, Params, Scalar, key_of


class Assignments:
    """Every way to give values to ``parameters`` (parents before children) and to keep ``constants``.

    An assignment holds the constants and the active parameters. Assignments are ordered with the last parameter
    changing fastest. They are counted without being listed: a *state* holds the parents assigned so far, and the number
    of ways to go on from a state is remembered.
    """

    def __init__(self, parameters: tuple[Parameter, ...], constants: Params) -> None:
        self.parameters = parameters
        self.constants = constants

    def size(self) -> int | None:
        """How many there are; None when a continuous range makes them infinitely many."""
        if any(parameter.continuous for parameter in self.parameters):
            return None
        return self._completions(0, {})

    def __iter__(self) -> Iterator[Params]:
        return self._following(0, self.constants)

    def at(self, index: int) -> Params:
        """The assignment at ``index``, from 0, found without the ones before it."""
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
        return assigned

    def sample(self, rng: np.random.Generator) -> Params:
        """A random assignment: uniform when they are finite, else drawn parameter by parameter."""
        assigned, state = dict(self.constants), dict[str, Scalar]()
        if self.size() is None:
            for parameter in self.parameters:
                if parameter.active(assigned):
                    assigned[parameter.name] = parameter.draw(rng)
            return assigned
        # Each branch is drawn in proportion to the assignments below it; drawing a parent uniformly would favour
        # the assignments with few children.
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
        return assigned

    def _following(self, index: int, assigned: Params) -> Iterator[Params]:
        """Every assignment that gives values to the parameters from ``index`` on and keeps ``assigned``."""
        if index == len(self.parameters):
            yield assigned
            return
        parameter = self.parameters[index]
        if not parameter.active(assigned):
            yield from self._following(index + 1, assigned)
            return
        for place in range(len(parameter.domain)):
            yield from self._following(index + 1, assigned | {parameter.name: parameter.domain[place]})

    def _branches(self, index: int, state: Params) -> list[tuple[range | list[int], Params]]:
        """Groups of places in a parameter's domain after which the rest of the space is the same, each with its state.

        An inactive parameter has one group with one place, which is not used.
        """
        parameter = self.parameters[index]
        if not parameter.active(self.constants | state):
            return [(range(1), state)]
        places = range(len(parameter.domain))
        if not any(parameter.name in child.when for child in self.parameters):
            return [(places, state)]
        return [([place], state | {parameter.name: parameter.domain[place]}) for place in places]

    def _completions(self, index: int, state: Params) -> int:
        """How many ways there are to assign the parameters from ``index`` on."""
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
