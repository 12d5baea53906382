"""What each condensation method is: the settings it reads, the values of its paper, what small budgets make smaller.

A method has two entries: its :class:`MethodSpec` here, which needs no torch, and its
:class:`~nasproxy.condense.contract.Condenser` in ``nasproxy/condense/methods/``, which does the work.

References: [DSA] Zhao, Bilen, ICML 2021. [DM] Zhao, Bilen, WACV 2023. [DD] Wang et al., 2018. [SLDD] Sucholutsky,
Schonlau, 2019. [GTN] Such et al., ICML 2020. [FDD] Bohdal et al., 2020. [MTT] Cazenavette et al., CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class MethodSpec:
    """A condensation method as the command line, the budgets and the reports see it.

    Args:
        summary: one line for ``nasproxy list``.
        reads: the settings of :class:`~nasproxy.config.CondenseConfig` that the method uses. The command line refuses
            all others, and a set's provenance leaves them out.
        paper: settings of the method's paper that differ from the defaults of ``CondenseConfig``.
        quick: settings of the budget "quick" that differ from those of the budget itself.
        standard: the same of the budget "standard".
        learns: whether something is learned by steps of gradient descent; False: real images are chosen.
        real_images: whether the images of the set are real ones.
        shares_work: whether several processes (``torchrun``) can build one set together.
        augments: whether the method makes no sense without an augmentation.
    """

    summary: str
    reads: tuple[str, ...]
    paper: Mapping[str, Any] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=dict)
    standard: Mapping[str, Any] = field(default_factory=dict)
    learns: bool = True
    real_images: bool = False
    shares_work: bool = False
    augments: bool = False

    def in_budget(self, budget: str) -> Mapping[str, Any]:
        """The settings of the method that replace those of ``budget``: "quick", "standard" or "paper"."""
        if budget != "paper":
            return {"quick": self.quick, "standard": self.standard}[budget]
        return {name: self.paper[name] for name in ("outer_steps", "init", "batch_real") if name in self.paper}


_SET = ("method", "ipc", "ipc_per_class", "num_sets", "recipe", "seed")
_NET = ("network", "width", "depth", "norm")
_CHOOSING = (*_SET, *_NET, "pool_epochs")
_MATCHING = (
    *_SET,
    *_NET,
    *("init", "distance", "layer_weights", "outer_steps", "inner_steps", "net_steps", "lr_img", "momentum_img"),
    *("lr_net", "batch_real", "batch_net", "batch_norm_images", "match_space", "augmentation", "precision", "threads"),
    *("compile", "real_choice", "choice_interval", "pool", "pool_epochs", "perturbation", "net_data", "formation"),
)
_LEARNING = (*_SET, *_NET, "outer_steps", "lr_img", "batch_real", "threads")
_UNROLLED = (*_LEARNING, "lr_net", "unroll_steps", "batch_norm_images")

_AUGMENTED = {"augmentation": "dsa", "init": "real", "recipe": "dsa"}  # the protocol of [DSA], which others took over
_DISTILLING = {"outer_steps": 20_000, "lr_img": 0.01, "lr_net": 0.02}
# Few steps do not lift the published learning rate of 0.02 far.
_DISTILLING_QUICKLY = {"outer_steps": 500, "lr_net": 0.1}

METHODS: dict[str, MethodSpec] = {
    "gradient_matching": MethodSpec(
        "Learns images whose training gradients are those of the real images of their class",
        _MATCHING,
        shares_work=True,
    ),
    "dsa": MethodSpec(
        "Gradient matching with the same random augmentation for the real and the synthetic images of a class",
        _MATCHING,
        paper=_AUGMENTED,
        shares_work=True,
        augments=True,
    ),
    "distribution_matching": MethodSpec(
        "Learns images whose mean embedding by random nets is that of the real images of their class",
        (*_LEARNING, "init", "momentum_img", "match_space", "augmentation", "formation"),
        paper=_AUGMENTED | {"outer_steps": 20_000, "lr_img": 1.0},
        quick={"outer_steps": 500},
        standard={"outer_steps": 2_000},
    ),
    "parameter_matching": MethodSpec(
        "Learns images on which a few training steps lead to the weights to which real images lead",
        (
            *_UNROLLED,
            *("init", "momentum_img", "match_space", "augmentation", "formation", "inner_steps", "net_init"),
        ),
        # The distance is relative to the length of the way, so its gradient is small: a rate of 0.1 does not change
        # the images (benchmarks/LOG.md).
        paper={"inner_steps": 1, "unroll_steps": 5, "lr_img": 10.0},
    ),
    "dataset_distillation": MethodSpec(
        "Learns images, in a fixed order, and a step size for each training step on them",
        (*_UNROLLED, "init", "net_init", "unroll_epochs"),
        paper=_DISTILLING,
        quick=_DISTILLING_QUICKLY,
        standard={"outer_steps": 4_000},
    ),
    "soft_label": MethodSpec(
        "Learns images, step sizes and soft labels, also for fewer images than classes",
        (*_UNROLLED, "init", "net_init", "unroll_epochs", "num_images"),
        paper=_DISTILLING,
        quick=_DISTILLING_QUICKLY,
        standard={"outer_steps": 4_000},
    ),
    "generative_teaching": MethodSpec(
        "Learns a generator whose images, in a fixed order, train a net",
        (*_UNROLLED, "match_space"),
        paper={"outer_steps": 2000, "lr_img": 0.004, "lr_net": 0.02, "unroll_steps": 128},
        quick={"outer_steps": 100},
        standard={"outer_steps": 500},
    ),
    "label_distillation": MethodSpec(
        "Keeps random real images and learns their labels",
        (*_UNROLLED, "net_init", "solver", "batch_net"),
        paper={  # 400 epochs of 45,000 real images in batches of 1024
            "outer_steps": 17_600,
            "lr_img": 1e-3,
            "unroll_steps": 1,
            "batch_real": 102,
            "batch_net": 50,
        },
        quick={"outer_steps": 1_000},
        standard={"outer_steps": 4_000, "batch_real": 102},
        real_images=True,
    ),
    "trajectory_matching": MethodSpec(
        "Learns images, and a step size, on which a few steps follow nets that are trained on the real images",
        (
            *(name for name in _LEARNING if name != "batch_real"),
            *("init", "momentum_img", "lr_net", "augmentation", "formation", "unroll_steps"),
            *("num_experts", "expert_epochs", "start_epochs", "target_epochs", "batch_net"),
        ),
        # Of CIFAR-10 at ipc 10; its 100 experts of 50 epochs are the defaults. The published table says a learning
        # rate of 1e5, a misprint according to its author; others continued with 100.
        paper=_AUGMENTED | {"outer_steps": 5000, "unroll_steps": 30, "lr_img": 100.0},
        quick={"outer_steps": 200, "num_experts": 4, "start_epochs": 6, "unroll_steps": 10},
        standard={"outer_steps": 1_000, "num_experts": 20, "start_epochs": 10, "unroll_steps": 20},
    ),
    "random": MethodSpec("Takes random real images of each class", _SET, learns=False, real_images=True),
    "kmeans": MethodSpec(
        "Takes the real images nearest to the centres of k-means clusters of embeddings",
        (*_CHOOSING, "features"),
        learns=False,
        real_images=True,
    ),
    "herding": MethodSpec(
        "Takes real images whose mean embedding stays near the mean of their class (herding)",
        (*_CHOOSING, "features"),
        learns=False,
        real_images=True,
    ),
    "k_center": MethodSpec(
        "Takes real images so that every image of the class is near to one of them (greedy k-centre)",
        (*_CHOOSING, "features"),
        learns=False,
        real_images=True,
    ),
    "forgetting": MethodSpec(
        "Takes the real images that a net forgets most often during training",
        _CHOOSING,
        paper={"pool_epochs": 10},
        learns=False,
        real_images=True,
    ),
    "entropy": MethodSpec(
        "Takes the real images for which the prediction of a briefly trained net has the highest entropy",
        _CHOOSING,
        learns=False,
        real_images=True,
    ),
}
