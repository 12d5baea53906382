"""The condensation methods, one file for each; selections.py has those that choose real images.

A method is a :class:`~nasproxy.config.MethodSpec` in ``nasproxy/config/methods.py``, one file here, and one line in
``CONDENSERS``.
"""

from nasproxy.condense.contract import Condenser
from nasproxy.condense.methods import (
    dataset_distillation,
    distribution_matching,
    generative_teaching,
    gradient_matching,
    label_distillation,
    parameter_matching,
    random_images,
    selections,
    soft_label,
    trajectory_matching,
)

CONDENSERS: dict[str, Condenser] = {
    "gradient_matching": gradient_matching.METHOD,
    "dsa": gradient_matching.METHOD,  # by other settings
    "distribution_matching": distribution_matching.METHOD,
    "parameter_matching": parameter_matching.METHOD,
    "dataset_distillation": dataset_distillation.METHOD,
    "soft_label": soft_label.METHOD,
    "generative_teaching": generative_teaching.METHOD,
    "label_distillation": label_distillation.METHOD,
    "trajectory_matching": trajectory_matching.METHOD,
    "random": random_images.METHOD,
    "kmeans": selections.KMEANS,
    "herding": selections.HERDING,
    "k_center": selections.K_CENTER,
    "forgetting": selections.FORGETTING,
    "entropy": selections.ENTROPY,
}
