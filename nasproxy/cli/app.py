"""The command line, ``nasproxy COMMAND``.

Only the parsing lives here; each command imports what it needs when it runs, so that ``--help`` answers at once. Every
default comes from config.py. Input that the user can mend ends in one sentence and exit code 2.
"""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from nasproxy.config import (
    AUGMENTATIONS,
    BUDGETS,
    COMPARED,
    DISTANCE_NAMES,
    FEATURES,
    INITS,
    NET_DATA,
    NET_INITS,
    PRECISIONS,
    PRUNERS,
    REAL_CHOICES,
    RECIPES,
    SAMPLERS,
    SOLVERS,
    TRAINING_PRECISIONS,
    CompareConfig,
    CondenseConfig,
    EvaluateConfig,
    SearchConfig,
    ValidateConfig,
)
from nasproxy.core.errors import NasproxyError

PROXY_FOLDER = Path("proxies")
RUN_FOLDER = Path("reports")

INTERRUPTED = 130  # what typer exits with after Ctrl-C

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Neural architecture search on a tiny synthetic proxy set, and a check of whether it can be believed.",
)

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


def _given(**values: Any) -> dict[str, Any]:
    """The options that the person set; the rest is left to the budget or the defaults."""
    return {name: value for name, value in values.items() if value is not None}


def _by_method(value: float) -> str:
    return f"[default: {value:g}, or by --method]"


@app.command("build-proxy")
def build_proxy_command(
    dataset: DatasetOption = "digits",
    method: Annotated[str, typer.Option(help="How the images are made: see `nasproxy list`.")] = CondenseConfig.method,
    ipc: Annotated[int, typer.Option(help="Images per class.")] = CondenseConfig.ipc,
    budget: BudgetName = None,
    init: Annotated[str | None, typer.Option(help=f"First images: {' | '.join(INITS)}. {BY_BUDGET}")] = None,
    distance: Annotated[str, typer.Option(help=f"{' | '.join(DISTANCE_NAMES)}.")] = CondenseConfig.distance,
    layer_weights: Annotated[
        str | None, typer.Option(help="Weight of each layer in the distance, such as 1,1,1,0.5. [default: all 1]")
    ] = None,
    outer_steps: Annotated[int | None, typer.Option(help=f"K, freshly initialised nets. {BY_BUDGET}")] = None,
    inner_steps: Annotated[
        int | None, typer.Option(help="T, matchings per net. [default: the paper's table by ipc]")
    ] = None,
    net_steps: Annotated[int | None, typer.Option(help=f"Epochs of the net between matchings. {BY_BUDGET}")] = None,
    lr_img: Annotated[
        float | None,
        typer.Option(help="Learning rate of what is learned. [default: 0.1; 0.01 for an mlp; or by --method]"),
    ] = None,
    momentum_img: Annotated[
        float | None, typer.Option(help=f"Momentum of the images. {_by_method(CondenseConfig.momentum_img)}")
    ] = None,
    lr_net: Annotated[
        float | None, typer.Option(help=f"Learning rate of the net. {_by_method(CondenseConfig.lr_net)}")
    ] = None,
    batch_net: Annotated[
        int | None, typer.Option(help=f"Batch of the net's own training. {_by_method(CondenseConfig.batch_net)}")
    ] = None,
    batch_norm_images: Annotated[
        int, typer.Option(help="Real images per class behind batch norm's statistics.")
    ] = CondenseConfig.batch_norm_images,
    batch_real: Annotated[int | None, typer.Option(help=f"Real images per class and matching. {BY_BUDGET}")] = None,
    network: Annotated[
        str, typer.Option(help="Family of the matching net: see `nasproxy list`.")
    ] = CondenseConfig.network,
    width: Annotated[int | None, typer.Option(help=f"Channels of the matching net. {BY_BUDGET}")] = None,
    depth: Annotated[int | None, typer.Option(help="Blocks of the matching net. [default: pools to about 4×4]")] = None,
    norm: Annotated[str, typer.Option(help="Normalisation of the matching net.")] = CondenseConfig.norm,
    match_space: Annotated[
        str | None, typer.Option(help="Draw every matching net from a space (YAML file or name) instead.")
    ] = None,
    augmentation: Annotated[
        str | None,
        typer.Option(help=f"Siamese, while matching: {' | '.join(AUGMENTATIONS)}. {BY_METHOD}"),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help=f"Of first-order passes: {' | '.join(PRECISIONS)}. "
            "[default: bfloat16 in builds of a minute or more where a test is clearly faster, else float32]"
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of the CPU. [default: the fastest of a short test]")
    ] = None,
    compiled: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Use torch.compile. [default: when the job is long enough]"),
    ] = None,
    num_sets: Annotated[int, typer.Option(help="Independent sets, in one file.")] = CondenseConfig.num_sets,
    real_choice: Annotated[
        str, typer.Option(help=f"Real images to match with: {' | '.join(REAL_CHOICES)}, nearest to cluster centres.")
    ] = CondenseConfig.real_choice,
    choice_interval: Annotated[
        int, typer.Option(help="Matchings between two clusterings.")
    ] = CondenseConfig.choice_interval,
    pool: Annotated[
        int, typer.Option(help="Match with a pool of nets trained briefly on the real data; 0: fresh nets.")
    ] = CondenseConfig.pool,
    pool_epochs: Annotated[
        int | None,
        typer.Option(
            help="Epochs of nets that are trained on the real data first: the pool's, or the one that chooses images. "
            f"{_by_method(CondenseConfig.pool_epochs)}"
        ),
    ] = None,
    perturbation: Annotated[
        float, typer.Option(help="Move the pool's nets at random by up to this share of their weights' norm.")
    ] = CondenseConfig.perturbation,
    net_data: Annotated[
        str, typer.Option(help=f"What the net trains on between matchings: {' | '.join(NET_DATA)} images.")
    ] = CondenseConfig.net_data,
    formation: Annotated[
        int, typer.Option(help="Store formation × formation smaller images in each.")
    ] = CondenseConfig.formation,
    ipc_per_class: Annotated[
        str | None, typer.Option(help="Images of each class, where they differ: 10,10,5,… in the order of the classes.")
    ] = None,
    num_images: Annotated[
        int | None, typer.Option(help="Images in all, also fewer than classes: for learned labels.")
    ] = None,
    features: Annotated[
        str, typer.Option(help=f"What real images are chosen by: {' | '.join(FEATURES)}.")
    ] = CondenseConfig.features,
    net_init: Annotated[
        str, typer.Option(help=f"Weights that an unrolled training starts from, every time: {' | '.join(NET_INITS)}.")
    ] = CondenseConfig.net_init,
    solver: Annotated[
        str, typer.Option(help=f"How labels are distilled: {' | '.join(SOLVERS)}.")
    ] = CondenseConfig.solver,
    unroll_steps: Annotated[
        int | None, typer.Option(help=f"Steps of training that are differentiated through. {BY_METHOD}")
    ] = None,
    unroll_epochs: Annotated[
        int | None, typer.Option(help=f"Times that these steps are gone through. {BY_METHOD}")
    ] = None,
    num_experts: Annotated[
        int | None, typer.Option(help=f"Trainings on the real data whose trajectories are matched. {BY_BUDGET}")
    ] = None,
    expert_epochs: Annotated[int | None, typer.Option(help=f"Epochs of each. {BY_BUDGET}")] = None,
    start_epochs: Annotated[
        int | None, typer.Option(help=f"Latest epoch of an expert to start from. {BY_BUDGET}")
    ] = None,
    target_epochs: Annotated[int | None, typer.Option(help=f"Epochs ahead that are aimed at. {BY_BUDGET}")] = None,
    recipe: Annotated[
        str | None, typer.Option(help=f"How to train on the set, stored with it: {' | '.join(RECIPES)}. {BY_METHOD}")
    ] = None,
    seed: Annotated[int, typer.Option(help="Every random number follows from it.")] = CondenseConfig.seed,
    out: Out = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    image_size: ImageSize = None,
    device: Device = "auto",
    force: Annotated[bool, typer.Option("--force", help="Build again although the file exists.")] = False,
) -> None:
    """Condense a data set into a few images per class."""
    from nasproxy.cli import commands

    overrides = _given(
        method=method,
        ipc=ipc,
        init=init,
        distance=distance,
        layer_weights=_numbers("--layer-weights", layer_weights),
        outer_steps=outer_steps,
        inner_steps=inner_steps,
        net_steps=net_steps,
        lr_img=lr_img,
        momentum_img=momentum_img,
        lr_net=lr_net,
        batch_net=batch_net,
        batch_norm_images=batch_norm_images,
        batch_real=batch_real,
        network=network,
        width=width,
        depth=depth,
        norm=norm,
        match_space=match_space,
        augmentation=augmentation,
        precision=precision,
        threads=threads,
        compile=compiled,
        num_sets=num_sets,
        real_choice=real_choice,
        choice_interval=choice_interval,
        pool=pool,
        pool_epochs=pool_epochs,
        perturbation=perturbation,
        net_data=net_data,
        formation=formation,
        ipc_per_class=_whole_numbers("--ipc-per-class", ipc_per_class),
        num_images=num_images,
        features=features,
        net_init=net_init,
        solver=solver,
        unroll_steps=unroll_steps,
        unroll_epochs=unroll_epochs,
        num_experts=num_experts,
        expert_epochs=expert_epochs,
        start_epochs=start_epochs,
        target_epochs=target_epochs,
        recipe=recipe,
        seed=seed,
    )
    assert overrides.keys() <= {field.name for field in fields(CondenseConfig)}
    commands.build(
        commands.Source(dataset or "digits", data_dir, image_size),
        overrides,
        budget=budget,
        out=out,
        folder=PROXY_FOLDER,
        offline=offline,
        device=device,
        force=force,
    )


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise NasproxyError(f"{option} takes numbers separated by commas, but got '{text}'.") from None


def _whole_numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise NasproxyError(f"{option} takes whole numbers separated by commas, but got '{text}'.") from None


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


@app.command("search")
def search_command(
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
        typer.Option(
            help="What to maximise: a score (`nasproxy list`), or a sum of ranks such as 2*proxy+naswot."
        ),
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
            space,
            proxy=proxy,
            proxy_folder=PROXY_FOLDER,
            run_folder=RUN_FOLDER,
            search_overrides=_given(
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
            validate_overrides=_given(
                sample=sample,
                top=top,
                epochs=full_epochs,
                images=full_images,
                precision=full_precision,
                seeds=full_seeds,
                seed=seed,
                scores=scores,
            ),
            budget=budget,
            validation=validate,
            truth=truth,
            out=out,
            dataset=dataset,
            data_dir=data_dir,
            offline=offline,
            device=device,
            workers=workers,
            storage=storage,
            forked=fork,
            beside=beside or [],
            track=track,
            lines=lines,
        )


@app.command("validate")
def validate_command(
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
        commands.plan(run or _newest_run())
        return
    commands.validate(
        run or _newest_run(),
        _given(
            sample=sample,
            top=top,
            epochs=full_epochs,
            images=full_images,
            precision=full_precision,
            seeds=full_seeds,
            scores=scores,
        ),
        truth=truth,
        dataset=dataset,
        data_dir=data_dir,
        offline=offline,
        device=device,
        workers=workers,
        storage=storage,
        beside=beside or [],
    )


@app.command("report")
def report_command(
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
    commands.report(runs[0] if runs else _newest_run(), out)


def _newest_run() -> Path:
    from nasproxy.search.run_folder import newest_run

    return newest_run(RUN_FOLDER)


@app.command("export")
def export_command(
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
        run or _newest_run(),
        candidate=candidate,
        out=out,
        train=train,
        seed=seed,
        data_dir=data_dir,
        offline=offline,
        device=device,
    )


@app.command("evaluate")
def evaluate_command(
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
        proxies or [_newest_proxy()],
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


@app.command("compare")
def compare_command(
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
        _whole_numbers("--ipc", ipc) or (),
        overrides=_given(num_sets=num_sets, seed=seed, outer_steps=outer_steps, width=width),
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


def _newest_proxy() -> Path:
    from nasproxy.data.proxy_set import newest_proxy

    return newest_proxy(PROXY_FOLDER)


@app.command("check")
def check_command(
    target: Annotated[str, typer.Argument(help="A search space (YAML file or shipped name) or a proxy file.")],
    dataset: DatasetOption = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    image_size: ImageSize = None,
) -> None:
    """Check a search space or a proxy file, with --dataset also against the data."""
    from nasproxy.cli import commands

    commands.check(target, dataset=dataset, data_dir=data_dir, offline=offline, image_size=image_size)


@app.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of search spaces, for editors."""
    from nasproxy.spaces import schema_text

    print(schema_text(), end="")


@app.command("list")
def list_command() -> None:
    """List data sets, methods, networks, spaces and scores."""
    from nasproxy.cli import commands

    commands.list_everything()


@app.command("demo")
def demo_command(
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


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        print(installed("nasproxy"))
        raise typer.Exit


def main() -> None:
    """Entry point of the console script."""
    # --debug works wherever it stands on the line.
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        app()
    except NasproxyError as error:
        if debug:
            raise
        print(f"nasproxy: {error}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("\nnasproxy: interrupted; the same command goes on from its last checkpoint.", file=sys.stderr)
        raise


if __name__ == "__main__":
    main()
