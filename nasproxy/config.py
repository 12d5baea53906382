"""Every default, written once: frozen settings of each stage, the training recipes, and the three budgets.

Nothing here imports torch, so the command line derives its options and ``--help`` from this file at no cost.

References: [DC] Zhao, Mopuri, Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021. [DSA] Zhao, Bilen,
"Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021. [IDC] Kim et al., ICML 2022. [Acc-DD] Zhang
et al., CVPR 2023. [DREAM] Liu et al., ICCV 2023.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from nasproxy.errors import NasproxyError, unknown


def _at_least(minimum: float, **values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not value >= minimum:
            raise NasproxyError(f"`{name} >= {minimum:g}` must hold, but got {name}={value:g}.")


def config_hash(*parts: Any) -> str:
    """SHA-256 hex digest of ``parts``, which must be JSON values; equal settings give equal digests."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


# --------------------------------------------------------------------------------------------------- training recipes

OPTIMIZERS = ("sgd",)
SCHEDULES = ("constant", "step", "one_cycle", "learned")
AUGMENTATIONS = (
    "none",
    "shift",
    "flip_shift",
    "shift_cutout",
    "alternate_shift",
    "alternate_shift_cutout",
    "dsa",
    "dsa_no_flip",
)
_WITHOUT_FLIP = {
    "flip_shift": "shift",
    "alternate_shift": "shift",
    "alternate_shift_cutout": "shift_cutout",
    "dsa": "dsa_no_flip",
}


def augmentation_for(policy: str, flip: bool) -> str:
    """``policy``, or its counterpart without mirroring for data whose mirror images lose their class."""
    return policy if flip else _WITHOUT_FLIP.get(policy, policy)


@dataclass(frozen=True)
class Recipe:
    """How to train a net on a set of images. It is stored with a proxy set: images without it lose points.

    ``schedule``: ``step`` divides ``lr`` by ten halfway, as [DC] does; ``one_cycle`` rises linearly over the first
    30 % of the steps and falls along a cosine to zero; ``learned`` takes ``lrs``, one learning rate per update, from
    the first again when there are more updates (``lr``, their mean, is for people). ``augmentation``: per image, step:
    ``shift`` moves by up to an eighth of the side, ``flip_shift`` also mirrors half of the images, ``alternate_shift``
    each image in every other epoch, and ``…_cutout`` hides a box; ``dsa`` draws one of colour, crop, cutout, scale,
    rotate and flip per step, as [DSA] does, and ``dsa_no_flip`` one of the first five. ``shuffle=False`` is only for
    methods that store an order. Batches larger than the set are the whole set.
    """

    lr: float
    epochs: int
    batch_size: int = 256
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    schedule: str = "step"
    augmentation: str = "none"
    label_smoothing: float = 0.0
    shuffle: bool = True
    lrs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _at_least(1, epochs=self.epochs, batch_size=self.batch_size)
        _at_least(0, momentum=self.momentum, weight_decay=self.weight_decay, label_smoothing=self.label_smoothing)
        if not self.lr > 0:
            raise NasproxyError(f"`lr > 0` must hold, but got lr={self.lr:g}.")
        for kind, value, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
            ("augmentation", self.augmentation, AUGMENTATIONS),
        ):
            if value not in known:
                raise unknown(kind, value, known)
        if (self.schedule == "learned") != bool(self.lrs):
            raise NasproxyError(
                f"`lrs` holds the learning rates of schedule='learned' and of no other, but got {len(self.lrs)} of "
                f"them with schedule='{self.schedule}': give both, or neither."
            )
        for number, lr in enumerate(self.lrs):
            if not 0 < lr < math.inf:
                raise NasproxyError(f"`0 < lrs[i] < inf` must hold, but got lrs[{number}]={lr:g}.")

    @property
    def learned(self) -> bool:
        """Whether step sizes or an order were learned with the set: it is then for this set and these epochs alone."""
        return self.schedule == "learned" or not self.shuffle

    def as_json(self) -> dict[str, Any]:
        """Every value; ``lrs`` only where there are some, so that recipes without have the digests they always had."""
        values = asdict(self) | {"lrs": list(self.lrs)}
        if not self.lrs:
            del values["lrs"]
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Recipe:
        """The inverse of :meth:`as_json`; what is not there is the default, and what is not known is left out."""
        known = {field.name for field in fields(cls)}
        own = {name: value for name, value in values.items() if name in known}
        return cls(**(own | {"lrs": tuple(own.get("lrs", ()))}))


# "published" and "dsa" are the evaluation protocols of [DC] and [DSA]. "one_cycle" is the default for ranking: a first
# look at 48 CIFAR-10 ConvNets and 100 random real images gave Spearman .48 against .27 (one seed, ± .25; not repeated
# yet).
RECIPES: dict[str, Recipe] = {
    "published": Recipe(lr=0.01, epochs=300),
    "dsa": Recipe(lr=0.01, epochs=1000, augmentation="dsa"),
    "one_cycle": Recipe(lr=0.05, epochs=300, nesterov=True, schedule="one_cycle", augmentation="flip_shift"),
}

# Full-data training of a candidate: the same for every candidate, whatever its shape. Larger batches lose points where
# epochs are few (benchmarks/LOG.md).
FULL_RECIPE = Recipe(
    lr=0.05,
    epochs=10,
    batch_size=128,
    nesterov=True,
    schedule="one_cycle",
    augmentation="alternate_shift",
    label_smoothing=0.1,
)
CUTOUT_FROM_EPOCHS = 30  # fewer are too short to over-fit, and cutout then only slows the training down


# --------------------------------------------------------------------------------------------------------- condensing

INITS = ("noise", "real")
# Of first-order passes; everything else is float32. On a CUDA device "tf32" also lets float32 products use it.
PRECISIONS = ("float32", "tf32", "bfloat16")
REAL_CHOICES = ("random", "kmeans")
NET_DATA = ("synthetic", "real")
FEATURES = ("embedding", "pixels")
NET_INITS = ("random", "fixed")
SOLVERS = ("second_order", "ridge")
DISTANCE_NAMES = ("layerwise_cosine", "flat_cosine", "mse")

# [DC], table of loops: images per class → (T, ς_θ). ς_θ counts epochs over the synthetic set.
PUBLISHED_LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}


def loops_for_ipc(ipc: int) -> tuple[int, int]:
    """``(inner_steps, net_steps)`` for ``ipc`` images per class.

    The published table where it has the entry. In between and above: ``inner_steps = ipc`` (up to 50), as in every
    published row, and ``net_steps`` interpolated linearly between the neighbouring rows, rounded, constant above 50.
    """
    _at_least(1, ipc=ipc)
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
    """Settings of ``build-proxy``. Names and the paper's symbols:

    ``outer_steps`` K, freshly initialised nets · ``inner_steps`` T, matchings per net · ``net_steps`` ς_θ, epochs of
    the net over the synthetic set between two matchings · ``lr_img`` η_S · ``lr_net`` η_θ · ``batch_real`` real images
    per class and matching. ``inner_steps`` and ``net_steps`` of None follow :func:`loops_for_ipc`. ``layer_weights``
    multiplies the distance of each convolution and linear layer, in forward order; None is all ones. ``depth`` of None
    follows :func:`depth_for_image`. ``match_space`` (a YAML file or a shipped name) draws a fresh architecture for
    every net instead of ``network``. ``augmentation`` is siamese: drawn once per class and matching, for its real and
    its synthetic images; the net between matchings trains on images augmented one by one. ``num_sets`` independent sets
    come from one build.

    ``precision`` and ``compile`` of first-order passes (the real images' gradients and the net's training) and
    ``threads`` of the CPU decide the speed, and digits that do not matter. Where they are None, the command line
    decides by timing; a build started otherwise is in float32, keeps torch's threads and does not compile.

    For fewer matchings: ``real_choice="kmeans"`` matches with the images nearest to ``batch_real`` cluster centres of
    their class, chosen anew every ``choice_interval`` matchings ([DREAM]); ``pool`` nets that were trained on the real
    data for ``pool_epochs`` stand in for freshly initialised ones, every time moved by up to ``perturbation`` of their
    weights' norm ([Acc-DD]); ``net_data="real"`` trains the net between matchings on ``net_steps`` batches of
    ``batch_net`` real images, and ``formation`` stores its square of smaller images in each image ([IDC]).
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
                _at_least(1, ipc_per_class=count)
        _at_least(1, num_images=self.num_images, unroll_steps=self.unroll_steps, unroll_epochs=self.unroll_epochs)
        _at_least(1, num_experts=self.num_experts, expert_epochs=self.expert_epochs, target_epochs=self.target_epochs)
        _at_least(0, start_epochs=self.start_epochs)
        _at_least(1, num_sets=self.num_sets, threads=self.threads, formation=self.formation)
        _at_least(1, choice_interval=self.choice_interval, pool_epochs=self.pool_epochs)
        _at_least(0, pool=self.pool, perturbation=self.perturbation)
        if self.method == "dsa" and self.augmentation == "none":
            raise NasproxyError("Method 'dsa' needs an augmentation, but got augmentation='none': use 'dsa'.")
        if self.perturbation and not self.pool:
            raise NasproxyError(
                f"perturbation={self.perturbation:g} moves the nets of a pool, but pool=0: give the pool a size, "
                "or leave perturbation out."
            )
        _at_least(1, ipc=self.ipc, outer_steps=self.outer_steps, inner_steps=self.inner_steps, depth=self.depth)
        _at_least(1, batch_real=self.batch_real, batch_net=self.batch_net, batch_norm_images=self.batch_norm_images)
        _at_least(0, net_steps=self.net_steps, momentum_img=self.momentum_img, seed=self.seed)
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

    def for_data(self, input_shape: tuple[int, int, int], *, flip: bool) -> CondenseConfig:
        """These settings for images ``(c, h, w)``: the depth filled in, and mirrored only with ``flip``.

        Raises:
            NasproxyError: when ``formation`` leaves less than two pixels a side.
        """
        if 2 * self.formation > min(input_shape[1:]) and self.formation > 1:
            raise NasproxyError(
                f"`2 × formation <= side of the images` must hold, but got formation={self.formation} for "
                f"{input_shape[1]}×{input_shape[2]} images."
            )
        depth = self.depth or depth_for_image(*input_shape[1:])
        return replace(self, depth=depth, augmentation=augmentation_for(self.augmentation, flip))

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
    def from_json(cls, values: dict[str, Any]) -> CondenseConfig:
        """The inverse of :meth:`as_json`; what is not there is the default."""
        tuples = {name: tuple(values[name]) for name in ("layer_weights", "ipc_per_class") if values.get(name)}
        return cls(**(values | tuples))


# What every method reads; other settings mean nothing to it, are refused on the command line, and stay out of a set's
# provenance.
_SET = ("method", "ipc", "ipc_per_class", "num_sets", "recipe", "seed")
_NET = ("network", "width", "depth", "norm")
_MATCHING = (
    *_SET,
    *_NET,
    *("init", "distance", "layer_weights", "outer_steps", "inner_steps", "net_steps", "lr_img", "momentum_img"),
    *("lr_net", "batch_real", "batch_net", "batch_norm_images", "match_space", "augmentation", "precision", "threads"),
    *("compile", "real_choice", "choice_interval", "pool", "pool_epochs", "perturbation", "net_data", "formation"),
)
_LEARNING = (*_SET, *_NET, "outer_steps", "lr_img", "batch_real", "threads")
_UNROLLED = (*_LEARNING, "lr_net", "unroll_steps", "batch_norm_images")
READS: dict[str, tuple[str, ...]] = {
    "random": _SET,
    "kmeans": (*_SET, *_NET, "pool_epochs", "features"),
    "herding": (*_SET, *_NET, "pool_epochs", "features"),
    "k_center": (*_SET, *_NET, "pool_epochs", "features"),
    "forgetting": (*_SET, *_NET, "pool_epochs"),
    "entropy": (*_SET, *_NET, "pool_epochs"),
    "gradient_matching": _MATCHING,
    "dsa": _MATCHING,
    "distribution_matching": (*_LEARNING, "init", "momentum_img", "match_space", "augmentation", "formation"),
    "parameter_matching": (
        *_UNROLLED,
        *("init", "momentum_img", "match_space", "augmentation", "formation", "inner_steps", "net_init"),
    ),
    "dataset_distillation": (*_UNROLLED, "init", "net_init", "unroll_epochs"),
    "soft_label": (*_UNROLLED, "init", "net_init", "unroll_epochs", "num_images"),
    "label_distillation": (*_UNROLLED, "net_init", "solver", "batch_net"),
    "generative_teaching": (*_UNROLLED, "match_space"),
    "trajectory_matching": (
        *(name for name in _LEARNING if name != "batch_real"),
        *("init", "momentum_img", "lr_net", "augmentation", "formation", "unroll_steps"),
        *("num_experts", "expert_epochs", "start_epochs", "target_epochs", "batch_net"),
    ),
}
# Methods that choose real images; the others learn.
SELECTIONS = ("random", "kmeans", "herding", "k_center", "forgetting", "entropy")

# What a method's name stands for: its paper's values, each of which can be overridden by its own option. [DSA]: Zhao,
# Bilen, ICML 2021. [DM]: Zhao, Bilen, WACV 2023.
METHOD_SETTINGS: dict[str, dict[str, Any]] = {
    "dsa": {"augmentation": "dsa", "init": "real", "recipe": "dsa"},
    "forgetting": {"pool_epochs": 10},
    "distribution_matching": {
        "outer_steps": 20_000,
        "lr_img": 1.0,
        "augmentation": "dsa",
        "init": "real",
        "recipe": "dsa",
    },
    # The distance is a share of the way, so its gradient is small: 0.1 leaves images as they are (benchmarks/LOG.md).
    "parameter_matching": {"inner_steps": 1, "unroll_steps": 5, "lr_img": 10.0},
    "dataset_distillation": {"outer_steps": 20_000, "lr_img": 0.01, "lr_net": 0.02},
    "soft_label": {"outer_steps": 20_000, "lr_img": 0.01, "lr_net": 0.02},
    "generative_teaching": {"outer_steps": 2000, "lr_img": 0.004, "lr_net": 0.02, "unroll_steps": 128},
    "label_distillation": {  # 400 epochs of 45,000 real images in batches of 1024
        "outer_steps": 17_600,
        "lr_img": 1e-3,
        "unroll_steps": 1,
        "batch_real": 102,
        "batch_net": 50,
    },
    "trajectory_matching": {  # of CIFAR-10 at ipc 10; its 100 experts of 50 epochs are the defaults
        "outer_steps": 5000,
        "unroll_steps": 30,
        "lr_img": 100.0,  # 1e5 in the published table, a misprint by its author's word; others went on with this
        "augmentation": "dsa",
        "init": "real",
        "recipe": "dsa",
    },
}


def check_reads(method: str, overrides: dict[str, Any]) -> None:
    """Refuses settings that ``method`` does not read, unless they are what they are by default.

    Raises:
        NasproxyError: for the first of these; nothing is said of unknown methods.
    """
    defaults = CondenseConfig()
    for name, value in overrides.items():
        if name not in READS.get(method, (name,)) and value != getattr(defaults, name):
            option = "--" + name.replace("_", "-")
            users = ", ".join(other for other, own in READS.items() if name in own)
            raise NasproxyError(
                f"Method '{method}' does not use {option}, but got {value}: leave it out (used by {users})."
            )


def condense_config(**values: Any) -> CondenseConfig:
    """:class:`CondenseConfig` with what the method's name stands for where ``values`` say nothing."""
    return CondenseConfig(**(METHOD_SETTINGS.get(values.get("method", CondenseConfig.method), {}) | values))


# ------------------------------------------------------------------------------------------------ search and validation

# Of a candidate's training. On small sets, in bfloat16 scores agree with those in float32 better than two seeds of
# float32 do (benchmarks/LOG.md).
TRAINING_PRECISIONS = ("float32", "bfloat16")

SAMPLERS = ("tpe", "random", "nsga2", "gp", "brute-force")
PRUNERS = ("halving", "median")


@dataclass(frozen=True)
class SearchConfig:
    """Settings of ``search``: ``trials`` distinct candidates in total, each trained with ``seeds`` seeds on the proxy.

    ``recipe`` of None is the one that the set brings, ``epochs`` of None the recipe's own number. ``pending``
    candidates may be at work at once, whatever the number of workers: proposals depend on it; None: set when the study
    begins, see :func:`~nasproxy.study.default_pending`.

    ``score`` is what is maximised, a name or a sum such as "0.7*proxy+0.3*naswot"; ``against`` names what is minimised
    beside it, ``rungs`` what a candidate climbs before, cheapest first ("naswot,epochs=10,epochs=30", or "ipc=1"), both
    separated by commas. ``pruner`` lets the best ``1 / reduction`` of a rung go on, see :mod:`nasproxy.pruning`.
    """

    trials: int = 100
    sampler: str = "tpe"
    seeds: int = 1
    recipe: str | None = None
    epochs: int | None = None
    seed: int = 0
    pending: int | None = None
    precision: str = "float32"
    score: str = "proxy"
    against: str = ""
    rungs: str = ""
    pruner: str = "halving"
    reduction: int = 3

    def __post_init__(self) -> None:
        _at_least(2, reduction=self.reduction)
        if self.pruner not in PRUNERS:
            raise unknown("pruner", self.pruner, PRUNERS)
        if self.precision not in TRAINING_PRECISIONS:
            raise unknown("precision", self.precision, TRAINING_PRECISIONS)
        _at_least(1, trials=self.trials, seeds=self.seeds, epochs=self.epochs, pending=self.pending)
        _at_least(0, seed=self.seed)
        if self.sampler not in SAMPLERS:
            raise unknown("sampler", self.sampler, SAMPLERS)
        if self.recipe is not None and self.recipe not in RECIPES:
            raise unknown("recipe", self.recipe, RECIPES)


@dataclass(frozen=True)
class ValidateConfig:
    """Settings of ``validate``: full-data training of a uniform ``sample`` of the space and of the search's ``top``.

    ``images`` limits the training images (None: all of them); ``precision`` is that of products in full training; ``k``
    is the k of recall@k. ``scores``, separated by
    commas, or "all" or "none", are held against the full accuracy beside the proxy, the random subset, parameters and
    FLOPs.
    """

    sample: int = 20
    top: int = 5
    epochs: int = FULL_RECIPE.epochs
    images: int | None = None
    seeds: int = 1
    k: int = 5
    seed: int = 0
    scores: str = "all"
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.precision not in TRAINING_PRECISIONS:
            raise unknown("precision", self.precision, TRAINING_PRECISIONS)
        _at_least(1, epochs=self.epochs, images=self.images, seeds=self.seeds, k=self.k)
        _at_least(0, sample=self.sample, top=self.top, seed=self.seed)


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of ``evaluate``: fresh ``nets`` of every kind on each set; 20 as in [DC]."""

    nets: int = 20
    seed: int = 0


COMPARED = ("random", "kmeans", "herding", "gradient_matching", "dsa", "distribution_matching")


@dataclass(frozen=True)
class CompareConfig:
    """Settings of ``compare``: fresh ``nets`` on each of ``num_sets`` sets by every method; three give an interval."""

    num_sets: int = 3
    nets: int = 5


# ------------------------------------------------------------------------------------------------------------ budgets


@dataclass(frozen=True)
class Budget:
    """Loops, net width, trials and validation, set together. Every value can be overridden by its own option."""

    init: str
    outer_steps: int
    net_steps: int | None  # None: the published table
    width: int
    batch_real: int
    trials: int
    proxy_epochs: int
    sample: int
    top: int
    full_epochs: int
    full_images: int | None  # None: all training images


# Few nets do not carry noise far: on CIFAR-10 at ipc 10 the quick loops reach 32 % from noise and 37 % from real images
# (benchmarks/LOG.md), so the small budgets start from those.
BUDGETS: dict[str, Budget] = {
    "quick": Budget(
        init="real",
        outer_steps=50,
        net_steps=10,
        width=32,
        batch_real=64,
        trials=30,
        proxy_epochs=100,
        sample=20,
        top=5,
        full_epochs=4,
        full_images=5_000,
    ),
    "standard": Budget(
        init="real",
        outer_steps=200,
        net_steps=25,
        width=64,
        batch_real=128,
        trials=100,
        proxy_epochs=300,
        sample=50,
        top=5,
        full_epochs=10,
        full_images=None,
    ),
    "paper": Budget(
        init="noise",
        outer_steps=1000,
        net_steps=None,
        width=128,
        batch_real=256,
        trials=720,
        proxy_epochs=300,
        sample=100,
        top=10,
        full_epochs=200,
        full_images=None,
    ),
}

# K of the methods whose steps cost much less, or more, than a net of gradient matching; "paper" is METHOD_SETTINGS.
OUTER_STEPS: dict[str, dict[str, int]] = {
    "distribution_matching": {"quick": 500, "standard": 2_000},
    "dataset_distillation": {"quick": 500, "standard": 4_000},
    "soft_label": {"quick": 500, "standard": 4_000},
    "generative_teaching": {"quick": 100, "standard": 500},
    "label_distillation": {"quick": 1_000, "standard": 4_000},
    "trajectory_matching": {"quick": 200, "standard": 1_000},
}

# What else a small budget makes smaller.
BUDGET_SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "dataset_distillation": {"quick": {"lr_net": 0.1}},  # few steps do not lift the published 0.02 far
    "soft_label": {"quick": {"lr_net": 0.1}},
    "label_distillation": {"standard": {"batch_real": 102}},
    "trajectory_matching": {
        "quick": {"num_experts": 4, "start_epochs": 6, "unroll_steps": 10},
        "standard": {"num_experts": 20, "start_epochs": 10, "unroll_steps": 20},
    },
}

# What one command may take before a smaller budget is chosen: about an hour on a CPU, a few minutes on a GPU.
TIME_LIMIT_SECONDS = {"cpu": 3600.0, "cuda": 300.0}
