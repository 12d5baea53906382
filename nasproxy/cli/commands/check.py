"""``nasproxy check`` and ``list``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nasproxy.cli.commands.output import Source, load_data, say, say_space, size_text
from nasproxy.config import METHODS
from nasproxy.core.progress import progress_bar
from nasproxy.data import DATASETS
from nasproxy.data.proxy_set import SUFFIX, check_fit, load_proxy
from nasproxy.networks import NETWORKS
from nasproxy.scores.registry import SCORES
from nasproxy.spaces import inspect_space, load_space, shipped_spaces


def check(target: str, *, dataset: str | None, data_dir: Path | None, offline: bool, image_size: int | None) -> None:
    """``nasproxy check``: a proxy file (by its ending) or a search space, alone or against a data set."""
    data = None
    if target.endswith(SUFFIX):
        proxy = load_proxy(Path(target))
        say("proxy", f"{target} is intact: {proxy.describe()}")
        say("content", proxy.content_id)
        say("recipe", ", ".join(f"{name}={value}" for name, value in vars(proxy.recipe).items()))
        if dataset is not None:
            data = load_data(Source(dataset, data_dir, image_size), offline=offline)
            check_fit(proxy, data)
            say("fits", f"it was built from this {data.name}")
        return
    space = load_space(target)
    say("space", f"{space.source} is valid: {space.name}, network {space.network}, {size_text(space)}")
    if dataset is None:
        say("", "with --dataset NAME it is also checked which candidates can be built for the data")
        return
    data = load_data(Source(dataset, data_dir, image_size), offline=offline)
    with progress_bar("checking the space") as progress:
        inspection = inspect_space(space, data.input_shape, data.num_classes, progress=progress)
    say_space(space, inspection)


def list_everything() -> None:
    """``nasproxy list``: every name that an option takes."""
    sections: dict[str, dict[str, str]] = {
        "data sets (--dataset; or a folder of images or Parquet files, or an .npz)": {
            name: source.description for name, source in DATASETS.items()
        },
        "methods (build-proxy --method)": {name: spec.summary for name, spec in METHODS.items()},
        "networks (network: in a space; build-proxy --network)": {
            name: _first_line(network) for name, network in NETWORKS.items()
        },
        "spaces (search --space; or a YAML file)": {
            name: f"{space.network}, {size_text(space)}"
            for name, space in ((name, load_space(path)) for name, path in shipped_spaces().items())
        },
        "scores (search --score, --against, --rungs; validate --scores)": {
            name: score.description for name, score in SCORES.items()
        },
    }
    for title, entries in sections.items():
        print(title)
        width = max(len(name) for name in entries)
        for name, text in entries.items():
            print(f"  {name:<{width}}  {text}")


def _first_line(function: Any) -> str:
    return (function.__doc__ or "").strip().splitlines()[0].rstrip(".").replace("``", "")
