"""Settings of every stage: each default is written once, here.

Nothing in this package imports torch, so the command line derives its options and ``--help`` from it at no cost.
"""

from nasproxy.config.budgets import BUDGETS, TIME_LIMIT_SECONDS, Budget
from nasproxy.config.common import config_hash
from nasproxy.config.condensing import (
    DISTANCE_NAMES,
    FEATURES,
    INITS,
    NET_DATA,
    NET_INITS,
    PRECISIONS,
    PUBLISHED_LOOPS,
    REAL_CHOICES,
    SOLVERS,
    CondenseConfig,
    check_options,
    condense_config,
    depth_for_image,
    loops_for_ipc,
)
from nasproxy.config.methods import METHODS, MethodSpec
from nasproxy.config.recipes import (
    AUGMENTATIONS,
    CUTOUT_FROM_EPOCHS,
    FULL_RECIPE,
    OPTIMIZERS,
    RECIPES,
    SCHEDULES,
    Recipe,
    augmentation_for,
)
from nasproxy.config.searching import (
    COMPARED,
    FULL_LENGTH,
    LONGER_TIMES,
    LONGEST,
    PRUNERS,
    SAMPLERS,
    TRAINING_PRECISIONS,
    CompareConfig,
    EvaluateConfig,
    SearchConfig,
    ValidateConfig,
)

__all__ = [
    "AUGMENTATIONS",
    "BUDGETS",
    "COMPARED",
    "CUTOUT_FROM_EPOCHS",
    "DISTANCE_NAMES",
    "FEATURES",
    "FULL_LENGTH",
    "FULL_RECIPE",
    "INITS",
    "LONGER_TIMES",
    "LONGEST",
    "METHODS",
    "NET_DATA",
    "NET_INITS",
    "OPTIMIZERS",
    "PRECISIONS",
    "PRUNERS",
    "PUBLISHED_LOOPS",
    "REAL_CHOICES",
    "RECIPES",
    "SAMPLERS",
    "SCHEDULES",
    "SOLVERS",
    "TIME_LIMIT_SECONDS",
    "TRAINING_PRECISIONS",
    "Budget",
    "CompareConfig",
    "CondenseConfig",
    "EvaluateConfig",
    "MethodSpec",
    "Recipe",
    "SearchConfig",
    "ValidateConfig",
    "augmentation_for",
    "check_options",
    "condense_config",
    "config_hash",
    "depth_for_image",
    "loops_for_ipc",
]
