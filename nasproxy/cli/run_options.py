"""The options of the commands that make or read a run: search, validate, report, export and demo."""

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
    ProxyOption,
    RunArgument,
    Storage,
    Workers,
    given,
    newest_run,
)
from nasproxy.config import PRUNERS, RECIPES, SAMPLERS, TRAINING_PRECISIONS, SearchConfig, ValidateConfig

Trials = Annotated[int | None, typer.Option(help=f"Distinct candidates to evaluate, in total. {BY_BUDGET}")]
Sample = Annotated[int | None, typer.Option(help=f"Candidates drawn uniformly for validation. {BY_BUDGET}")]
Top = Annotated[int | None, typer.Option(help=f"The search's best, validated apart. {BY_BUDGET}")]
FullEpochs = Annotated[int | None, typer.Option(help=f"Epochs of full training. {BY_BUDGET}")]
FullImages = Annotated[int | None, typer.Option(help=f"Training images of full training. {BY_BUDGET}")]
FullSeeds = Annotated[int | None, typer.Option(help=f"Seeds of full training. [default: {ValidateConfig.seeds}]")]
FullPrecision = Annotated[
    str | None,
    typer.Option(
        help=f"Of products in full training: {' | '.join(TRAINING_PRECISIONS)}. "
        "[default: bfloat16 where the device has it; with --storage float32]"
    ),
]
Beside = Annotated[
    list[Path] | None,
    typer.Option(help="Another proxy file of the same data, validated on the same candidates; may be repeated."),
]
Scores = Annotated[
    str | None,
    typer.Option(
        help="Further scores to hold against full accuracy, such as early_stop,synflow; or none. "
        f"[default: {ValidateConfig.scores}]"
    ),
]
TruthOption = Annotated[
    Path | None,
    typer.Option(
        "--truth", help="CSV of full accuracies (a column per parameter, and `accuracy` or FILE:COLUMN), not trained."
    ),
]


def search(
    space: Annotated[str, typer.Option(help="A YAML file, or the name of a shipped space (`nasproxy list`).")],
    proxy: ProxyOption = None,
    budget: BudgetName = None,
    trials: Trials = None,
    sampler: Annotated[str, typer.Option(help=f"{' | '.join(SAMPLERS)}.")] = SearchConfig.sampler,
    seeds: Annotated[int, typer.Option(help="Trainings per candidate, averaged.")] = SearchConfig.seeds,
    recipe: Annotated[
        str | None,
        typer.Option(help=f"How candidates train: {' | '.join(RECIPES)}. [default: the one stored with the set]"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help=f"Epochs on the proxy set. {BY_BUDGET}")] = None,
    seed: Annotated[int, typer.Option(help="Every random number follows from it.")] = SearchConfig.seed,
    pending: Annotated[
        int | None,
        typer.Option(
            help="Candidates at work at once, on all workers; proposals depend on it, and not on the workers. "
            "[default: a fifth of the trials, 4 to 16, or the workers]"
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option(help=f"Of products in training on the small sets: {' | '.join(TRAINING_PRECISIONS)}.")
    ] = SearchConfig.precision,
    score: Annotated[
        str,
        typer.Option(help="What to maximise: a score (`nasproxy list`), or a sum of standings such as 2*proxy+naswot."),
    ] = SearchConfig.score,
    against: Annotated[
        str,
        typer.Option(help="Minimise these scores beside it, such as params,latency: gives a Pareto front."),
    ] = SearchConfig.against,
    rungs: Annotated[
        str,
        typer.Option(
            help="Cheap steps before, of which only the best go on: scores, epochs=N, ipc=N, such as naswot,epochs=30."
        ),
    ] = SearchConfig.rungs,
    pruner: Annotated[str, typer.Option(help=f"Which go on: {' | '.join(PRUNERS)}.")] = SearchConfig.pruner,
    reduction: Annotated[int, typer.Option(help="One in so many goes on (halving).")] = SearchConfig.reduction,
    workers: Workers = None,
    storage: Storage = None,
    track: Annotated[
        str, typer.Option(help="Also log to tensorboard (in the run folder) or mlflow; both with a comma.")
    ] = "",
    json: Annotated[
        bool, typer.Option("--json", help="Lines of JSON on standard output, one per candidate; the rest on error.")
    ] = False,
    fork: Annotated[
        bool, typer.Option("--fork", help="Go on in a copy of the run --out, with what was trained in it.")
    ] = False,
    validate: Annotated[
        bool, typer.Option("--validate/--no-validate", help="Go on to full training and statistics.")
    ] = True,
    sample: Sample = None,
    top: Top = None,
    full_epochs: FullEpochs = None,
    full_images: FullImages = None,
    full_precision: FullPrecision = None,
    full_seeds: FullSeeds = None,
    scores: Scores = None,
    beside: Beside = None,
    truth: TruthOption = None,
    out: Annotated[
        Path | None, typer.Option(help=f"Run folder. [default: one in {RUN_FOLDER}/ named after space and proxy]")
    ] = None,
    dataset: DatasetOption = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    device: Device = "auto",
) -> None:
    """Search a space with the proxy set; then validate it on the full data and write the report.

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
    sample: Sample = None,
    top: Top = None,
    full_epochs: FullEpochs = None,
    full_images: FullImages = None,
    full_precision: FullPrecision = None,
    full_seeds: FullSeeds = None,
    scores: Scores = None,
    beside: Beside = None,
    truth: TruthOption = None,
    dataset: DatasetOption = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    device: Device = "auto",
    workers: Workers = None,
    storage: Storage = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say how many candidates narrower intervals take, and how long that is.")
    ] = False,
) -> None:
    """Validate a run's proxy on the full data (again, or with more candidates) and write the report.

    Options that are not given are those of the run. What is trained already is not trained again.
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
                scores=scores,
            ),
            commands.DataOptions(dataset, data_dir, offline, device),
            truth=truth,
            beside=tuple(beside or ()),
            workers=workers,
            storage=storage,
        )
    )


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help=f"Run folders; several are compared. [default: the newest one in {RUN_FOLDER}/]"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write. [default: report.html in the run; of several compare.html beside them]"),
    ] = None,
) -> None:
    """Write the HTML report of a finished run again, from its data; of several runs, one page that compares them."""
    from nasproxy.cli import commands

    if runs and len(runs) > 1:
        commands.compare(runs, out)
        return
    commands.report(runs[0] if runs else newest_run(), out)


def export(
    run: RunArgument = None,
    candidate: Annotated[
        str | None, typer.Option(help="Its id, or how that begins. [default: the report's pick]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The file. [default: ID.py in the run folder]")] = None,
    train: Annotated[
        int | None, typer.Option(help="Train it so many epochs on the full data, and write its weights beside it.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of that training.")] = 0,
    data_dir: DataDir = None,
    offline: Offline = False,
    device: Device = "auto",
) -> None:
    """Write the best candidate as a Python file that needs PyTorch only."""
    from nasproxy.cli import commands

    commands.export(
        run or newest_run(),
        candidate=candidate,
        out=out,
        train=train,
        seed=seed,
        data_dir=data_dir,
        offline=offline,
        device=device,
    )


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the demo's proxy set and run.")] = RUN_FOLDER / "demo",
    complete: Annotated[
        bool,
        typer.Option("--complete", help="Two seeds, 60 candidates and every baseline: some twenty minutes."),
    ] = False,
    device: Device = "auto",
) -> None:
    """The whole road on the embedded digits, in under three minutes on two CPU cores."""
    from nasproxy.cli import commands

    commands.demo(out, device, complete=complete)
