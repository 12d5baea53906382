"""The options of the commands that look something up: check, list and schema."""

from __future__ import annotations

from typing import Annotated

import typer

from nasproxy.cli.shared_options import DataDir, DatasetOption, ImageSize, Offline


def check(
    target: Annotated[str, typer.Argument(help="A search space (YAML file or shipped name) or a proxy file.")],
    dataset: DatasetOption = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    image_size: ImageSize = None,
) -> None:
    """Check a search space or a proxy file, with --dataset also against the data."""
    from nasproxy.cli import commands

    commands.check(target, dataset=dataset, data_dir=data_dir, offline=offline, image_size=image_size)


def schema() -> None:
    """Print the JSON Schema of search spaces, for editors."""
    from nasproxy.spaces import schema_text

    print(schema_text(), end="")


def list_names() -> None:
    """List data sets, methods, networks, spaces and scores."""
    from nasproxy.cli import commands

    commands.list_everything()
