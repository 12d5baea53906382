"""What a proxy set records of how it was made, in both directions: settings → provenance, and provenance → settings."""

from __future__ import annotations

from typing import Any

from nasproxy.config import METHODS, CondenseConfig
from nasproxy.data import Dataset
from nasproxy.data.proxy_set import ProxySet
from nasproxy.spaces import SearchSpace, load_space

_HASH = "match_space_hash"


def provenance_of(dataset: Dataset, config: CondenseConfig, space: SearchSpace | None = None) -> dict[str, Any]:
    """What determines a set: the data, and every setting of the resolved ``config`` that its method reads.

    Args:
        space: the match space of ``config``, where it has been read; None: its file is read now.

    Returns:
        A JSON object with "dataset" and "config".

    Raises:
        NasproxyError: when the match space of ``config`` cannot be read.
    """
    settings = {name: value for name, value in config.as_json().items() if name in METHODS[config.method].reads}
    for name in ("ipc_per_class", "num_images"):  # only where they are used
        if settings.get(name) is None:
            settings.pop(name, None)
    if "match_space" in settings and config.match_space is not None:  # where the file lies says nothing about the set
        space = load_space(config.match_space) if space is None else space
        settings |= {"match_space": space.name, _HASH: space.hash}
    return {
        "dataset": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "input_shape": list(dataset.input_shape),
            "num_train": len(dataset.train),
        },
        "config": settings,
    }


def config_of(proxy: ProxySet) -> CondenseConfig:
    """The settings with which ``proxy`` was made.

    Raises:
        NasproxyError: when this version does not know one of them.
    """
    settings = {name: value for name, value in proxy.provenance["config"].items() if name != _HASH}
    if settings.get("match_space") is not None:  # the record says where the file was
        settings["match_space"] = proxy.record.get("match_space")
    return CondenseConfig.from_json(settings)
