"""The JSON Schema of a space's YAML file, with which editors complete and check it; :func:`load_space` checks more.

``search_spaces/space.schema.json`` is its text. A YAML file names it in its first line:
``# yaml-language-server: $schema=space.schema.json``.
"""

from __future__ import annotations

import inspect
import json
from typing import Any

SCALAR = {"type": ["string", "number", "boolean", "null"]}
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def _parameter(scalar: dict[str, Any], *, ranges: bool) -> dict[str, Any]:
    """The schema of a parameter whose values are ``scalar``: a constant, a list, choices, or a range."""
    choices = {"type": "array", "items": scalar, "minItems": 1, "uniqueItems": True}
    forms: list[dict[str, Any]] = [
        scalar,
        choices,
        {
            "type": "object",
            "required": ["choices"],
            "additionalProperties": False,
            "properties": {"choices": choices, "when": {"$ref": "#/$defs/when"}},
        },
    ]
    if ranges:
        forms.append({"$ref": "#/$defs/range"})
    return {"anyOf": forms}


NAMED = ("activation", "norm", "pooling")


def _options(family: Any) -> dict[str, Any]:
    """The schema of the parameters of one network family."""
    properties: dict[str, Any] = {}
    takes_any = False
    for name, option in list(inspect.signature(family).parameters.items())[2:]:
        if option.kind is option.VAR_KEYWORD:
            takes_any = True
            continue
        kind = TYPES.get(type(option.default), "any")
        kind = name if kind == "string" and name in NAMED else kind
        properties[name] = {"$ref": f"#/$defs/{kind}", "description": f"default: {option.default}"}
    return {"properties": properties, "additionalProperties": takes_any}


def space_schema() -> dict[str, Any]:
    """The schema, with the options of every family in ``NETWORKS``."""
    from nasproxy.networks import ACTIVATIONS, NETWORKS, NORMS, POOLINGS

    kinds = {kind: _parameter({"type": kind}, ranges=kind in ("integer", "number")) for kind in TYPES.values()}
    for name, names in zip(NAMED, (list(ACTIVATIONS), list(NORMS), list(POOLINGS)), strict=True):
        kinds[name] = _parameter({"enum": names}, ranges=False)
    families = [
        {
            "if": {"properties": {"network": {"const": name}}, "required": ["network"]},
            "then": {"properties": {"parameters": _options(family)}},
        }
        for name, family in NETWORKS.items()
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "nasproxy search space",
        "type": "object",
        "required": ["name", "network", "parameters"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "minLength": 1, "description": "Names the runs that search it."},
            "network": {
                "description": "A family of `nasproxy list`, or my_nets.py:build, relative to this file.",
                "anyOf": [{"enum": list(NETWORKS)}, {"type": "string", "pattern": r"^.+:\w+$"}],
            },
            "parameters": {
                "type": "object",
                "description": "Options of the network: a list of choices, a range, or a constant.",
                "minProperties": 1,
                "additionalProperties": {"$ref": "#/$defs/any"},
            },
            "limits": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "max_params": {"type": "integer", "minimum": 1, "description": "Trainable parameters, at most."},
                    "max_flops": {"type": "integer", "minimum": 1, "description": "FLOPs per image, at most."},
                },
            },
        },
        "allOf": families,
        "$defs": {
            "any": _parameter(SCALAR, ranges=True),
            **kinds,
            "range": {
                "type": "object",
                "required": ["range"],
                "additionalProperties": False,
                "properties": {
                    "range": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
                    "step": {"type": "number", "exclusiveMinimum": 0},
                    "log": {"type": "boolean"},
                    "when": {"$ref": "#/$defs/when"},
                },
            },
            "when": {
                "type": "object",
                "description": "The parameter exists only at these values of others.",
                "minProperties": 1,
                "additionalProperties": {"anyOf": [SCALAR, {"type": "array", "items": SCALAR, "minItems": 1}]},
            },
        },
    }


def schema_text() -> str:
    """The schema as the text of its file."""
    return json.dumps(space_schema(), indent=1) + "\n"
