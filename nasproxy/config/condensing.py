"""Settings of building a proxy set.

References: [DC] Zhao, Mopuri, Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021. [DSA] Zhao, Bilen,
"Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021. [IDC] Kim et al., ICML 2022. [Acc-DD] Zhang
et al., CVPR 2023. [DREAM] Liu et al., ICCV 2023.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from nasproxy.config.common import at_least
from nasproxy.config.methods import METHODS
from nasproxy.config.recipes import AUGMENTATIONS, RECIPES, augmentation_for
from nasproxy.core.errors import NasproxyError, unknown

INITS = ("noise", "real")
# Of first-order passes; everything else is float32. On a CUDA device "tf32" also lets float32 products use it.
PRECISIONS = ("float32", "tf32", "bfloat16")
REAL_CHOICES = ("random", "kmeans")
NET_DATA = ("synthetic", "real")
FEATURES = ("embedding", "pixels")
NET_INITS = ("random", "fixed")
SOLVERS = ("second_order", "ridge")
# "…_all": of the gradients of all parameters, as the released code of [DC] has its ablations; the others: of weights.
DISTANCE_NAMES = ("layerwise_cosine", "flat_cosine", "mse", "flat_cosine_all", "mse_all")

# [DC], table of loops: images per class → (T, ς_θ). ς_θ counts epochs over the synthetic set.
PUBLISHED_LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}


def loops_for_ipc(ipc: int) -> tuple[int, int]:
    """``(inner_steps, net_steps)`` for ``ipc`` images per class.

    The published table where it has the entry. In between and above: ``inner_steps = ipc`` (up to 50), as in every
    published row, and ``net_steps`` interpolated linearly between the neighbouring rows, rounded, constant above 50.
    """
    at_least(1, ipc=ipc)
    if ipc in PUBLISHED_LOOPS:
        return PUBLISHED_LOOPS[ipc]
    largest = max(PUBLISHED_LOOPS)
    if ipc > largest:
        return PUBLISHED_LOOPS[largest]
    low = max(row for row in PUBLISHED_LOOPS if row < ipc)
    high = min(row for row in PUBLISHED_LOOPS if row > ipc)
    share = (ipc - low) / (high - low)
    return ipc, round((1 - share) * PUBLISHED_LOOPS[low][1] + share * PUBLISHED_LOOPS[high][1])


def depth_for_image(height: int, width: int) -> int:
    """Blocks of the matching net that pool an image to about 4 × 4: 3 for 28 or 32 pixels as in [DC], 4 for 64.

    Too deep a net matches noise: on the 8 × 8 digits, three blocks turned real images that train a net to 72 % into
    ones that train it to 19 %, one block into ones that train it to 90 % (benchmarks/LOG.md).
    """
    return max(1, round(math.log2(min(height, width) / 4)))


@dataclass(frozen=True)
class CondenseConfig:
    """Settings of ``build-proxy``. The symbols are those of [DC].

    Args:
        method: a name in ``METHODS``, which says what the method reads.
        ipc: images of each class; ``ipc_per_class`` gives each class its own number, ``num_images`` a number in all.
        init: the first images, noise or real ones.
        distance: between gradients of weights, or of all parameters where its name ends in "_all"; ``layer_weights``
            weights each convolution and linear layer (None: all ones).
        outer_steps: K, freshly initialised nets; of other methods, steps.
        inner_steps: T, matchings for each net; None: :func:`loops_for_ipc`.
        net_steps: ς_θ, epochs of the net on the synthetic set between two matchings; None: :func:`loops_for_ipc`.
        lr_img: η_S, learning rate of what is learned; None: 0.1, or 0.01 for an MLP. ``momentum_img`` goes with it.
        lr_net: η_θ, learning rate of the net.
        batch_real: real images of each class in a matching.
        batch_net: batch of the net's own training.
        batch_norm_images: real images of each class that give batch norms their statistics.
        network: the family of the net, with ``width``, ``depth`` (None: :func:`depth_for_image`) and ``norm``.
        match_space: a space (YAML file or name) from which every net is drawn, instead of ``network``.
        augmentation: drawn once for each class and matching, the same for real and synthetic images. While the net is
            trained between matchings, it is drawn for each image.
        precision: of passes that are differentiated once: the real images' gradients and the net's training. Like
            ``threads`` of the CPU and ``compile``, it changes the speed, and digits that do not matter. The command
            line chooses these by timing where they are None. A build that was started from Python with None uses
            float32, does not compile and keeps torch's number of threads.
        num_sets: independent sets that one build makes.
        real_choice: "kmeans" matches with the real images nearest to ``batch_real`` cluster centres of each class,
            chosen again every ``choice_interval`` matchings ([DREAM]).
        pool: nets, trained on the real data for ``pool_epochs``, that replace freshly initialised ones, moved by up to
            ``perturbation`` of the norm of their weights ([Acc-DD]); 0: none.
        net_data: "real" trains the net between matchings on ``net_steps`` batches of real images ([IDC]).
        formation: stores formation × formation smaller images in each image ([IDC]).
        recipe: how to train on the set, a name in ``RECIPES``; it is stored with the set.
        seed: every random number follows from it.
        features: what real images are chosen by: "embedding" or "pixels".
        net_init: "fixed" starts every unrolled training from the same weights.
        solver: of label distillation: "second_order" or "ridge".
        unroll_steps: training steps that are differentiated through; ``unroll_epochs``: how often they are repeated.
        num_experts: nets of trajectory matching that are trained on the real data, for ``expert_epochs`` each. Steps
            start after at most ``start_epochs`` epochs and aim at the weights ``target_epochs`` later.

    Raises:
        NasproxyError: for a value that is out of range or an unknown name.
    """

    method: str = "gradient_matching"
    ipc: int = 10
    init: str = "noise"
    distance: str = "layerwise_cosine"
    layer_weights: tuple[float, ...] | None = None
    outer_steps: int = 1000
    inner_steps: int | None = None
    net_steps: int | None = None
    lr_img: float | None = None
    momentum_img: float = 0.5
    lr_net: float = 0.01
    batch_real: int = 256
    batch_net: int = 256
    batch_norm_images: int = 16
    network: str = "convnet"
    width: int = 128
    depth: int | None = None
    norm: str = "instance"
    match_space: str | None = None
    augmentation: str = "none"
    precision: str | None = None
    threads: int | None = None
    compile: bool | None = None
    num_sets: int = 1
    real_choice: str = "random"
    choice_interval: int = 10
    pool: int = 0
    pool_epochs: int = 2
    perturbation: float = 0.0
    net_data: str = "synthetic"
    formation: int = 1
    recipe: str = "one_cycle"
    seed: int = 0
    ipc_per_class: tuple[int, ...] | None = None
    num_images: int | None = None
    features: str = "embedding"
    net_init: str = "random"
    solver: str = "second_order"
    unroll_steps: int = 10
    unroll_epochs: int = 3
    num_experts: int = 100
    expert_epochs: int = 50
    start_epochs: int = 20
    target_epochs: int = 2

    def __post_init__(self) -> None:
        if self.ipc_per_class is not None:
            for count in self.ipc_per_class:
                at_least(1, ipc_per_class=count)
        at_least(1, num_images=self.num_images, unroll_steps=self.unroll_steps, unroll_epochs=self.unroll_epochs)
        at_least(1, num_experts=self.num_experts, expert_epochs=self.expert_epochs, target_epochs=self.target_epochs)
        at_least(0, start_epochs=self.start_epochs)
        at_least(1, num_sets=self.num_sets, threads=self.threads, formation=self.formation)
        at_least(1, choice_interval=self.choice_interval, pool_epochs=self.pool_epochs)
        at_least(0, pool=self.pool, perturbation=self.perturbation)
        if self.method not in METHODS:
            raise unknown("method", self.method, METHODS)
        if METHODS[self.method].augments and self.augmentation == "none":
            raise NasproxyError(
                f"Method '{self.method}' needs an augmentation, but got augmentation='none': use 'dsa'."
            )
        if self.layer_weights is not None and self.distance.endswith("_all"):
            raise NasproxyError(
                f"Distance '{self.distance}' compares all parameters, so layers have no weights in it, but got "
                f"layer_weights={list(self.layer_weights)}: leave them out, or use "
                f"'{self.distance.removesuffix('_all')}'."
            )
        if self.perturbation and not self.pool:
            raise NasproxyError(
                f"perturbation={self.perturbation:g} moves the nets of a pool, but pool=0: give the pool a size, "
                "or leave perturbation out."
            )
        at_least(1, ipc=self.ipc, outer_steps=self.outer_steps, inner_steps=self.inner_steps, depth=self.depth)
        at_least(1, batch_real=self.batch_real, batch_net=self.batch_net, batch_norm_images=self.batch_norm_images)
        at_least(0, net_steps=self.net_steps, momentum_img=self.momentum_img, seed=self.seed)
        for name, value in (("lr_img", self.lr_img), ("lr_net", self.lr_net)):
            if value is not None and not value > 0:
                raise NasproxyError(f"`{name} > 0` must hold, but got {name}={value:g}.")
        for kind, word, known in (
            ("init", self.init, INITS),
            ("distance", self.distance, DISTANCE_NAMES),
            ("augmentation", self.augmentation, AUGMENTATIONS),
            ("precision", self.precision or PRECISIONS[0], PRECISIONS),
            ("choice of real images", self.real_choice, REAL_CHOICES),
            ("data for the net", self.net_data, NET_DATA),
            ("kind of features", self.features, FEATURES),
            ("start of the net", self.net_init, NET_INITS),
            ("solver", self.solver, SOLVERS),
            ("recipe", self.recipe, tuple(RECIPES)),
        ):
            if word not in known:
                raise unknown(kind, word, known)

    def counts(self, num_classes: int) -> tuple[int, ...]:
        """Images of each class; with ``num_images``, those spread evenly, the first classes getting what is left over.

        Raises:
            NasproxyError: when ``ipc_per_class`` has another number of classes.
        """
        if self.num_images is not None:
            each, more = divmod(self.num_images, num_classes)
            return tuple(each + (label < more) for label in range(num_classes))
        if self.ipc_per_class is None:
            return (self.ipc,) * num_classes
        if len(self.ipc_per_class) != num_classes:
            raise NasproxyError(
                f"`ipc_per_class` needs one number for each of the {num_classes} classes, but got "
                f"{len(self.ipc_per_class)}: {list(self.ipc_per_class)}."
            )
        return self.ipc_per_class

    @property
    def image_lr(self) -> float:
        """η_S: 0.1, or 0.01 for an MLP as in the reference, unless ``lr_img`` says otherwise."""
        return self.lr_img if self.lr_img is not None else (0.01 if self.network == "mlp" else 0.1)

    @property
    def loops(self) -> tuple[int, int]:
        """``(inner_steps, net_steps)`` with the table filled in."""
        inner, net = loops_for_ipc(self.ipc)
        return (
            inner if self.inner_steps is None else self.inner_steps,
            net if self.net_steps is None else self.net_steps,
        )

    def num_stored(self, num_classes: int) -> int:
        """Images of one set, as they are stored."""
        return sum(self.counts(num_classes))

    def num_seen(self, num_classes: int) -> int:
        """Images that a net sees of one set: with ``formation`` f, each stored image holds f × f of them."""
        return self.num_stored(num_classes) * self.formation**2

    def resolved(self, input_shape: tuple[int, int, int], *, flip: bool) -> CondenseConfig:
        """These settings for images ``(c, h, w)``, with a value in place of every None that depends on the data.

        Args:
            input_shape: of the images.
            flip: whether a mirrored image keeps its class; without it, no augmentation mirrors.

        Raises:
            NasproxyError: when ``formation`` leaves smaller images with less than two pixels a side.
        """
        if 2 * self.formation > min(input_shape[1:]) and self.formation > 1:
            raise NasproxyError(
                f"`2 × formation <= side of the images` must hold, but got formation={self.formation} for "
                f"{input_shape[1]}×{input_shape[2]} images: use a smaller --formation."
            )
        inner, net = self.loops
        return replace(
            self,
            inner_steps=inner,
            net_steps=net,
            lr_img=self.image_lr,
            depth=self.depth or depth_for_image(*input_shape[1:]),
            augmentation=augmentation_for(self.augmentation, flip),
        )

    def as_json(self) -> dict[str, Any]:
        """Every value, with the loops resolved; for provenance and hashes."""
        inner, net = self.loops
        values = asdict(self) | {
            "inner_steps": inner,
            "net_steps": net,
            "lr_img": self.image_lr,
            "compile": bool(self.compile),
            "precision": self.precision or PRECISIONS[0],
        }
        for name in ("layer_weights", "ipc_per_class"):
            if values[name] is not None:
                values[name] = list(values[name])
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CondenseConfig:
        """The inverse of :meth:`as_json`; a setting that is missing has its default.

        Raises:
            NasproxyError: for a setting that this version does not know.
        """
        known = {field.name for field in fields(cls)}
        for name in values:
            if name not in known:
                raise unknown("setting of a proxy set", name, known)
        tuples = {name: tuple(values[name]) for name in ("layer_weights", "ipc_per_class") if values.get(name)}
        return cls(**(dict(values) | tuples))


def condense_config(**values: Any) -> CondenseConfig:
    """The settings of a method: ``values``, then the values of its paper, then the defaults.

    Example:
        >>> condense_config(method="dsa", ipc=1).augmentation
        'dsa'

    Raises:
        NasproxyError: for an unknown method, a value that is out of range or an unknown name.
    """
    spec = METHODS.get(values.get("method", CondenseConfig.method))
    return CondenseConfig(**(dict(spec.paper if spec else {}) | values))


def check_options(method: str, options: Mapping[str, Any]) -> None:
    """Refuses options that ``method`` does not use, unless they have their default value.

    Raises:
        NasproxyError: for an unknown method, and for the first of these options.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    defaults = CondenseConfig()
    for name, value in options.items():
        if name not in METHODS[method].reads and value != getattr(defaults, name):
            option = "--" + name.replace("_", "-")
            users = ", ".join(other for other, spec in METHODS.items() if name in spec.reads)
            raise NasproxyError(
                f"Method '{method}' does not use {option}, but got {value}: leave it out (used by {users})."
            )
