"""The options of the commands that look something up: check, list and schema."""

from __future__ import annotations

from typing import Annotated

import typer

from nasproxy.cli.shared_options import CheckedDataset, DataDir, ImageSize, Offline


def check(
    target: Annotated[
        str, typer.Argument(help="Search space (YAML file or name from `nasproxy list`), or proxy file.")
    ],
    dataset: CheckedDataset = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    image_size: ImageSize = None,
) -> None:
    """Check a search space or a proxy file, and with --dataset whether it fits the data."""
    from nasproxy.cli import commands

    commands.check(target, commands.DataOptions(dataset, data_dir, offline), image_size)


def schema() -> None:
    """Print the JSON Schema of search spaces, for editors."""
    from nasproxy.spaces import schema_text

    print(schema_text(), end="")


def list_names() -> None:
    """List the names of data sets, methods, networks, search spaces and scores."""
    from nasproxy.cli import commands

    commands.list_everything()
