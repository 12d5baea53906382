"""The options of the commands that make a run: search, validate and demo."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

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
    RunArgument,
    Seed,
    Workers,
    choices,
    given,
    newest_run,
    panel,
)
from nasproxy.config import (
    LONGER_TIMES,
    LONGEST,
    PRUNERS,
    RECIPES,
    SAMPLERS,
    TRAINING_PRECISIONS,
    SearchConfig,
    ValidateConfig,
)

_training = panel("Training of candidates")
_validation = panel("Validation")
_search = panel("Advanced: search")
_output = panel("Advanced: output")
_hosts = panel("Advanced: several hosts")


def _of_run(option: Any) -> Any:
    """``option``, an annotated type of ``search``, for a command whose default is the run's own value."""
    info = copy(get_args(option)[1])
    info.show_default = "the run's own"
    return info


Storage = Annotated[
    str | None,
    _hosts(
        envvar="NASPROXY_STORAGE",
        help="PostgreSQL database (postgresql://...) that replaces the files in the run folder. The same command on "
        "several hosts then shares the work.",
        show_default="files in the run folder",
    ),
]
Sample = Annotated[
    int | None,
    _validation(
        help="Number of candidates to draw uniformly from the space and train on the full data.", show_default=BY_BUDGET
    ),
]
Top = Annotated[
    int | None,
    _validation(
        help="Number of the search's best candidates to train on the full data; they do not count in the correlations.",
        show_default=BY_BUDGET,
    ),
]
FullEpochs = Annotated[int | None, _validation(help="Epochs of training on the full data.", show_default=BY_BUDGET)]
FullImages = Annotated[
    int | None, _validation(help="Number of training images to use of the full data.", show_default=BY_BUDGET)
]
FullSeeds = Annotated[
    int | None,
    _validation(
        help="Number of training runs per candidate on the full data, each with its own seed.",
        show_default=str(ValidateConfig.seeds),
    ),
]
LongSample = Annotated[
    int | None,
    _validation(
        help="Number of sampled candidates to train longer as well, which shows whether training on the full data is "
        "long enough to rank; 0 checks nothing.",
        show_default=str(ValidateConfig.long_sample),
    ),
]
LongEpochs = Annotated[
    int | None,
    _validation(
        help="Epochs of that longer training.",
        show_default=f"{LONGER_TIMES} times --full-epochs, at most {LONGEST}",
    ),
]
FullPrecision = Annotated[
    str | None,
    _validation(
        help=f"Precision of matrix products in training on the full data: {choices(TRAINING_PRECISIONS)}.",
        show_default="bfloat16 if the device has it, else float32; float32 with --storage",
    ),
]
Scores = Annotated[
    str | None,
    _validation(
        help="Further scores to compare with the full accuracy, separated by commas, such as early_stop,synflow; also "
        "all or none.",
        show_default=ValidateConfig.scores,
    ),
]
Beside = Annotated[
    list[Path] | None,
    _validation(
        metavar="<path>",
        help="Another proxy file of the same data to validate on the same candidates; may be repeated.",
    ),
]
Truth = Annotated[
    Path | None,
    _validation(
        help="CSV file of known full accuracies, which replace training on the full data. It has a column for every "
        "parameter and the column `accuracy`; FILE:COLUMN names another column.",
    ),
]


def search(
    space: Annotated[str, typer.Option(help="Search space: a YAML file or a name from `nasproxy list`.")],
    proxy: ProxyOption = None,
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
        _validation(
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

    The same command resumes an interrupted search.
    """
    from nasproxy.cli import commands
    from nasproxy.search.callbacks import json_lines

    with json_lines(json) as lines:
        commands.search(
            commands.SearchOptions(
                space,
                search=given(
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
                ),
                validate=given(
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
                ),
                data=commands.DataOptions(dataset, data_dir, offline, device),
                proxy=proxy,
                proxy_folder=PROXY_FOLDER,
                run_folder=RUN_FOLDER,
                budget=budget,
                validation=validate,
                truth=truth,
                beside=tuple(beside or ()),
                out=out,
                forked=fork,
                workers=workers,
                storage=storage,
                track=track,
            ),
            lines,
        )


def validate(
    run: RunArgument = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            metavar=NO_VALUE,
            help="Only print how many candidates narrower intervals need, which length of training on the full data is "
            "recommended, and how long both take.",
        ),
    ] = False,
    workers: Workers = None,
    device: Device = "auto",
    sample: Annotated[int | None, _of_run(Sample)] = None,
    top: Annotated[int | None, _of_run(Top)] = None,
    full_epochs: Annotated[int | None, _of_run(FullEpochs)] = None,
    full_images: Annotated[int | None, _of_run(FullImages)] = None,
    full_seeds: Annotated[int | None, _of_run(FullSeeds)] = None,
    full_precision: Annotated[str | None, _of_run(FullPrecision)] = None,
    long_sample: Annotated[int | None, _of_run(LongSample)] = None,
    long_epochs: Annotated[int | None, _of_run(LongEpochs)] = None,
    scores: Annotated[str | None, _of_run(Scores)] = None,
    beside: Annotated[list[Path] | None, _of_run(Beside)] = None,
    truth: Annotated[Path | None, _of_run(Truth)] = None,
    dataset: Annotated[str | None, _of_run(RecordedDataset)] = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    storage: Storage = None,
) -> None:
    """Validate a run's ranking on the full data again, or with more candidates, and write the report.

    Finished training runs are reused.
    """
    from nasproxy.cli import commands

    if plan:
        commands.plan(run or newest_run())
        return
    commands.validate(
        commands.ValidateOptions(
            run or newest_run(),
            given(
                sample=sample,
                top=top,
                epochs=full_epochs,
                images=full_images,
                precision=full_precision,
                seeds=full_seeds,
                long_sample=long_sample,
                long_epochs=long_epochs,
                scores=scores,
            ),
            commands.DataOptions(dataset, data_dir, offline, device),
            truth=truth,
            beside=tuple(beside or ()),
            workers=workers,
            storage=storage,
        )
    )


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the demo's proxy set and run.")] = RUN_FOLDER / "demo",
    complete: Annotated[
        bool,
        typer.Option(
            "--complete", metavar=NO_VALUE, help="Use two seeds, 60 candidates and every baseline: about 20 minutes."
        ),
    ] = False,
    device: Device = "auto",
) -> None:
    """Run the whole pipeline on the digits data set, in less than three minutes on two CPU cores."""
    from nasproxy.cli import commands

    commands.demo(out, device, complete=complete)
