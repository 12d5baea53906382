"""The cells of NAS-Bench-201 in the benchmark's skeleton.

References: Dong, Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search", ICLR 2020.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import reduce
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn

from nasproxy.core.errors import NasproxyError, unknown
from nasproxy.networks.blocks import positive

CELL_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


def cell_options(cell: str) -> dict[str, str]:
    """The options ``edge_ij`` of a cell.

    Args:
        cell: as the benchmark spells it, ``|skip_connect~0|+|none~0|nor_conv_3x3~1|+|…|``.

    Raises:
        NasproxyError: for a text of another form.
    """
    options = {}
    for node, inputs in enumerate(cell.split("+"), start=1):
        for word in inputs.strip("|").split("|"):
            name, _, source = word.partition("~")
            options[f"edge_{source}{node}"] = name
    if list(options) != ["edge_01", "edge_02", "edge_12", "edge_03", "edge_13", "edge_23"]:
        raise NasproxyError(f"A cell is written |op~0|+|op~0|op~1|+|op~0|op~1|op~2|, but got '{cell}'.")
    return options


_CONVOLUTIONS = {"nor_conv_1x1": "conv1", "nor_conv_3x3": "conv3"}

# A sum: how often each term occurs in it. A term is the input of the cell ("x") or the output of the convolution on an
# edge ("13"), which went through average pooling k times: (name, k).
_Sum = dict[tuple[str, int], int]


def cell_function(cell: str | Mapping[str, str]) -> str:
    """What a cell computes, as a formula. Two cells that compute the same function have the same formula.

    Two cells are the same when the convolutions of one can be matched with those of the other so that, with the same
    weights in matched convolutions, both give the same output for every input. The formula therefore

    - has nothing of an edge that ``none`` cuts off, at its start or at its end;
    - has no trace of ``skip_connect``, which is the identity;
    - does not depend on the order of summands or on the names of nodes;
    - takes average pooling of a sum as the sum of average poolings, which it is;
    - tells two convolutions of one input, ``conv3:a(x) + conv3:b(x)``, from one that is used twice, ``2 conv3:a(x)``.

    A convolution here is ReLU, convolution and batch norm. Batch norm of zeros gives its bias, which is zero in an
    untrained net; the formula takes it as zero. A scale before a convolution is kept, although batch norm takes it out
    up to its epsilon.

    Args:
        cell: as the benchmark spells it, or its options ``edge_ij`` by name.

    Returns:
        A sum such as ``x + pool(x) + conv3:a(2 x)``; the letters tell convolutions of one kind apart. ``0`` for a cell
        whose output does not depend on its input.

    Raises:
        NasproxyError: for a text of another form, or an unknown operation.

    Example:
        >>> cell_function("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|")
        'conv3:a(x)'
    """
    options = cell_options(cell) if isinstance(cell, str) else cell
    sums: list[_Sum] = [{("x", 0): 1}]
    for j in range(1, 4):
        total: Counter[tuple[str, int]] = Counter()
        for i in range(j):
            name = options[f"edge_{i}{j}"]
            if name not in CELL_OPERATIONS:
                raise unknown("operation", name, CELL_OPERATIONS)
            if name in _CONVOLUTIONS:
                total.update({(f"{i}{j}", 0): 1} if sums[i] else {})
            elif name != "none":
                pooled = int(name == "avg_pool_3x3")
                total.update({(term, times + pooled): number for (term, times), number in sums[i].items()})
        sums.append(dict(total))
    return min(_formula(sums[3], sums, options, names) for names in _namings(sums, options))


def network_function(options: Mapping[str, Any]) -> str:
    """What the whole network computes: the function of its cell, with the options of the skeleton around it."""
    around = [f"{name}={value}" for name, value in sorted(options.items()) if not name.startswith("edge_")]
    return f"{cell_function(options)} in {', '.join(around)}"


def _namings(sums: list[_Sum], options: Mapping[str, str]) -> list[dict[str, str]]:
    """Every way to name the convolutions that the output depends on: a letter of its kind for each edge."""
    used, waiting = set(), [sums[3]]
    while waiting:
        for term, _ in waiting.pop():
            if term != "x" and term not in used:
                used.add(term)
                waiting.append(sums[int(term[0])])
    namings: list[dict[str, str]] = [{}]
    for operation, kind in _CONVOLUTIONS.items():
        edges = sorted(edge for edge in used if options[f"edge_{edge}"] == operation)
        letters = [f"{kind}:{letter}" for letter in "abcdef"[: len(edges)]]
        namings = [
            naming | dict(zip(edges, order, strict=True)) for naming in namings for order in permutations(letters)
        ]
    return namings


def _formula(total: _Sum, sums: list[_Sum], options: Mapping[str, str], names: Mapping[str, str]) -> str:
    """``total`` in words; ``names`` are those of the convolutions."""
    parts = []
    for (term, times), number in total.items():
        text = "x" if term == "x" else f"{names[term]}({_formula(sums[int(term[0])], sums, options, names)})"
        text = "pool(" * times + text + ")" * times
        parts.append(text if number == 1 else f"{number} {text}")
    return " + ".join(sorted(parts)) or "0"


class _Zero(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.zeros_like(images)


def _pre_activated(before: int, after: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """ReLU → convolution without bias → batch norm."""
    convolution = nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), convolution, nn.BatchNorm2d(after))


def _operation(name: str, channels: int) -> nn.Module:
    if name == "none":
        return _Zero()
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return _pre_activated(channels, channels, 1 if name == "nor_conv_1x1" else 3)


class _Cell(nn.Module):
    """Four nodes; node j is the sum of the operations ``(i, j)`` on every node i before it."""

    def __init__(self, operations: dict[tuple[int, int], str], channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict({f"{i}-{j}": _operation(name, channels) for (i, j), name in operations.items()})

    def forward(self, images: Tensor) -> Tensor:
        nodes = [images]
        for j in range(1, 4):
            inputs = [self.edges[f"{i}-{j}"](nodes[i]) for i in range(j)]
            nodes.append(reduce(torch.add, inputs))
        return nodes[-1]


class _Reduction(nn.Module):
    """The benchmark's residual block between two stages: it halves the side and doubles the channels."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = _pre_activated(before, after, 3, stride=2)
        self.second = _pre_activated(after, after, 3)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(before, after, 1, bias=False))

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.second(self.first(images)) + self.shortcut(images)
        return result


def nasbench201(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    edge_01: str = "nor_conv_3x3",
    edge_02: str = "nor_conv_3x3",
    edge_12: str = "nor_conv_3x3",
    edge_03: str = "nor_conv_3x3",
    edge_13: str = "nor_conv_3x3",
    edge_23: str = "nor_conv_3x3",
    cells: int = 5,
    channels: int = 16,
) -> nn.Module:
    """A cell of NAS-Bench-201 in its skeleton: stem, three stages of ``cells`` cells with 1, 2, 4 · ``channels``, mean.

    ``edge_ij`` is the operation from node i to node j of the cell. The nets of the benchmark have five cells and 16
    channels. Source: Dong, Yang, "NAS-Bench-201", ICLR 2020, section 2.

    Raises:
        NasproxyError: for an unknown operation.
    """
    positive(cells=cells, channels=channels)
    operations = {(0, 1): edge_01, (0, 2): edge_02, (1, 2): edge_12, (0, 3): edge_03, (1, 3): edge_13, (2, 3): edge_23}
    for name in operations.values():
        if name not in CELL_OPERATIONS:
            raise unknown("operation", name, CELL_OPERATIONS)
    width = channels
    layers: list[nn.Module] = [nn.Conv2d(input_shape[0], width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
    for stage in range(3):
        if stage > 0:
            layers.append(_Reduction(width, 2 * width))
            width *= 2
        layers += [_Cell(operations, width) for _ in range(cells)]
    head = (nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))
    return nn.Sequential(*layers, *head)
