"""Option types that several commands share, and how option texts become values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nasproxy.config import BUDGETS
from nasproxy.core.errors import NasproxyError

PROXY_FOLDER = Path("proxies")
RUN_FOLDER = Path("reports")

BY_BUDGET = "[default: by --budget]"
BY_METHOD = "[default: by --method]"

DatasetOption = Annotated[
    str | None,
    typer.Option("--dataset", help="A name (`nasproxy list`), a folder of images or Parquet files, or an .npz file."),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Where named data sets are, or are downloaded to. [default: $NASPROXY_DATA_DIR or ~/.cache/nasproxy/data]"
    ),
]
Offline = Annotated[bool, typer.Option("--offline", help="Never open a network connection.")]
ImageSize = Annotated[int | None, typer.Option(help="Resize and crop the images of a folder to this side, in pixels.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
BudgetName = Annotated[
    str | None,
    typer.Option(
        "--budget",
        help=f"{' | '.join(BUDGETS)}: sets loops, width, trials and validation. [default: what fits this device]",
    ),
]
Out = Annotated[Path | None, typer.Option(help="Where to write.")]
ProxyOption = Annotated[
    Path | None, typer.Option("--proxy", help=f"Proxy file. [default: the newest one in {PROXY_FOLDER}/]")
]
RunArgument = Annotated[Path | None, typer.Argument(help=f"Run folder. [default: the newest one in {RUN_FOLDER}/]")]

Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        envvar="NASPROXY_WORKERS",
        help="Processes that train, on the device. [default: one per two CPU threads; one on a GPU]",
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(
        envvar="NASPROXY_STORAGE",
        help="postgresql://… instead of files in the run folder: the same command on several hosts shares the work.",
    ),
]


def given(**values: Any) -> dict[str, Any]:
    """The options that the person set; the rest is left to the budget or the defaults."""
    return {name: value for name, value in values.items() if value is not None}


def by_method(value: float) -> str:
    return f"[default: {value:g}, or by --method]"


def numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise NasproxyError(f"{option} takes numbers separated by commas, but got '{text}'.") from None


def whole_numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise NasproxyError(f"{option} takes whole numbers separated by commas, but got '{text}'.") from None


def newest_run() -> Path:
    from nasproxy.search.run_folder import newest_run

    return newest_run(RUN_FOLDER)


def newest_proxy() -> Path:
    from nasproxy.data.proxy_set import newest_proxy

    return newest_proxy(PROXY_FOLDER)
