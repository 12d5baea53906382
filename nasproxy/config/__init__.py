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
    depth_for_image,
    loops_for_ipc,
)
from nasproxy.config.methods import (
    BUDGET_SETTINGS,
    METHOD_SETTINGS,
    OUTER_STEPS,
    READS,
    SELECTIONS,
    check_reads,
    condense_config,
)
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
    "BUDGET_SETTINGS",
    "COMPARED",
    "CUTOUT_FROM_EPOCHS",
    "DISTANCE_NAMES",
    "FEATURES",
    "FULL_RECIPE",
    "INITS",
    "METHOD_SETTINGS",
    "NET_DATA",
    "NET_INITS",
    "OPTIMIZERS",
    "OUTER_STEPS",
    "PRECISIONS",
    "PRUNERS",
    "PUBLISHED_LOOPS",
    "READS",
    "REAL_CHOICES",
    "RECIPES",
    "SAMPLERS",
    "SCHEDULES",
    "SELECTIONS",
    "SOLVERS",
    "TIME_LIMIT_SECONDS",
    "TRAINING_PRECISIONS",
    "Budget",
    "CompareConfig",
    "CondenseConfig",
    "EvaluateConfig",
    "Recipe",
    "SearchConfig",
    "ValidateConfig",
    "augmentation_for",
    "check_reads",
    "condense_config",
    "config_hash",
    "depth_for_image",
    "loops_for_ipc",
]
