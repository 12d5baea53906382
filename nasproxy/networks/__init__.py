"""Network families: a function each, which takes flat arguments and returns an ``nn.Module``.

Every family has the signature ``family(input_shape, num_classes, **options)``, where ``input_shape`` is ``(c, h, w)``
in pixels and every option has a default. It raises :class:`~nasproxy.core.errors.NasproxyError` when the options cannot
be built for that input. ``nasproxy list`` prints the first line of its docstring.

To add a family, write a function and name it in ``NETWORKS`` at the bottom of this file. Then write the schema of
spaces again: ``nasproxy schema > search_spaces/space.schema.json``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from nasproxy.networks.blocks import ACTIVATIONS, NORMS, POOLINGS, num_params, seeded
from nasproxy.networks.mobilenet import mobilenet
from nasproxy.networks.nasbench201 import nasbench201, network_function
from nasproxy.networks.nasbench_macro import macro_function, nasbench_macro
from nasproxy.networks.published import alexnet, convnet, lenet, mlp, resnet18, vgg11
from nasproxy.networks.resnet import resnet
from nasproxy.networks.torchvision_models import torchvision_model

__all__ = [
    "ACTIVATIONS",
    "FUNCTIONS",
    "NETWORKS",
    "NORMS",
    "POOLINGS",
    "alexnet",
    "convnet",
    "family_options",
    "lenet",
    "mlp",
    "mobilenet",
    "nasbench201",
    "nasbench_macro",
    "num_params",
    "resnet",
    "resnet18",
    "seeded",
    "torchvision_model",
    "vgg11",
]


def family_options(family: str, *, width: int, depth: int, norm: str) -> dict[str, int | str]:
    """The settings of a matching net that ``family`` has options for.

    ``width`` and ``depth`` go together: a family of fixed depth keeps its published width.
    """
    known = inspect.signature(NETWORKS[family]).parameters
    options: dict[str, int | str] = {"width": width, "depth": depth} if "depth" in known else {}
    return options | ({"norm": norm} if "norm" in known else {})


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "convnet": convnet,
    "mlp": mlp,
    "lenet": lenet,
    "alexnet": alexnet,
    "vgg11": vgg11,
    "resnet18": resnet18,
    "resnet": resnet,
    "mobilenet": mobilenet,
    "nasbench201": nasbench201,
    "nasbench_macro": nasbench_macro,
    "torchvision": torchvision_model,
}

# What a network computes, as a text, from all options of its family. Several architectures can be one function.
FUNCTIONS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "nasbench201": network_function,
    "nasbench_macro": macro_function,
}
