"""The options of ``nasproxy search``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nasproxy.cli.run_options import (
    Beside,
    FullEpochs,
    FullImages,
    FullPrecision,
    FullSeeds,
    LongEpochs,
    LongSample,
    Sample,
    Scores,
    Storage,
    Top,
    Truth,
    validation_panel,
)
from nasproxy.cli.shared_options import (
    BY_BUDGET,
    NO_VALUE,
    PROXY_FOLDER,
    RUN_FOLDER,
    BudgetName,
    DataDir,
    Device,
    Offline,
    ProxyOption,
    RecordedDataset,
    Seed,
    Workers,
    choices,
    given,
    panel,
)
from nasproxy.config import PRUNERS, RECIPES, SAMPLERS, TRAINING_PRECISIONS, SearchConfig
from nasproxy.core.errors import NasproxyError

_training = panel("Training of candidates")
_search = panel("Advanced: search")
_output = panel("Advanced: output")


def search(
    space: Annotated[str, typer.Option(help="Search space: a YAML file or a name from `nasproxy list`.")],
    proxy: ProxyOption = None,
    compute: Annotated[
        float | None,
        typer.Option(
            help="Compute to spend, in full trainings. The search then needs no proxy set: it takes free scores, short "
            "trainings and full trainings, and ends with the pick.",
            show_default="search with a proxy set",
        ),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(help="The same, in hours on this device.", show_default="search with a proxy set"),
    ] = None,
    budget: BudgetName = None,
    trials: Annotated[
        int | None, typer.Option(help="Number of distinct candidates to evaluate.", show_default=BY_BUDGET)
    ] = None,
    sampler: Annotated[
        str, typer.Option(help=f"Sampler that proposes candidates: {choices(SAMPLERS)}.")
    ] = SearchConfig.sampler,
    score: Annotated[
        str,
        typer.Option(
            help="Score to maximise: a name from `nasproxy list`, or a weighted sum of ranks such as 2*proxy+naswot."
        ),
    ] = SearchConfig.score,
    seed: Seed = SearchConfig.seed,
    workers: Workers = None,
    device: Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Run folder to write, or to resume.",
            show_default=f"a name from space, proxy set and settings, in {RUN_FOLDER}/",
        ),
    ] = None,
    epochs: Annotated[
        int | None, _training(help="Epochs of training on the proxy set.", show_default=BY_BUDGET)
    ] = None,
    seeds: Annotated[
        int, _training(help="Number of training runs per candidate; the score is their mean.")
    ] = SearchConfig.seeds,
    recipe: Annotated[
        str | None,
        _training(help=f"Recipe of the training: {choices(RECIPES)}.", show_default="the one stored in the proxy file"),
    ] = None,
    precision: Annotated[
        str, _training(help=f"Precision of matrix products in the training: {choices(TRAINING_PRECISIONS)}.")
    ] = SearchConfig.precision,
    validate: Annotated[
        bool,
        validation_panel(
            "--validate/--no-validate",
            metavar=NO_VALUE,
            help="Train candidates on the full data after the search, and compute the correlations.",
            show_default="--validate",
        ),
    ] = True,
    sample: Sample = None,
    top: Top = None,
    full_epochs: FullEpochs = None,
    full_images: FullImages = None,
    full_seeds: FullSeeds = None,
    full_precision: FullPrecision = None,
    long_sample: LongSample = None,
    long_epochs: LongEpochs = None,
    scores: Scores = None,
    beside: Beside = None,
    truth: Truth = None,
    dataset: RecordedDataset = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    against: Annotated[
        str,
        _search(
            help="Scores to minimise as well, separated by commas, such as params,latency. The result is a Pareto "
            "front.",
        ),
    ] = SearchConfig.against,
    rungs: Annotated[
        str,
        _search(
            help="Low-fidelity scores (rungs) to compute first, separated by commas: names of scores, epochs=N "
            "or ipc=N, such as naswot,epochs=30. Only the best candidates of a rung continue.",
        ),
    ] = SearchConfig.rungs,
    pruner: Annotated[
        str, _search(help=f"Pruner that decides which candidates continue after a rung: {choices(PRUNERS)}.")
    ] = SearchConfig.pruner,
    reduction: Annotated[
        int, _search(help="Reduction factor N of successive halving: the best 1/N of a rung's candidates continue.")
    ] = SearchConfig.reduction,
    pending: Annotated[
        int | None,
        _search(
            help="Number of concurrent trials, over all workers. The proposals depend on it, and not on the number of "
            "workers.",
            show_default="a fifth of --trials, but 4 to 16, and at least --workers",
        ),
    ] = None,
    fork: Annotated[
        bool,
        _output(
            "--fork", metavar=NO_VALUE, help="Continue in a copy of the run folder --out, and reuse its training runs."
        ),
    ] = False,
    json: Annotated[
        bool,
        _output(
            "--json",
            metavar=NO_VALUE,
            help="Print one line of JSON per candidate to standard output, and the messages to standard error.",
        ),
    ] = False,
    track: Annotated[
        str,
        _output(
            help="Trackers that also log the search, separated by commas: tensorboard (in the run folder), mlflow.",
        ),
    ] = "",
    storage: Storage = None,
) -> None:
    """Search a space with a proxy set, validate the ranking on the full data, and write the report.

    With --compute or --hours, find the best architecture for a stated compute.

    The same command resumes an interrupted search.
    """
    from nasproxy.cli import commands
    from nasproxy.search.callbacks import json_lines

    searching = given(
        trials=trials,
        sampler=sampler,
        seeds=seeds,
        recipe=recipe,
        epochs=epochs,
        seed=seed,
        pending=pending,
        precision=precision,
        score=score,
        against=against,
        rungs=rungs,
        pruner=pruner,
        reduction=reduction,
    )
    validating = given(
        sample=sample,
        top=top,
        epochs=full_epochs,
        images=full_images,
        precision=full_precision,
        seeds=full_seeds,
        long_sample=long_sample,
        long_epochs=long_epochs,
        seed=seed,
        scores=scores,
    )
    data = commands.DataOptions(dataset, data_dir, offline, device)
    common: dict[str, Any] = {"run_folder": RUN_FOLDER, "proxy_folder": PROXY_FOLDER, "out": out, "forked": fork}
    common |= {"workers": workers, "storage": storage, "track": track}
    with json_lines(json) as lines:
        if compute is None and hours is None:
            options = commands.SearchOptions(
                space,
                search=searching,
                validate=validating,
                data=data,
                proxy=proxy,
                budget=budget,
                validation=validate,
                truth=truth,
                beside=tuple(beside or ()),
                **common,
            )
            commands.search(options, lines)
            return
        others = {"--proxy": proxy, "--budget": budget, "--truth": truth, "--beside": beside or None}
        _not_with_compute(searching, validating, others | {"--no-validate": None if validate else True})
        settings = {name: value for name, value in validating.items() if name in FULL_TRAINING}
        settings |= given(compute=compute, hours=hours)
        commands.search_compute(commands.ComputeOptions(space, settings, data, **common), lines)


# The settings of a validation that a search for a stated compute takes, too.
FULL_TRAINING = ("epochs", "images", "precision", "seed")


def _not_with_compute(searching: dict[str, Any], validating: dict[str, Any], others: dict[str, Any]) -> None:
    """Refuses options of a search with a proxy set beside --compute.

    Args:
        searching: settings of the search; those with their default were not given.
        validating: settings of the validation that were given.
        others: further options; None stands for one that was not given.

    Raises:
        NasproxyError: naming the first of them.
    """
    given_here = [f"--{name}" for name, value in searching.items() if name != "seed" and value != _default(name)]
    given_here += [f"--{FULL_NAMES.get(name, name)}" for name in validating if name not in FULL_TRAINING]
    given_here += [name for name, value in others.items() if value is not None]
    if given_here:
        raise NasproxyError(
            f"--compute and --hours plan everything but full training themselves, but got "
            f"{given_here[0].replace('_', '-')}: leave one of the two out."
        )


FULL_NAMES = {"seeds": "full-seeds"}  # options whose names are not those of the settings


def _default(name: str) -> Any:
    return getattr(SearchConfig, name)
