"""The options of ``build-proxy``."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from nasproxy.cli.shared_options import (
    BY_BUDGET,
    BY_METHOD,
    NO_VALUE,
    PROXY_FOLDER,
    BudgetName,
    DataDir,
    DatasetOption,
    Device,
    ImageSize,
    Offline,
    Seed,
    choices,
    data_panel,
    given,
    numbers,
    panel,
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

_images = panel("Synthetic images")
_loops = panel("Loops")
_network = panel("Matching network")
_distance = panel("Advanced: distance of gradients")
_faster = panel("Advanced: fewer matching steps")
_selection = panel("Advanced: selection of real images")
_unrolled = panel("Advanced: unrolled training")
_trajectories = panel("Advanced: trajectory matching")
_speed = panel("Advanced: speed")


def _or_by_method(value: float) -> str:
    return f"{value:g}, or by --method"


def build_proxy(
    dataset: DatasetOption = "digits",
    method: Annotated[str, typer.Option(help="Condensation method: a name from `nasproxy list`.")] = (
        CondenseConfig.method
    ),
    ipc: Annotated[int, typer.Option(help="Number of images per class.")] = CondenseConfig.ipc,
    num_sets: Annotated[int, typer.Option(help="Number of independent sets to store in the file.")] = (
        CondenseConfig.num_sets
    ),
    budget: BudgetName = None,
    network: Annotated[
        str, typer.Option(help="Family of the matching network: a name from `nasproxy list`.")
    ] = CondenseConfig.network,
    recipe: Annotated[
        str | None,
        typer.Option(
            help=f"Recipe for training on the set, stored in the file: {choices(RECIPES)}.", show_default=BY_METHOD
        ),
    ] = None,
    seed: Seed = CondenseConfig.seed,
    device: Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="Proxy file to write.", show_default=f"a name from the settings, in {PROXY_FOLDER}/"),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", metavar=NO_VALUE, help="Build again even if the file exists.")
    ] = False,
    data_dir: DataDir = None,
    offline: Offline = False,
    image_size: ImageSize = None,
    ipc_per_class: Annotated[
        str | None,
        data_panel(
            help="Number of images of each class: in the order of the classes, such as 10,10,5, or by name, such as "
            "cat=10,dog=5; classes that are not named have --ipc.",
            show_default="--ipc for every class",
        ),
    ] = None,
    num_images: Annotated[
        int | None,
        data_panel(
            help="Number of images in total; it may be smaller than the number of classes (method soft_label).",
            show_default="--ipc for every class",
        ),
    ] = None,
    init: Annotated[
        str | None,
        _images(help=f"Initial images: {choices(INITS)} images.", show_default=BY_BUDGET),
    ] = None,
    augmentation: Annotated[
        str | None,
        _images(
            help="Augmentation during matching, the same for the real and the synthetic images of a class: "
            f"{choices(AUGMENTATIONS)}.",
            show_default=BY_METHOD,
        ),
    ] = None,
    formation: Annotated[
        int, _images(help="Side N of a grid: every image stores N times N smaller images.")
    ] = CondenseConfig.formation,
    lr_img: Annotated[
        float | None,
        _images(
            help="Learning rate of the synthetic images, or of what else the method learns.",
            show_default="0.1, 0.01 for an mlp, or by --method",
        ),
    ] = None,
    momentum_img: Annotated[
        float | None,
        _images(
            help="Momentum for updating the synthetic images.", show_default=_or_by_method(CondenseConfig.momentum_img)
        ),
    ] = None,
    outer_steps: Annotated[
        int | None,
        _loops(
            help="Number of freshly initialised networks to match (K in the paper); number of update steps for methods "
            "without matching steps.",
            show_default=BY_BUDGET,
        ),
    ] = None,
    inner_steps: Annotated[
        int | None,
        _loops(
            help="Number of matching steps per network (T in the paper).", show_default="the paper's table by --ipc"
        ),
    ] = None,
    net_steps: Annotated[
        int | None,
        _loops(
            help="Epochs for which the network trains between two matching steps (ς in the paper).",
            show_default=BY_BUDGET,
        ),
    ] = None,
    batch_real: Annotated[
        int | None, _loops(help="Number of real images per class in every step.", show_default=BY_BUDGET)
    ] = None,
    width: Annotated[
        int | None, _network(help="Number of channels of the matching network.", show_default=BY_BUDGET)
    ] = None,
    depth: Annotated[
        int | None,
        _network(
            help="Number of blocks of the matching network.", show_default="as many as pool an image to about 4x4"
        ),
    ] = None,
    norm: Annotated[
        str, _network(help="Normalisation of the matching network: none, batch, layer, instance or group.")
    ] = CondenseConfig.norm,
    lr_net: Annotated[
        float | None,
        _network(help="Learning rate of the network.", show_default=_or_by_method(CondenseConfig.lr_net)),
    ] = None,
    batch_net: Annotated[
        int | None,
        _network(
            help="Batch size of the network's own training, in images.",
            show_default=_or_by_method(CondenseConfig.batch_net),
        ),
    ] = None,
    batch_norm_images: Annotated[
        int, _network(help="Number of real images per class that set the statistics of batch normalisation.")
    ] = CondenseConfig.batch_norm_images,
    match_space: Annotated[
        str | None,
        _network(
            help="Search space (YAML file or name from `nasproxy list`) from which every matching network is drawn.",
            show_default="no space: --network",
        ),
    ] = None,
    distance: Annotated[
        str, _distance(help=f"Distance between the gradients: {choices(DISTANCE_NAMES)}.")
    ] = CondenseConfig.distance,
    layer_weights: Annotated[
        str | None,
        _distance(
            help="Weight of every layer in the distance, in forward order, such as 1,1,1,0.5.", show_default="all 1"
        ),
    ] = None,
    real_choice: Annotated[
        str,
        _faster(
            help=f"How real images are drawn: {choices(REAL_CHOICES)}. With kmeans they are those nearest to cluster "
            "centres."
        ),
    ] = CondenseConfig.real_choice,
    choice_interval: Annotated[
        int, _faster(help="Number of matching steps between two k-means clusterings.")
    ] = CondenseConfig.choice_interval,
    pool: Annotated[
        int,
        _faster(
            help="Number of networks, trained briefly on the real data, that replace freshly initialised ones; 0 uses "
            "none."
        ),
    ] = CondenseConfig.pool,
    perturbation: Annotated[
        float,
        _faster(help="Largest random change of a network of the pool, as a fraction of the norm of its weights."),
    ] = CondenseConfig.perturbation,
    net_data: Annotated[
        str, _faster(help=f"Images on which the network trains between matching steps: {choices(NET_DATA)}.")
    ] = CondenseConfig.net_data,
    pool_epochs: Annotated[
        int | None,
        _selection(
            help="Epochs of training on the real data, for the network that selects images and for the networks of "
            "--pool.",
            show_default=_or_by_method(CondenseConfig.pool_epochs),
        ),
    ] = None,
    features: Annotated[
        str, _selection(help=f"Features by which real images are selected: {choices(FEATURES)}.")
    ] = CondenseConfig.features,
    unroll_steps: Annotated[
        int | None,
        _unrolled(
            help="Number of training steps to differentiate through.",
            show_default=_or_by_method(CondenseConfig.unroll_steps),
        ),
    ] = None,
    unroll_epochs: Annotated[
        int | None,
        _unrolled(help="Number of passes through these steps.", show_default=str(CondenseConfig.unroll_epochs)),
    ] = None,
    net_init: Annotated[
        str,
        _unrolled(
            help=f"Initial weights of the network: {choices(NET_INITS)}. Fixed weights are the same in every step."
        ),
    ] = CondenseConfig.net_init,
    solver: Annotated[
        str, _unrolled(help=f"Solver of method label_distillation: {choices(SOLVERS)}.")
    ] = CondenseConfig.solver,
    num_experts: Annotated[
        int | None,
        _trajectories(
            help="Number of training runs on the real data (experts) whose trajectories are matched.",
            show_default=BY_BUDGET,
        ),
    ] = None,
    expert_epochs: Annotated[
        int | None, _trajectories(help="Epochs of every expert.", show_default=str(CondenseConfig.expert_epochs))
    ] = None,
    start_epochs: Annotated[
        int | None,
        _trajectories(help="Latest epoch of an expert at which matching may start.", show_default=BY_BUDGET),
    ] = None,
    target_epochs: Annotated[
        int | None,
        _trajectories(
            help="Number of expert epochs between the start and the target.",
            show_default=str(CondenseConfig.target_epochs),
        ),
    ] = None,
    precision: Annotated[
        str | None,
        _speed(
            help=f"Numeric precision of first-order passes: {choices(PRECISIONS)}.",
            show_default="bfloat16 in builds of a minute or more if a timing shows that it is faster, else float32",
        ),
    ] = None,
    threads: Annotated[
        int | None, _speed(help="Number of CPU threads.", show_default="the fastest in a short timing")
    ] = None,
    compiled: Annotated[
        bool | None,
        _speed(
            "--compile/--no-compile",
            metavar=NO_VALUE,
            help="Compile the computation with torch.compile.",
            show_default="only if the build is long enough",
        ),
    ] = None,
) -> None:
    """Build a proxy set: condense a data set into a few images per class.

    The same command resumes an interrupted build.
    """
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
        ipc_per_class=ipc_per_class,
        budget=budget,
        out=out,
        folder=PROXY_FOLDER,
        offline=offline,
        device=device,
        force=force,
    )
