"""The settings that each condensation method reads, and the values of its paper."""

from __future__ import annotations

from typing import Any

from nasproxy.config.condensing import CondenseConfig
from nasproxy.core.errors import NasproxyError

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
