"""YAML → SearchSpace. Every mistake of the file is reported at once, each on its line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasproxy.core.errors import NasproxyError, nearest, unknown
from nasproxy.spaces.model import Limits, SearchSpace
from nasproxy.spaces.parameter import text_of
from nasproxy.spaces.user_network import user_digest, user_function
from nasproxy.spaces.yaml_nodes import TAG, NodeReader, compose
from nasproxy.spaces.yaml_parameters import read_parameters

if TYPE_CHECKING:
    from torch import nn


def _shipped_folder(package: Path) -> Path:
    """``search_spaces`` inside the package (an installed wheel) or beside it (a source checkout)."""
    inside = package / "search_spaces"
    return inside if inside.is_dir() else package.parent / "search_spaces"


def shipped_spaces() -> dict[str, Path]:
    """Every space that comes with nasproxy: its name (the file's, without ``.yaml``) → its path, sorted by name."""
    return {path.stem: path for path in sorted(_shipped_folder(Path(__file__).parents[1]).glob("*.yaml"))}


def load_space(spec: str | Path) -> SearchSpace:
    """Reads a search space.

    Args:
        spec: a path, else the name of a shipped space, ``convnet_space`` or ``convnet_space.yaml``. With
            ``convnet_space:norm=batch,depth=2`` it is the part of the space where these parameters, or constants, have
            these values.

    Raises:
        NasproxyError: with every mistake of the file, each on a line as ``file:line:column: message``.
    """
    whole, colon, values = str(spec).rpartition(":")
    if not colon or "=" not in values:
        return _load(spec)
    texts = {}
    for word in values.split(","):
        name, equals, value = (part.strip() for part in word.partition("="))
        if not (name and equals and value) or name in texts:
            raise NasproxyError(f"Parameters are set as name=value,…, each once, but got '{values}': correct it.")
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
    reader = NodeReader(str(path))
    root = compose(path, reader)
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
    parameters, constants = read_parameters(reader, nodes)

    network_file, sha256 = None, ""
    if texts["network"]:
        network_file, sha256, family = _read_network(reader, keys["network"][1], texts["network"], path.parent)
        if family is not None:
            _check_options(reader, keys["network"][1], texts["network"], family, nodes)
    reader.stop_on_mistakes()
    resolved = path.resolve()
    source = path.name if resolved in (p.resolve() for p in shipped.values()) else str(resolved)
    return SearchSpace(texts["name"], texts["network"], parameters, constants, limits, source, network_file, sha256)


def _read_limits(reader: NodeReader, node: Any) -> Limits:
    values: dict[str, int] = {}
    for name, (_, value_node) in reader.mapping(node, "limits", ("max_params", "max_flops")).items():
        for value in reader.scalar(value_node, name):
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 1 or value != int(value):
                reader.mistake(value_node, f"{name} must be an integer >= 1, but got {text_of(value) or 'nothing'}.")
            else:
                values[name] = int(value)
    return Limits(**values)


def _read_network(
    reader: NodeReader, node: Any, network: str, folder: Path
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
        sha256 = user_digest(file)
        return file, sha256, user_function(file, function, sha256)
    except (NasproxyError, OSError) as error:
        reader.mistake(node, f"The network '{network}' cannot be used: {error}")
        return None, "", None


def _check_options(
    reader: NodeReader, node: Any, network: str, family: Callable[..., nn.Module], nodes: dict[str, tuple[Any, Any]]
) -> None:
    """Checks that every parameter is an option of the family, and every required option an unconditional parameter."""
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
