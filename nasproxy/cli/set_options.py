"""The options of the commands that measure proxy sets: evaluate and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasproxy.cli.shared_options import (
    BY_BUDGET,
    PROXY_FOLDER,
    RUN_FOLDER,
    BudgetName,
    DataDir,
    DatasetOption,
    Device,
    Offline,
    Workers,
    given,
    newest_proxy,
    whole_numbers,
)
from nasproxy.config import COMPARED, RECIPES, CompareConfig, CondenseConfig, EvaluateConfig


def evaluate(
    proxies: Annotated[
        list[Path] | None, typer.Argument(help=f"Proxy files. [default: the newest one in {PROXY_FOLDER}/]")
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(
            help="Family and options, such as resnet18:norm=batch,width=16; may be repeated. "
            "[default: the net that the set was matched with]"
        ),
    ] = None,
    cross: Annotated[bool, typer.Option("--cross", help="The field's cross-architecture table: eleven nets.")] = False,
    nets: Annotated[int, typer.Option(help="Fresh nets of each kind, on each set.")] = EvaluateConfig.nets,
    recipe: Annotated[
        str | None, typer.Option(help=f"How to train: {' | '.join(RECIPES)}. [default: the one stored with the set]")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs on the set. [default: the recipe's]")] = None,
    baseline: Annotated[
        bool, typer.Option("--baseline/--no-baseline", help="Random real images in equal number beside it.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Every random number follows from it.")] = EvaluateConfig.seed,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write every training to this file.")] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the sets side by side to this page: matrix, costs, images.")
    ] = None,
    dataset: DatasetOption = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Train fresh nets on a proxy set and print their test accuracy, beside random real images.

    What is trained already is not trained again: the same command goes on after an interruption.
    """
    from nasproxy.cli import commands

    commands.evaluate(
        proxies or [newest_proxy()],
        nets=network or [],
        cross=cross,
        num_nets=nets,
        recipe=recipe,
        epochs=epochs,
        baseline=baseline,
        seed=seed,
        table=csv,
        page=html,
        dataset=dataset,
        data_dir=data_dir,
        offline=offline,
        device=device,
        workers=workers,
    )


def compare(
    methods: Annotated[str, typer.Option(help="Methods, with commas between: see `nasproxy list`.")] = ",".join(
        COMPARED
    ),
    ipc: Annotated[str, typer.Option(help="Images per class, with commas between.")] = str(CondenseConfig.ipc),
    dataset: DatasetOption = "digits",
    num_sets: Annotated[
        int, typer.Option(help="Independent sets by each method: intervals are over them.")
    ] = CompareConfig.num_sets,
    network: Annotated[
        list[str] | None,
        typer.Option(help="Family and options of the nets that are trained; may be repeated. [default: the sets' own]"),
    ] = None,
    cross: Annotated[bool, typer.Option("--cross", help="The field's cross-architecture table: eleven nets.")] = False,
    nets: Annotated[int, typer.Option(help="Fresh nets of each kind, on each set.")] = CompareConfig.nets,
    recipe: Annotated[
        str | None, typer.Option(help=f"How to train: {' | '.join(RECIPES)}. [default: the one stored with each set]")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs on each set. [default: the recipe's]")] = None,
    budget: BudgetName = None,
    outer_steps: Annotated[int | None, typer.Option(help=f"Steps of every learned method. {BY_BUDGET}")] = None,
    width: Annotated[int | None, typer.Option(help=f"Channels of every method's net. {BY_BUDGET}")] = None,
    seed: Annotated[int, typer.Option(help="Every random number follows from it.")] = CondenseConfig.seed,
    out: Annotated[Path | None, typer.Option(help=f"Folder. [default: one in {RUN_FOLDER}/]")] = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Build a proxy set by every method and show them on one page: accuracy, cost, images.

    What is built or trained already is not done again: the same command goes on after an interruption.
    """
    from nasproxy.cli import commands

    commands.compare_methods(
        commands.Source(dataset or "digits", data_dir),
        [word.strip() for word in methods.split(",") if word.strip()],
        whole_numbers("--ipc", ipc) or (),
        overrides=given(num_sets=num_sets, seed=seed, outer_steps=outer_steps, width=width),
        budget=budget,
        networks=network or [],
        cross=cross,
        num_nets=nets,
        recipe=recipe,
        epochs=epochs,
        folder=out,
        run_folder=RUN_FOLDER,
        offline=offline,
        device=device,
        workers=workers,
    )
