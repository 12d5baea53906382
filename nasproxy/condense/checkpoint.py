"""The state of an interrupted build in one safetensors file, and whether it may be continued."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nasproxy.config import CondenseConfig, config_hash
from nasproxy.core.errors import NasproxyError
from nasproxy.core.files import write_atomically
from nasproxy.data import Dataset
from nasproxy.spaces import SearchSpace


@dataclass(frozen=True)
class Position:
    """What is done: ``outer`` nets and ``inner`` matchings of the next one, in ``seconds`` of work."""

    outer: int = 0
    inner: int = 0
    seconds: float = 0.0


def checkpoint_key(dataset: Dataset, config: CondenseConfig, space: SearchSpace | None = None) -> str:
    """What must be equal for a checkpoint to be continued: every setting, the data and the match space."""
    content = () if space is None else (space.hash,)
    return config_hash(config.as_json(), dataset.fingerprint, *content)


def save_checkpoint(
    path: Path, key: str, config: CondenseConfig, position: Position, tensors: dict[str, Tensor]
) -> None:
    """Writes ``tensors`` and where the build is, atomically."""
    from safetensors.torch import save

    header = {
        "key": key,
        "config": config.as_json(),
        "outer": position.outer,
        "inner": position.inner,
        "seconds": position.seconds,
    }
    data = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        metadata={"nasproxy-checkpoint": json.dumps(header)},
    )
    write_atomically(path, data)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {})["nasproxy-checkpoint"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise NasproxyError(f"The checkpoint '{path}' cannot be read ({error}): delete it to start again.") from None
    return header, tensors


def load_checkpoint(path: Path, key: str) -> tuple[Position, dict[str, Tensor]]:
    """What :func:`save_checkpoint` wrote.

    Raises:
        NasproxyError: when the file cannot be read, or belongs to other settings or data.
    """
    header, tensors = _read(path)
    if header["key"] != key:
        raise NasproxyError(
            f"The checkpoint '{path}' belongs to other settings or data, or to another match space: "
            "delete it to start again, or choose another --out."
        )
    return Position(header["outer"], header["inner"], header["seconds"]), tensors


def checkpoint_config(path: Path) -> CondenseConfig:
    """The settings with which the interrupted build at ``path`` was started.

    Raises:
        NasproxyError: when the checkpoint cannot be read.
    """
    return CondenseConfig.from_json(_read(path)[0]["config"])
