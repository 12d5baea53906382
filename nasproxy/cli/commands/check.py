"""``nasproxy check`` and ``nasproxy list``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nasproxy.cli.commands.options import DataOptions, Source
from nasproxy.cli.commands.output import load_data, say, say_space
from nasproxy.config import METHODS
from nasproxy.core.progress import progress_bar
from nasproxy.data import DATASETS
from nasproxy.data.proxy_set import SUFFIX, check_fit, load_proxy
from nasproxy.networks import NETWORKS
from nasproxy.scores.registry import SCORES
from nasproxy.spaces import SearchSpace, inspect_space, load_space, shipped_spaces


def check(target: str, data: DataOptions, image_size: int | None = None) -> None:
    """``nasproxy check``: checks a proxy file or a search space, and whether it fits the data set if one is given.

    Args:
        target: a path that ends in .safetensors is a proxy file; everything else is a search space.
        data: the data set, or none.
        image_size: the side in pixels to which the images of a folder are resized.

    Raises:
        NasproxyError: naming the first thing that is wrong.
    """
    source = None if data.dataset is None else Source(data.dataset, data.data_dir, image_size)
    if target.endswith(SUFFIX):
        _check_proxy(Path(target), source, offline=data.offline)
    else:
        _check_space(target, source, offline=data.offline)


def _check_proxy(path: Path, source: Source | None, *, offline: bool) -> None:
    proxy = load_proxy(path)
    say("proxy", f"{path} is intact: {proxy.describe()}")
    say("content", f"SHA-256 {proxy.content_id}")
    values = vars(proxy.recipe) | {"lrs": f"{len(proxy.recipe.lrs)} learned learning rates" if proxy.recipe.lrs else ""}
    say("recipe", ", ".join(f"{name}={value}" for name, value in values.items() if value != ""))
    if source is not None:
        data = load_data(source, offline=offline)
        check_fit(proxy, data)
        say("fits", f"the proxy set was built from this data set, {data.name}")


def _check_space(spec: str, source: Source | None, *, offline: bool) -> None:
    space = load_space(spec)
    say("space", f"{space.source} is valid: {space.name}, network {space.network}, {_size_text(space)}")
    if source is None:
        say("", "give --dataset NAME to check which candidates can be built for the data")
        return
    data = load_data(source, offline=offline)
    with progress_bar("checking the space") as progress:
        inspection = inspect_space(space, data.input_shape, data.num_classes, progress=progress)
    say_space(space, inspection)


def _size_text(space: SearchSpace) -> str:
    size = space.size()
    return "infinitely many candidates" if size is None else f"{size:,} candidates"


def list_everything() -> None:
    """``nasproxy list``: prints every name that an option takes, with a description."""
    sections: dict[str, dict[str, str]] = {
        "Data sets, for --dataset (it also takes a folder of images or Parquet files, or an .npz file)": {
            name: source.description for name, source in DATASETS.items()
        },
        "Methods, for build-proxy --method and compare --methods": {
            name: spec.summary for name, spec in METHODS.items()
        },
        "Networks, for build-proxy --network, evaluate --network and `network:` in a search space": {
            name: _first_line(network) for name, network in NETWORKS.items()
        },
        "Search spaces, for search --space (it also takes a YAML file)": {
            name: f"{space.network}, {_size_text(space)}"
            for name, space in ((name, load_space(path)) for name, path in shipped_spaces().items())
        },
        "Scores, for search --score, --against and --rungs, and validate --scores": {
            name: score.description for name, score in SCORES.items()
        },
    }
    for number, (title, entries) in enumerate(sections.items()):
        print(f"\n{title}:" if number else f"{title}:")
        width = max(len(name) for name in entries)
        for name, text in entries.items():
            print(f"  {name:<{width}}  {text}")


def _first_line(function: Any) -> str:
    """The first line of a docstring, without code marks and full stop."""
    return (function.__doc__ or "").strip().splitlines()[0].rstrip(".").replace("``", "")
