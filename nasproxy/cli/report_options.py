"""The options of the commands that read a finished run: report and export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasproxy.cli.shared_options import RUN_FOLDER, DataDir, Device, Offline, RunArgument, newest_run


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Run folders. Several runs are compared on one page.", show_default=f"the newest in {RUN_FOLDER}/"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="HTML page to write.", show_default="report.html in the run folder; compare.html beside several runs"
        ),
    ] = None,
) -> None:
    """Write the HTML report of a finished run again, or one page that compares several runs.

    Nothing is trained: the report is written from the results in the run folders.
    """
    from nasproxy.cli import commands

    if runs and len(runs) > 1:
        commands.compare(runs, out)
        return
    commands.report(runs[0] if runs else newest_run(), out)


def export(
    run: RunArgument = None,
    candidate: Annotated[
        str | None,
        typer.Option(help="Candidate to write: its id, or the beginning of it.", show_default="the report's pick"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Python file to write.", show_default="ID.py in the run folder")
    ] = None,
    train: Annotated[
        int | None,
        typer.Option(
            help="Epochs of training on the full data. The weights are written to a .safetensors file beside --out.",
            show_default="no training",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of this training.")] = 0,
    device: Device = "auto",
    data_dir: DataDir = None,
    offline: Offline = False,
) -> None:
    """Write the best candidate of a run as a Python file that needs only PyTorch."""
    from nasproxy.cli import commands

    commands.export(
        run or newest_run(),
        candidate=candidate,
        out=out,
        train=train,
        seed=seed,
        data=commands.DataOptions(None, data_dir, offline, device),
    )
