"""The options of ``build-proxy``."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated

import typer

from nasproxy.cli.shared_options import (
    BY_BUDGET,
    BY_METHOD,
    PROXY_FOLDER,
    BudgetName,
    DataDir,
    DatasetOption,
    Device,
    ImageSize,
    Offline,
    Out,
    by_method,
    given,
    numbers,
    whole_numbers,
)
from nasproxy.config import (
    AUGMENTATIONS,
    DISTANCE_NAMES,
    FEATURES,
    INITS,
    NET_DATA,
    NET_INITS,
    PRECISIONS,
    REAL_CHOICES,
    RECIPES,
    SOLVERS,
    CondenseConfig,
)


def build_proxy(
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
        float | None, typer.Option(help=f"Momentum of the images. {by_method(CondenseConfig.momentum_img)}")
    ] = None,
    lr_net: Annotated[
        float | None, typer.Option(help=f"Learning rate of the net. {by_method(CondenseConfig.lr_net)}")
    ] = None,
    batch_net: Annotated[
        int | None, typer.Option(help=f"Batch of the net's own training. {by_method(CondenseConfig.batch_net)}")
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
            f"{by_method(CondenseConfig.pool_epochs)}"
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

    overrides = given(
        method=method,
        ipc=ipc,
        init=init,
        distance=distance,
        layer_weights=numbers("--layer-weights", layer_weights),
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
        ipc_per_class=whole_numbers("--ipc-per-class", ipc_per_class),
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
