"""The nodes of a YAML file: values, mappings and lists, and every mistake with its line and column."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from nasproxy.core.errors import NasproxyError, unknown
from nasproxy.spaces.parameter import Scalar
from nasproxy.spaces.user_network import describe_error

TAG = "tag:yaml.org,2002:"


class NodeReader:
    """Turns the nodes of one YAML file into values and collects every mistake with its line and column, from 1."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.mistakes: list[tuple[int, int, str]] = []

    def mistake(self, node: Any, message: str) -> None:
        """Notes ``message`` at the place of ``node``."""
        self.mistakes.append((node.start_mark.line + 1, node.start_mark.column + 1, message))

    def stop_on_mistakes(self) -> None:
        """Raises :class:`NasproxyError` with all mistakes, a line each, if there are any."""
        if self.mistakes:
            lines = [f"{self.file}:{line}:{column}: {message}" for line, column, message in sorted(set(self.mistakes))]
            raise NasproxyError("\n".join(lines))

    def scalar(self, node: Any, what: str) -> tuple[Scalar, ...]:
        """The value of ``node``, called ``what`` in messages, in a tuple of one; empty after a mistake."""
        kind = node.tag.removeprefix(TAG) if isinstance(node.value, str) else node.tag
        if kind not in ("str", "int", "float", "bool", "null") or (kind == "null" and not node.value):
            word = node_kind(node) + ("; quote it" if isinstance(node.value, str) and node.value else "")
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
            self.mistake(node, f"{what} must be a mapping of names to values, but got {node_kind(node)}.")
            return {}
        if not known and not node.value:
            self.mistake(node, f"{what} must name at least one parameter, but it is empty.")
        found: dict[str, tuple[Any, Any]] = {}
        for key_node, value_node in node.value:
            if value_node.value == "":  # an empty node is placed where the next token starts, maybe lines below
                value_node.start_mark = key_node.start_mark
            if key_node.tag != f"{TAG}str":
                self.mistake(key_node, f"Keys of {what} must be text, but got {node_kind(key_node)}.")
            elif key_node.value in found:
                line = found[key_node.value][0].start_mark.line + 1
                self.mistake(key_node, f"Duplicate key '{key_node.value}' in {what}: it is already on line {line}.")
            elif known and key_node.value not in known:
                self.mistake(key_node, str(unknown(f"key of {what}", key_node.value, known)))
            else:
                found[key_node.value] = (key_node, value_node)
        return found


def node_kind(node: Any) -> str:
    """What ``node`` is, in words for a message."""
    if isinstance(node.value, str):
        return f"'{node.value}'" if node.value else "nothing"
    return {f"{TAG}seq": "a list", f"{TAG}map": "a mapping"}.get(node.tag, f"the tag {node.tag}")


@lru_cache
def _yaml() -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True)  # YAML 1.2: `no` is text and 012 is twelve


def compose(path: Path, reader: NodeReader) -> Any:
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
