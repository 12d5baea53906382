"""The options of the commands that measure proxy sets: evaluate and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasproxy.cli.shared_options import (
    BY_BUDGET,
    NO_VALUE,
    PROXY_FOLDER,
    RUN_FOLDER,
    BudgetName,
    DataDir,
    DatasetOption,
    Device,
    Offline,
    RecordedDataset,
    Seed,
    Workers,
    choices,
    given,
    newest_proxy,
    panel,
    whole_numbers,
)
from nasproxy.config import COMPARED, RECIPES, CompareConfig, CondenseConfig, EvaluateConfig

_networks = panel("Networks and their training")
_building = panel("Advanced: building the sets")

Networks = Annotated[
    list[str] | None,
    _networks(
        "--network",
        metavar="<str>",
        help="Network to train: a family and its options, such as resnet18:norm=batch,width=16; may be repeated.",
        show_default="the network that the set was matched with",
    ),
]
Cross = Annotated[
    bool,
    _networks("--cross", metavar=NO_VALUE, help="Train the eleven networks of the usual cross-architecture table."),
]
Nets = Annotated[int, _networks(help="Number of networks of each kind to train on each set, each with its own seed.")]
SetRecipe = Annotated[
    str | None,
    _networks(
        "--recipe",
        help=f"Recipe of the training: {choices(RECIPES)}.",
        show_default="the one stored in the proxy file",
    ),
]
SetEpochs = Annotated[int | None, _networks("--epochs", help="Epochs of the training.", show_default="the recipe's")]


def evaluate(
    proxies: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Proxy files. Several sets are also compared in one table.",
            show_default=f"the newest in {PROXY_FOLDER}/",
        ),
    ] = None,
    baseline: Annotated[
        bool,
        _networks(
            "--baseline/--no-baseline",
            metavar=NO_VALUE,
            help="Train on as many random real images as well.",
            show_default="--baseline",
        ),
    ] = True,
    csv: Annotated[Path | None, typer.Option("--csv", help="CSV file to write, with one row per training.")] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            help="HTML page to write, which compares accuracy, cost and images of the sets.",
        ),
    ] = None,
    seed: Seed = EvaluateConfig.seed,
    workers: Workers = None,
    device: Device = "auto",
    network: Networks = None,
    cross: Cross = False,
    nets: Nets = EvaluateConfig.nets,
    recipe: SetRecipe = None,
    epochs: SetEpochs = None,
    dataset: RecordedDataset = None,
    data_dir: DataDir = None,
    offline: Offline = False,
) -> None:
    """Train new networks on proxy sets and print their test accuracy, compared with random real images.

    The same command resumes an interrupted evaluation. Finished training runs are reused.
    """
    from nasproxy.cli import commands

    commands.evaluate(
        proxies or [newest_proxy()],
        commands.EvaluateOptions(
            networks=tuple(network or ()),
            cross=cross,
            num_nets=nets,
            recipe=recipe,
            epochs=epochs,
            baseline=baseline,
            seed=seed,
            workers=workers,
        ),
        commands.DataOptions(dataset, data_dir, offline, device),
        table=csv,
        page=html,
    )


def compare(
    methods: Annotated[
        str,
        typer.Option(
            help="Condensation methods, separated by commas: names from `nasproxy list`.",
            show_default=", ".join(COMPARED),
        ),
    ] = ",".join(COMPARED),
    ipc: Annotated[str, typer.Option(help="Numbers of images per class, separated by commas.")] = str(
        CondenseConfig.ipc
    ),
    dataset: DatasetOption = "digits",
    num_sets: Annotated[
        int, typer.Option(help="Number of independent sets per method; confidence intervals are over the sets.")
    ] = CompareConfig.num_sets,
    budget: BudgetName = None,
    seed: Seed = CondenseConfig.seed,
    workers: Workers = None,
    device: Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the proxy sets, compare.html and trainings.csv.",
            show_default=f"compare-DATASET in {RUN_FOLDER}/",
        ),
    ] = None,
    network: Networks = None,
    cross: Cross = False,
    nets: Nets = CompareConfig.nets,
    recipe: SetRecipe = None,
    epochs: SetEpochs = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    outer_steps: Annotated[
        int | None,
        _building(
            help="Number of steps of every learned method (--outer-steps of build-proxy).", show_default=BY_BUDGET
        ),
    ] = None,
    width: Annotated[
        int | None,
        _building(help="Number of channels of every method's network.", show_default=BY_BUDGET),
    ] = None,
) -> None:
    """Build a proxy set with each of several methods, and compare their accuracy and cost on one page.

    The same command resumes an interrupted comparison. Finished sets and training runs are reused.
    """
    from nasproxy.cli import commands

    commands.compare_methods(
        [word.strip() for word in methods.split(",") if word.strip()],
        whole_numbers("--ipc", ipc) or (),
        commands.EvaluateOptions(
            networks=tuple(network or ()),
            cross=cross,
            num_nets=nets,
            recipe=recipe,
            epochs=epochs,
            seed=seed,
            workers=workers,
        ),
        commands.DataOptions(dataset, data_dir, offline, device),
        overrides=given(num_sets=num_sets, seed=seed, outer_steps=outer_steps, width=width),
        budget=budget,
        folder=out,
        run_folder=RUN_FOLDER,
    )
