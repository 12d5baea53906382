"""The parameters of a YAML file: choices, ranges and conditions, with every mistake at its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nasproxy.core.errors import nearest, unknown
from nasproxy.spaces.parameter import Parameter, Params, Range, Scalar, key_of, steps, text_of
from nasproxy.spaces.yaml_nodes import TAG, NodeReader, node_kind

Domain = tuple[Scalar, ...] | Range
KeyAndValue = tuple[Any, Any]  # the nodes of one entry of a mapping
Conditions = dict[str, dict[str, tuple[Scalar, ...]]]  # parameter → parent → the parent's values

MAX_PARENT_VALUES = 1000


def read_parameters(reader: NodeReader, nodes: dict[str, KeyAndValue]) -> tuple[tuple[Parameter, ...], Params]:
    """Reads the entries of ``parameters``; mistakes are left in ``reader``.

    Returns:
        The parameters, parents before children and otherwise as declared, and the constants. After a mistake some
        are missing.
    """
    domains: dict[str, Domain | None] = {}  # None: declared, with a mistake
    constants: Params = {}
    when_nodes: dict[str, dict[str, KeyAndValue]] = {}
    for name, (key_node, node) in nodes.items():
        domains[name] = None
        if isinstance(node.value, str):
            for value in reader.scalar(node, f"The constant '{name}'"):
                constants[name], domains[name] = value, (value,)
        elif node.tag == f"{TAG}seq":
            domains[name] = _read_choices(reader, node, name)
        else:
            before = len(reader.mistakes)
            keys = reader.mapping(node, f"parameter '{name}'", ("range", "step", "log", "choices", "when"))
            domains[name] = _read_domain(reader, name, key_node, keys, misspelt=len(reader.mistakes) > before)
            if "when" in keys:
                when_nodes[name] = reader.mapping(keys["when"][1], f"when of '{name}'")

    conditions = {
        name: {
            parent: _read_condition(reader, parent, parent_nodes, domains)
            for parent, parent_nodes in when_nodes.get(name, {}).items()
        }
        for name in nodes
    }
    names = [name for name in _parents_first(reader, conditions, when_nodes) if name not in constants]
    found = [(name, domains[name]) for name in names]
    return tuple(Parameter(name, own, conditions[name]) for name, own in found if own is not None), constants


def _read_domain(
    reader: NodeReader, name: str, key_node: Any, keys: dict[str, KeyAndValue], *, misspelt: bool
) -> Domain | None:
    """The range or the choices of a parameter that is a mapping; None after a mistake.

    With ``misspelt`` a key is unknown, so that a missing one is probably there under a wrong name.
    """
    if ("range" in keys) == ("choices" in keys):
        if not misspelt:
            got = "both" if "range" in keys else "neither"
            reader.mistake(key_node, f"'{name}' needs either range or choices, but got {got}.")
        return None
    if "range" in keys:
        return _read_range(reader, name, keys)
    for extra in keys.keys() & {"step", "log"}:
        reader.mistake(keys[extra][0], f"'{extra}' belongs to a range, but '{name}' has choices.")
    return _read_choices(reader, keys["choices"][1], name)


def _parents_first(
    reader: NodeReader, conditions: Conditions, when_nodes: Mapping[str, Mapping[str, KeyAndValue]]
) -> list[str]:
    """The names of ``conditions`` with parents before children; those in a cycle, a mistake, are left out."""
    ordered: list[str] = []
    waiting = list(conditions)
    while waiting:
        ready = next((n for n in waiting if all(p in ordered or p not in conditions for p in conditions[n])), None)
        if ready is None:
            _report_cycle(reader, waiting, conditions, when_nodes)
            break
        ordered.append(ready)
        waiting.remove(ready)
    return ordered


def _read_condition(
    reader: NodeReader, parent: str, nodes: KeyAndValue, domains: Mapping[str, Domain | None]
) -> tuple[Scalar, ...]:
    """The values of ``parent`` at which a parameter is active; empty after a mistake."""
    key_node, node = nodes
    if parent not in domains:
        reader.mistake(key_node, str(unknown("parameter in when", parent, domains)))
        return ()
    domain = domains[parent]
    if isinstance(domain, Range) and domain.step is None:
        reader.mistake(key_node, f"A condition needs a finite parent, but '{parent}' is a continuous range.")
        return ()
    if isinstance(domain, Range) and len(domain) > MAX_PARENT_VALUES:
        reader.mistake(
            key_node,
            f"A parent has at most {MAX_PARENT_VALUES} values, but '{parent}' has {len(domain)}: widen its step.",
        )
        return ()
    items = node.value if node.tag == f"{TAG}seq" else [node]
    if not items:
        reader.mistake(node, f"The values of '{parent}' in when must not be empty.")
    values: list[Scalar] = []
    for item in items:
        for value in reader.scalar(item, f"A value of '{parent}' in when"):
            member = Parameter(parent, domain).member(value) if domain is not None else (value,)
            if domain is not None and not member:
                words = [text_of(choice) for choice in domain] if isinstance(domain, tuple) else []
                reader.mistake(
                    item,
                    f"'{parent}' is never {text_of(value)}.{nearest(text_of(value), words)} "
                    f"Its values: {Parameter(parent, domain)}.",
                )
            values.extend(member)
    return tuple(values)


def _report_cycle(
    reader: NodeReader,
    waiting: list[str],
    conditions: Conditions,
    when_nodes: Mapping[str, Mapping[str, KeyAndValue]],
) -> None:
    """One mistake, at the condition that closes the first cycle among the parameters in ``waiting``."""
    chain = [waiting[0]]
    while True:
        parent = next(p for p in conditions[chain[-1]] if p in waiting)
        if parent in chain:
            loop = [*chain[chain.index(parent) :], parent]
            reader.mistake(
                when_nodes[chain[-1]][parent][0], f"Conditions must not form a cycle, but got {' → '.join(loop)}."
            )
            return
        chain.append(parent)


def _read_choices(reader: NodeReader, node: Any, name: str) -> tuple[Scalar, ...] | None:
    """The values of a list; None after a mistake."""
    if not isinstance(node.value, list) or node.tag != f"{TAG}seq":
        reader.mistake(node, f"The choices of '{name}' must be a list, but got {node_kind(node)}.")
        return None
    if not node.value:
        reader.mistake(node, f"The list of '{name}' must hold at least one value, but it is empty.")
        return None
    values: list[Scalar] = []
    failed = False
    for item in node.value:
        for value in (item_value := reader.scalar(item, f"A choice of '{name}'")):
            same = [other for other in values if other == value]
            if same and key_of(same[0]) == key_of(value):
                reader.mistake(item, f"Duplicate choice {text_of(value)} of '{name}': remove one.")
            elif same:  # Optuna compares with ==, which True and 1 pass
                both = f"{text_of(same[0])} and {text_of(value)}"
                reader.mistake(item, f"'{name}' mixes {both}, which a study cannot tell apart: quote one.")
            values.append(value)
            failed |= bool(same)
        failed |= not item_value
    return None if failed else tuple(values)


def _read_range(reader: NodeReader, name: str, keys: dict[str, KeyAndValue]) -> Range | None:
    """``range: [low, high]`` with ``step`` or ``log``; None after a mistake."""
    before = len(reader.mistakes)
    node = keys["range"][1]
    ends = _read_ends(reader, name, node)
    step: Any = None
    log = False
    if "step" in keys:
        (step,) = reader.scalar(keys["step"][1], f"The step of '{name}'") or (None,)
        if "log" in keys:
            reader.mistake(keys["log"][0], f"'{name}' has step and log, which exclude each other: remove one.")
    if "log" in keys:
        (log_value,) = reader.scalar(keys["log"][1], f"The log of '{name}'") or (False,)
        if not isinstance(log_value, bool):
            reader.mistake(keys["log"][1], f"The log of '{name}' must be true or false, but got {text_of(log_value)}.")
        log = log_value is True
    if len(reader.mistakes) > before:
        return None
    low, high = ends
    is_int = isinstance(low, int) and isinstance(high, int)
    if not low < high:
        reader.mistake(node, f"low < high must hold for the range of '{name}', but got [{low}, {high}].")
    elif is_int and max(-low, high) > 2**53:  # a study stores numbers as float64
        reader.mistake(node, f"Integers of the range of '{name}' may be 2^53 at most, but got [{low}, {high}].")
    elif log and low <= 0:
        reader.mistake(node, f"low > 0 must hold for the log range of '{name}', but got [{low}, {high}].")
    elif "step" in keys:
        _check_step(reader, name, keys["step"][1], low, high, step)
    if len(reader.mistakes) > before:
        return None
    if is_int:
        return Range(int(low), int(high), int(step or 1), log)
    return Range(float(low), float(high), None if step is None else float(step), log)


def _read_ends(reader: NodeReader, name: str, node: Any) -> list[Any]:
    """The two numbers of a range; anything else after a mistake."""
    before = len(reader.mistakes)
    ends: list[Any] = []
    if isinstance(node.value, list) and node.tag == f"{TAG}seq":
        ends = [value for item in node.value for value in reader.scalar(item, f"An end of the range of '{name}'")]
    if len(reader.mistakes) == before and (len(ends) != 2 or not all(map(_is_number, ends))):
        got = f"[{', '.join(map(text_of, ends))}]" if ends else node_kind(node)
        reader.mistake(node, f"The range of '{name}' must be two numbers, [low, high], but got {got}.")
    return ends


def _check_step(reader: NodeReader, name: str, node: Any, low: float, high: float, step: Any) -> None:
    is_int = isinstance(low, int) and isinstance(high, int)
    if not _is_number(step) or step <= 0:
        reader.mistake(node, f"The step of '{name}' must be a number > 0, but got {text_of(step)}.")
    elif is_int and not isinstance(step, int):
        reader.mistake(
            node,
            f"The step of '{name}' must be an integer, as both ends are, but got {step}: write "
            f"[{low}.0, {high}.0] for a range of floats.",
        )
    elif steps(low, high, step) > 2**53:
        reader.mistake(node, f"The range of '{name}' may have 2^53 steps at most: widen the step {step}.")
    elif steps(low, high, step) % 1:
        reader.mistake(node, f"The step of '{name}' must divide its range {low} to {high}, but got step {step}.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
