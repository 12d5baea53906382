"""Option types that several commands share, and helpers for the ``*_options.py``.

``--help`` shows the options without a panel first, under "Options": these are the usual ones. :func:`panel` puts the
others under titles of their own. Typer reads help texts as rich markup, so they hold no square brackets.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from nasproxy.config import BUDGETS
from nasproxy.core.errors import NasproxyError, unknown

PROXY_FOLDER = Path("proxies")
RUN_FOLDER = Path("reports")

BY_BUDGET = "by --budget"
BY_METHOD = "by --method"


def panel(title: str) -> partial[Any]:
    """``typer.Option`` for options that ``--help`` shows under ``title``."""
    return partial(typer.Option, rich_help_panel=title)


def _at_least_one(workers: int | None) -> int | None:
    """A callback, because typer's own ``min`` widens the column of types for every option of the panel."""
    if workers is not None and workers < 1:
        raise NasproxyError(f"`--workers >= 1` must hold, but got {workers}.")
    return workers


def _known_budget(name: str | None) -> str | None:
    if name is not None and name not in BUDGETS:
        raise unknown("budget", name, BUDGETS)
    return name


def choices(words: Iterable[str]) -> str:
    """``"a, b or c"`` for the words that an option accepts."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else str(last)


NO_VALUE = ""  # as metavar of a switch: typer would print <bool>, as if the switch took a value

data_panel = panel("Data")

_DATASET_HELP = "Data set: a name from `nasproxy list`, a folder of images or Parquet files, or an .npz file."
DatasetOption = Annotated[str | None, typer.Option("--dataset", help=_DATASET_HELP)]
RecordedDataset = Annotated[
    str | None, data_panel("--dataset", help=_DATASET_HELP, show_default="the one recorded in the proxy file")
]
CheckedDataset = Annotated[str | None, typer.Option("--dataset", help=_DATASET_HELP)]
DataDir = Annotated[
    Path | None,
    data_panel(
        help="Folder of the named data sets. Missing ones are downloaded into it.",
        show_default="$NASPROXY_DATA_DIR or ~/.cache/nasproxy/data",
    ),
]
Offline = Annotated[bool, data_panel("--offline", metavar=NO_VALUE, help="Open no network connection.")]
ImageSize = Annotated[
    int | None,
    data_panel(
        help="Side length in pixels to which the images of a folder are resized and cropped.",
        show_default="their own size",
    ),
]
Device = Annotated[str, typer.Option(help="Device for the computation: auto, cpu, cuda or cuda:N.")]
BudgetName = Annotated[
    str | None,
    typer.Option(
        "--budget",
        callback=_known_budget,
        help=f"Size of the computation: {choices(BUDGETS)}. It sets the defaults of loops, width, trials and "
        "validation.",
        show_default="the largest that takes at most an hour on a CPU, or 5 minutes on a GPU",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.")]
ProxyOption = Annotated[
    Path | None, typer.Option("--proxy", help="Proxy file to use.", show_default=f"the newest in {PROXY_FOLDER}/")
]
RunArgument = Annotated[Path | None, typer.Argument(help="Run folder.", show_default=f"the newest in {RUN_FOLDER}/")]
Workers = Annotated[
    int | None,
    typer.Option(
        callback=_at_least_one,
        envvar="NASPROXY_WORKERS",
        help="Number of worker processes that train concurrently on the device.",
        show_default="one per two CPU threads, one on a GPU",
    ),
]


def given(**values: Any) -> dict[str, Any]:
    """The options that the person set, without those of None: the budget or the defaults decide on these."""
    return {name: value for name, value in values.items() if value is not None}


def numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """The numbers in ``text``, separated by commas; None for None.

    Raises:
        NasproxyError: when ``text`` holds anything else; ``option`` is named in the message.
    """
    if text is None:
        return None
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise NasproxyError(f"{option} takes numbers separated by commas, but got '{text}'.") from None


def whole_numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    """The whole numbers in ``text``, separated by commas; None for None.

    Raises:
        NasproxyError: when ``text`` holds anything else; ``option`` is named in the message.
    """
    if text is None:
        return None
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise NasproxyError(f"{option} takes whole numbers separated by commas, but got '{text}'.") from None


def newest_run() -> Path:
    """The newest run in the default folder of runs."""
    from nasproxy.search import run_folder

    return run_folder.newest_run(RUN_FOLDER)


def newest_proxy() -> Path:
    """The newest proxy file in the default folder of proxy files."""
    from nasproxy.data import proxy_set

    return proxy_set.newest_proxy(PROXY_FOLDER)
