"""The options of the commands that make a run; search has more in search_options.py."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from nasproxy.cli.shared_options import (
    BY_BUDGET,
    NO_VALUE,
    RUN_FOLDER,
    DataDir,
    Device,
    Offline,
    RecordedDataset,
    RunArgument,
    Workers,
    choices,
    given,
    newest_run,
    panel,
)
from nasproxy.config import (
    LONGER_TIMES,
    LONGEST,
    TRAINING_PRECISIONS,
    ValidateConfig,
)

validation_panel = panel("Validation")
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
    validation_panel(
        help="Number of candidates to draw uniformly from the space and train on the full data.", show_default=BY_BUDGET
    ),
]
Top = Annotated[
    int | None,
    validation_panel(
        help="Number of the search's best candidates to train on the full data; they do not count in the correlations.",
        show_default=BY_BUDGET,
    ),
]
FullEpochs = Annotated[
    int | None, validation_panel(help="Epochs of training on the full data.", show_default=BY_BUDGET)
]
FullImages = Annotated[
    int | None, validation_panel(help="Number of training images to use of the full data.", show_default=BY_BUDGET)
]
FullSeeds = Annotated[
    int | None,
    validation_panel(
        help="Number of training runs per candidate on the full data, each with its own seed.",
        show_default=str(ValidateConfig.seeds),
    ),
]
LongSample = Annotated[
    int | None,
    validation_panel(
        help="Number of sampled candidates to train longer as well, which shows whether training on the full data is "
        "long enough to rank; 0 checks nothing.",
        show_default=str(ValidateConfig.long_sample),
    ),
]
LongEpochs = Annotated[
    int | None,
    validation_panel(
        help="Epochs of that longer training.",
        show_default=f"{LONGER_TIMES} times --full-epochs, at most {LONGEST}",
    ),
]
FullPrecision = Annotated[
    str | None,
    validation_panel(
        help=f"Precision of matrix products in training on the full data: {choices(TRAINING_PRECISIONS)}.",
        show_default="bfloat16 if the device has it, else float32; float32 with --storage",
    ),
]
Scores = Annotated[
    str | None,
    validation_panel(
        help="Further scores to compare with the full accuracy, separated by commas, such as early_stop,synflow; also "
        "all or none.",
        show_default=ValidateConfig.scores,
    ),
]
Beside = Annotated[
    list[Path] | None,
    validation_panel(
        metavar="<path>",
        help="Another proxy file of the same data to validate on the same candidates; may be repeated.",
    ),
]
Truth = Annotated[
    Path | None,
    validation_panel(
        help="CSV file of known full accuracies, which replace training on the full data. It has a column for every "
        "parameter and the column `accuracy`; FILE:COLUMN names another column.",
    ),
]


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
