"""YAML → SearchSpace, with every mistake of the file reported at once, on its line."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasproxy.core.errors import NasproxyError, nearest, unknown
from nasproxy.spaces.model import (
    Limits,
    Parameter,
    Params,
    Range,
    Scalar,
    SearchSpace,
    describe_error,
    key_of,
    steps,
    text_of,
    user_function,
)

if TYPE_CHECKING:
    from torch import nn


TAG = "tag:yaml.org,2002:"


class _Reader:
    """Turns the nodes of one YAML file into values and collects every mistake with its line and column, from 1."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.mistakes: list[tuple[int, int, str]] = []

    def mistake(self, node: Any, message: str) -> None:
        self.mistakes.append((node.start_mark.line + 1, node.start_mark.column + 1, message))

    def stop_on_mistakes(self) -> None:
        if self.mistakes:
            lines = [f"{self.file}:{line}:{column}: {message}" for line, column, message in sorted(set(self.mistakes))]
            raise NasproxyError("\n".join(lines))

    def scalar(self, node: Any, what: str) -> tuple[Scalar, ...]:
        """The value in a tuple of one; empty after a mistake."""
        kind = node.tag.removeprefix(TAG) if isinstance(node.value, str) else node.tag
        if kind not in ("str", "int", "float", "bool", "null") or (kind == "null" and not node.value):
            word = _node_kind(node) + ("; quote it" if isinstance(node.value, str) and node.value else "")
            self.mistake(node, f"{what} must be text, a number, true/false or null, but got {word}.")
            return ()
        try:
            value = getattr(_yaml().constructor, f"construct_yaml_{kind}")(node)
        except (ValueError, LookupError):
            self.mistake(node, f"{what} must be a value of its tag !!{kind}, but got '{node.value}'.")
            return ()
        if isinstance(value, float) and not math.isfinite(value):
            self.mistake(node, f"{what} must be finite, but got {node.value}.")
            return ()
        return (value,)

    def mapping(self, node: Any, what: str, known: Iterable[str] = ()) -> dict[str, tuple[Any, Any]]:
        """``{key: (key node, value node)}``; the keys are ``known`` ones, or else the names of parameters."""
        if not isinstance(node.value, list) or node.tag != f"{TAG}map":
            self.mistake(node, f"{what} must be a mapping of names to values, but got {_node_kind(node)}.")
            return {}
        if not known and not node.value:
            self.mistake(node, f"{what} must name at least one parameter, but it is empty.")
        found: dict[str, tuple[Any, Any]] = {}
        for key_node, value_node in node.value:
            if value_node.value == "":  # an empty node lies where the next token starts, maybe lines further down
                value_node.start_mark = key_node.start_mark
            if key_node.tag != f"{TAG}str":
                self.mistake(key_node, f"Keys of {what} must be text, but got {_node_kind(key_node)}.")
            elif key_node.value in found:
                line = found[key_node.value][0].start_mark.line + 1
                self.mistake(key_node, f"Duplicate key '{key_node.value}' in {what}: it is already on line {line}.")
            elif known and key_node.value not in known:
                self.mistake(key_node, str(unknown(f"key of {what}", key_node.value, known)))
            else:
                found[key_node.value] = (key_node, value_node)
        return found

    def choices(self, node: Any, name: str) -> tuple[Scalar, ...] | None:
        """The values of a list; None after a mistake."""
        if not isinstance(node.value, list) or node.tag != f"{TAG}seq":
            self.mistake(node, f"The choices of '{name}' must be a list, but got {_node_kind(node)}.")
            return None
        if not node.value:
            self.mistake(node, f"The list of '{name}' must hold at least one value, but it is empty.")
            return None
        values: list[Scalar] = []
        failed = False
        for item in node.value:
            for value in (item_value := self.scalar(item, f"A choice of '{name}'")):
                same = [other for other in values if other == value]
                if same and key_of(same[0]) == key_of(value):
                    self.mistake(item, f"Duplicate choice {text_of(value)} of '{name}': remove one.")
                elif same:  # Optuna compares with ==, which True and 1 pass
                    both = f"{text_of(same[0])} and {text_of(value)}"
                    self.mistake(item, f"'{name}' mixes {both}, which a study cannot tell apart: quote one.")
                values.append(value)
                failed |= bool(same)
            failed |= not item_value
        return None if failed else tuple(values)

    def range(self, name: str, keys: dict[str, tuple[Any, Any]]) -> Range | None:
        """``range: [low, high]`` with ``step`` or ``log``; None after a mistake."""
        before = len(self.mistakes)
        node = keys["range"][1]
        ends: list[Any] = []
        if isinstance(node.value, list) and node.tag == f"{TAG}seq":
            ends = [value for item in node.value for value in self.scalar(item, f"An end of the range of '{name}'")]
        if len(self.mistakes) == before and (len(ends) != 2 or not all(map(_is_number, ends))):
            got = f"[{', '.join(map(text_of, ends))}]" if ends else _node_kind(node)
            self.mistake(node, f"The range of '{name}' must be two numbers, [low, high], but got {got}.")
        step: Any = None
        log = False
        if "step" in keys:
            (step,) = self.scalar(keys["step"][1], f"The step of '{name}'") or (None,)
            if "log" in keys:
                self.mistake(keys["log"][0], f"'{name}' has step and log, which exclude each other: remove one.")
        if "log" in keys:
            (log_value,) = self.scalar(keys["log"][1], f"The log of '{name}'") or (False,)
            if not isinstance(log_value, bool):
                self.mistake(
                    keys["log"][1], f"The log of '{name}' must be true or false, but got {text_of(log_value)}."
                )
            log = log_value is True
        if len(self.mistakes) > before:
            return None
        low, high = ends
        is_int = isinstance(low, int) and isinstance(high, int)
        if not low < high:
            self.mistake(node, f"low < high must hold for the range of '{name}', but got [{low}, {high}].")
        elif is_int and max(-low, high) > 2**53:  # a study stores numbers as float64
            self.mistake(node, f"Integers of the range of '{name}' may be 2^53 at most, but got [{low}, {high}].")
        elif log and low <= 0:
            self.mistake(node, f"low > 0 must hold for the log range of '{name}', but got [{low}, {high}].")
        elif "step" in keys:
            step_node = keys["step"][1]
            if not _is_number(step) or step <= 0:
                self.mistake(step_node, f"The step of '{name}' must be a number > 0, but got {text_of(step)}.")
            elif is_int and not isinstance(step, int):
                self.mistake(
                    step_node,
                    f"The step of '{name}' must be an integer, as both ends are, but got {step}: write "
                    f"[{low}.0, {high}.0] for a range of floats.",
                )
            elif steps(low, high, step) > 2**53:
                self.mistake(step_node, f"The range of '{name}' may have 2^53 steps at most: widen the step {step}.")
            elif steps(low, high, step) % 1:
                self.mistake(
                    step_node, f"The step of '{name}' must divide its range {low} to {high}, but got step {step}."
                )
        if len(self.mistakes) > before:
            return None
        if is_int:
            return Range(int(low), int(high), int(step or 1), log)
        return Range(float(low), float(high), None if step is None else float(step), log)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _node_kind(node: Any) -> str:
    if isinstance(node.value, str):
        return f"'{node.value}'" if node.value else "nothing"
    return {f"{TAG}seq": "a list", f"{TAG}map": "a mapping"}.get(node.tag, f"the tag {node.tag}")


@lru_cache
def _yaml() -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True)  # YAML 1.2: `no` is text and 012 is twelve


def _compose(path: Path, reader: _Reader) -> Any:
    """The root node of a YAML file: with line and column everywhere, and with duplicate keys still visible."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    def fail(line: int, column: int, message: str) -> NasproxyError:
        return NasproxyError(f"{reader.file}:{line}:{column}: {message}")

    try:
        raw = path.read_bytes()
    except OSError as error:
        raise NasproxyError(f"Cannot read the search space '{path}': {error.strerror}.") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _position(raw[: error.start].decode("utf-8-sig", "replace"))
        bad = f"0x{raw[error.start]:02x}"
        raise fail(line, column, f"A space must be UTF-8 text, but got the byte {bad}: save it as UTF-8.") from None
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except ReaderError as error:
        line, column = _position(text[: error.position])
        raise fail(line, column, f"A space must be text, but got the character {text[error.position]!r}.") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = f"This is no YAML: {error.problem or error.context}."
        raise fail(mark.line + 1 if mark else 1, mark.column + 1 if mark else 1, message) from None
    except (YAMLError, RecursionError) as error:
        raise fail(1, 1, f"This is no YAML: {describe_error(error)}.") from None
    if root is None:
        raise fail(1, 1, "A space needs name, network and parameters, but the file is empty.")
    return root


def _position(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _shipped_folder(package: Path) -> Path:
    """``search_spaces`` inside the package (an installed wheel) or beside it (a source checkout)."""
    inside = package / "search_spaces"
    return inside if inside.is_dir() else package.parent / "search_spaces"


def shipped_spaces() -> dict[str, Path]:
    """Name (the file's, without ``.yaml``) and path of every space that comes with nasproxy, sorted by name."""
    return {path.stem: path for path in sorted(_shipped_folder(Path(__file__).parents[1]).glob("*.yaml"))}


def load_space(spec: str | Path) -> SearchSpace:
    """Reads a space from a path, else by name (``convnet_space`` or ``convnet_space.yaml``) among the shipped ones.

    ``convnet_space:norm=batch,depth=2`` is the part of it where these parameters, or constants, have these values.

    Raises:
        NasproxyError: naming every mistake of the file at once, each on its line as ``file:line:column: message``.
    """
    whole, colon, values = str(spec).rpartition(":")
    if not colon or "=" not in values:
        return _load(spec)
    texts = {}
    for word in values.split(","):
        name, equals, value = (part.strip() for part in word.partition("="))
        if not (name and equals and value) or name in texts:
            raise NasproxyError(f"Parameters are set as name=value,…, each once, but got '{values}'.")
        texts[name] = value
    space = _load(whole)
    return replace(space.fix(texts), source=f"{space.source}:{values}")


def _load(spec: str | Path) -> SearchSpace:
    shipped = shipped_spaces()
    path = Path(spec)
    name = str(spec).removesuffix(".yaml")
    if not path.is_file() and name in shipped:
        path = shipped[name]
    elif not path.exists():
        raise NasproxyError(
            f"No search space '{spec}': neither a file nor a shipped space.{nearest(name, shipped)} "
            f"Shipped: {', '.join(shipped)}."
        )
    reader = _Reader(str(path))
    root = _compose(path, reader)
    keys = reader.mapping(root, "a space", ("name", "network", "parameters", "limits"))
    for required in ("name", "network", "parameters"):
        if required not in keys and root.tag == f"{TAG}map":
            reader.mistake(root, f"The key '{required}' is missing.")

    texts = {"name": "", "network": ""}
    for key in texts.keys() & keys.keys():
        for value in reader.scalar(keys[key][1], f"The {key}"):
            if isinstance(value, str) and value.strip():
                texts[key] = value
            else:
                reader.mistake(keys[key][1], f"The {key} must be text, but got {text_of(value) or 'nothing'}.")
    limits = _read_limits(reader, keys["limits"][1]) if "limits" in keys else Limits()
    nodes = reader.mapping(keys["parameters"][1], "parameters") if "parameters" in keys else {}
    parameters, constants = _read_parameters(reader, nodes)

    network_file, sha256 = None, ""
    if texts["network"]:
        network_file, sha256, family = _read_network(reader, keys["network"][1], texts["network"], path.parent)
        if family is not None:
            _check_options(reader, keys["network"][1], texts["network"], family, nodes)
    reader.stop_on_mistakes()
    resolved = path.resolve()
    source = path.name if resolved in (p.resolve() for p in shipped.values()) else str(resolved)
    return SearchSpace(texts["name"], texts["network"], parameters, constants, limits, source, network_file, sha256)


def _read_limits(reader: _Reader, node: Any) -> Limits:
    values: dict[str, int] = {}
    for name, (_, value_node) in reader.mapping(node, "limits", ("max_params", "max_flops")).items():
        for value in reader.scalar(value_node, name):
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 1 or value != int(value):
                reader.mistake(value_node, f"{name} must be an integer >= 1, but got {text_of(value) or 'nothing'}.")
            else:
                values[name] = int(value)
    return Limits(**values)


def _read_parameters(reader: _Reader, nodes: dict[str, tuple[Any, Any]]) -> tuple[tuple[Parameter, ...], Params]:
    """Parameters, parents before children and otherwise as declared, and constants."""
    domains: dict[str, tuple[Scalar, ...] | Range | None] = {}  # None: declared, with a mistake
    constants: Params = {}
    when_nodes: dict[str, dict[str, tuple[Any, Any]]] = {}
    for name, (key_node, node) in nodes.items():
        domains[name] = None
        if isinstance(node.value, str):
            for value in reader.scalar(node, f"The constant '{name}'"):
                constants[name], domains[name] = value, (value,)
        elif node.tag == f"{TAG}seq":
            domains[name] = reader.choices(node, name)
        else:
            before = len(reader.mistakes)
            keys = reader.mapping(node, f"parameter '{name}'", ("range", "step", "log", "choices", "when"))
            if ("range" in keys) == ("choices" in keys):
                if len(reader.mistakes) == before:  # else the key is there, misspelt
                    got = "both" if "range" in keys else "neither"
                    reader.mistake(key_node, f"'{name}' needs either range or choices, but got {got}.")
            elif "range" in keys:
                domains[name] = reader.range(name, keys)
            else:
                for extra in keys.keys() & {"step", "log"}:
                    reader.mistake(keys[extra][0], f"'{extra}' belongs to a range, but '{name}' has choices.")
                domains[name] = reader.choices(keys["choices"][1], name)
            if "when" in keys:
                when_nodes[name] = reader.mapping(keys["when"][1], f"when of '{name}'")

    conditions = {
        name: {
            parent: _read_condition(reader, parent, parent_nodes, domains)
            for parent, parent_nodes in when_nodes.get(name, {}).items()
        }
        for name in nodes
    }
    ordered: list[str] = []
    waiting = list(nodes)
    while waiting:
        ready = next((n for n in waiting if all(p in ordered or p not in nodes for p in conditions[n])), None)
        if ready is None:
            _report_cycle(reader, waiting, conditions, when_nodes)
            break
        ordered.append(ready)
        waiting.remove(ready)
    parameters = [(name, domains[name]) for name in ordered if name not in constants]
    return tuple(Parameter(name, d, conditions[name]) for name, d in parameters if d is not None), constants


def _read_condition(
    reader: _Reader, parent: str, nodes: tuple[Any, Any], domains: Mapping[str, tuple[Scalar, ...] | Range | None]
) -> tuple[Scalar, ...]:
    key_node, node = nodes
    if parent not in domains:
        reader.mistake(key_node, str(unknown("parameter in when", parent, domains)))
        return ()
    domain = domains[parent]
    if isinstance(domain, Range) and domain.step is None:
        reader.mistake(key_node, f"A condition needs a finite parent, but '{parent}' is a continuous range.")
        return ()
    if isinstance(domain, Range) and len(domain) > 1000:
        reader.mistake(key_node, f"A parent has at most 1000 values, but '{parent}' has {len(domain)}: widen its step.")
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
    reader: _Reader, waiting: list[str], conditions: Mapping[str, Mapping[str, Any]], when_nodes: Mapping[str, Any]
) -> None:
    """One mistake at the condition that closes the first cycle among the parameters that wait for each other."""
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


def _read_network(
    reader: _Reader, node: Any, network: str, folder: Path
) -> tuple[Path | None, str, Callable[..., nn.Module] | None]:
    """The user's file, its digest and the family; no family after a mistake."""
    from nasproxy.networks import NETWORKS

    if network in NETWORKS:
        return None, "", NETWORKS[network]
    file_name, _, function = network.rpartition(":")
    if not file_name or not function:
        reader.mistake(node, f"{unknown('network', network, NETWORKS)} Or name your own function: file.py:function.")
        return None, "", None
    file = folder / file_name
    if not file.is_file():
        reader.mistake(node, f"The network's file '{file_name}' is not in '{folder}': paths are relative to the space.")
        return None, "", None
    try:
        file = file.resolve()
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        return file, sha256, user_function(file, function, sha256)
    except (NasproxyError, OSError) as error:
        reader.mistake(node, f"The network '{network}' cannot be used: {error}")
        return None, "", None


def _check_options(
    reader: _Reader, node: Any, network: str, family: Callable[..., nn.Module], nodes: dict[str, tuple[Any, Any]]
) -> None:
    """Every parameter is an option of the family, and every required option is a parameter without a condition."""
    try:
        signature = inspect.signature(family)
        taken = list(signature.bind_partial((1, 1, 1), 1).arguments)
    except (TypeError, ValueError):
        taken = []
    if len(taken) != 2:
        reader.mistake(node, f"The network '{network}' must take (input_shape, num_classes, **options).")
        return
    options = {
        name: option
        for name, option in signature.parameters.items()
        if option.kind in (option.POSITIONAL_OR_KEYWORD, option.KEYWORD_ONLY) and name not in taken
    }
    takes_any = any(option.kind is option.VAR_KEYWORD for option in signature.parameters.values())
    for name, (key_node, value_node) in nodes.items():
        if name in taken:
            reader.mistake(key_node, f"'{name}' comes from the data set and cannot be a parameter: remove it.")
        elif name not in options and not takes_any:
            message = f"The network '{network}' takes no '{name}'.{nearest(name, options)}"
            reader.mistake(key_node, f"{message} It takes: {', '.join(options)}.")
        elif name in options and options[name].default is inspect.Parameter.empty:
            conditional = value_node.tag == f"{TAG}map" and any(key.value == "when" for key, _ in value_node.value)
            if conditional:
                reader.mistake(key_node, f"The network '{network}' always needs '{name}', so it can have no when.")
    for name, option in options.items():
        if option.default is inspect.Parameter.empty and name not in nodes:
            reader.mistake(node, f"The network '{network}' needs '{name}', but parameters has none: add it.")
