"""The canonical form of a NAS-Bench-201 cell, against the cells themselves run with matched weights in float64."""

from functools import partial
from itertools import permutations, product

import numpy as np
import pytest
import torch

from nasproxy.core.errors import NasproxyError
from nasproxy.networks import seeded
from nasproxy.networks.nasbench201 import CELL_OPERATIONS, _Cell, _operation, cell_function, network_function

EDGES = ("edge_01", "edge_02", "edge_12", "edge_03", "edge_13", "edge_23")
SHORT = dict(zip("0s13p", CELL_OPERATIONS, strict=True))
CONVOLUTIONS = ("nor_conv_1x1", "nor_conv_3x3")
ALL_CELLS = [dict(zip(EDGES, operations, strict=True)) for operations in product(CELL_OPERATIONS, repeat=6)]
NUMBER, CHANNELS = 6, 3


def cell(text):
    """A cell by one letter an edge, in the order of ``EDGES``: 0 none, s skip, 1 and 3 convolutions, p pooling."""
    return {edge: SHORT[letter] for edge, letter in zip(EDGES, text, strict=True)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("000000", "0"),
        ("310000", "0"),  # nothing reaches the output
        ("00p013", "0"),  # nothing starts at the input
        ("000s00", "x"),
        ("000300", "conv3:a(x)"),
        ("3000s0", "conv3:a(x)"),  # through node 1
        ("0s0003", "conv3:a(x)"),  # through node 2
        ("310300", "conv3:a(x)"),  # the edges to nodes 1 and 2 lead nowhere
        ("sss000", "0"),
        ("s0s00s", "x"),
        ("ss0s00", "x"),
        ("ss000s", "x"),
        ("sss00s", "2 x"),
        ("s0000p", "0"),
        ("0ss0pp", "pool(x)"),
        ("ss00pp", "2 pool(x)"),
        ("p0p00s", "pool(pool(x))"),
        ("3000ss", "conv3:a(x)"),
        ("300030", "conv3:a(conv3:b(x))"),
        ("33000s", "conv3:a(x)"),
        ("000330", "conv3:a(x)"),
        ("s00330", "conv3:a(x) + conv3:b(x)"),  # two convolutions of one input
        ("30s0ss", "2 conv3:a(x)"),  # one that is used twice
        ("3ss0s0", "conv3:a(x)"),
        ("3s00pp", "pool(conv3:a(x)) + pool(x)"),
        ("3ss00p", "pool(conv3:a(x)) + pool(x)"),  # pooling of a sum is the sum of poolings
        ("3ss003", "conv3:a(conv3:b(x) + x)"),
        ("1s30p3", "conv3:a(conv3:b(conv1:a(x)) + x) + pool(conv1:a(x))"),
    ],
)
def test_formula(text, expected):
    assert cell_function(cell(text)) == expected


def test_the_benchmarks_spelling_gives_the_same():
    text = "|nor_conv_3x3~0|+|skip_connect~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"
    assert cell_function(text) == cell_function(cell("3ss00p"))
    with pytest.raises(NasproxyError, match="conv_7x7"):
        cell_function(cell("000000") | {"edge_03": "conv_7x7"})
    with pytest.raises(NasproxyError, match="zero"):
        cell_function("zero")


def benchmark_form(operations, *, none_is_zero):
    """The benchmark's own way to call cells isomorphic, by its paper: a text of nested sums.

    ``none`` stays a summand, and a sum within a sum is sorted as one word, so the text depends a little on spelling.
    """
    nodes = ["0"]
    for j in range(1, 4):
        summands = []
        for i in range(j):
            name = operations[f"edge_{i}{j}"]
            if none_is_zero and (name == "none" or nodes[i] == "#"):
                summands.append("#")
            else:
                summands.append(nodes[i] if name == "skip_connect" else f"({nodes[i]})@{name}")
        nodes.append("+".join(sorted(summands)))
    return nodes[3]


def is_whole(operations):
    """Every edge that is not ``none`` lies on a way from the input to the output."""
    edges = [(int(edge[-2]), int(edge[-1])) for edge, name in operations.items() if name != "none"]
    reached, wanted = {0}, {3}
    for _ in range(3):
        reached |= {j for i, j in edges if i in reached}
        wanted |= {i for i, j in edges if j in wanted}
    return all(i in reached and j in wanted for i, j in edges)


def test_how_many_functions_there_are():
    """The counts of the literature count other things than functions."""
    assert len({benchmark_form(one, none_is_zero=False) for one in ALL_CELLS}) == 12_751
    assert len({benchmark_form(one, none_is_zero=True) for one in ALL_CELLS}) == 6_466
    assert sum(map(is_whole, ALL_CELLS)) == 9_445  # cells without dead edges, copies included
    functions = [cell_function(one) for one in ALL_CELLS]
    assert sum(function != "0" for function in functions) == 15_284
    assert len(set(functions)) == 5_044
    assert len({function for function, one in zip(functions, ALL_CELLS, strict=True) if is_whole(one)}) == 5_044


# ------------------------------------------------------------------------------------------ the cells themselves, run

POOL = {
    name: [seeded(lambda name=name: _operation(name, CHANNELS), number).double() for number in range(NUMBER)]
    for name in CONVOLUTIONS
}
IMAGES = torch.randn((2, CHANNELS, 5, 5), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@torch.no_grad()
def outputs(operations):
    """The cell's output under every assignment of weights to the convolutions that it depends on, ``(m, …)``."""
    live = [edge for edge in EDGES if operations[edge] in CONVOLUTIONS and depends_on(operations, edge)]
    count = {name: [edge for edge in live if operations[edge] == name] for name in CONVOLUTIONS}
    as_pairs = {(int(edge[-2]), int(edge[-1])): name for edge, name in operations.items()}
    found = []
    for orders in product(*(permutations(range(len(edges))) for edges in count.values())):
        net = seeded(partial(_Cell, as_pairs, CHANNELS), 0).double()
        for (name, edges), order in zip(count.items(), orders, strict=True):
            for edge, number in zip(edges, order, strict=True):
                net.edges[f"{edge[-2]}-{edge[-1]}"] = POOL[name][number]
        found.append(net.train()(IMAGES))
    return torch.stack(found).flatten(1)


def depends_on(operations, edge):
    """Whether there is a way from the input through ``edge`` to the output."""
    source, target = int(edge[-2]), int(edge[-1])
    edges = [(int(name[-2]), int(name[-1])) for name, operation in operations.items() if operation != "none"]
    before, after = {0}, {target}
    for _ in range(3):
        before |= {j for i, j in edges if i in before}
        after |= {j for i, j in edges if i in after}
    return source in before and 3 in after


def same_function(one, other):
    """Whether some matching of the weights gives equal outputs: no form is asked."""
    first, second = outputs(one)[:1], outputs(other)
    return bool(((first - second).abs().amax(1) < 1e-9).any())


@pytest.mark.slow
def test_equal_forms_are_equal_functions_and_different_forms_are_not():
    """40 functions that several cells have, with a twin of each; and 200 pairs of cells drawn at random."""
    rng = np.random.default_rng(0)
    by_function = {}
    for one in ALL_CELLS:
        by_function.setdefault(cell_function(one), []).append(one)
    shared = [cells for function, cells in sorted(by_function.items()) if len(cells) > 1 and function != "0"]
    for index in rng.choice(len(shared), 40, replace=False):
        one, other = (shared[index][i] for i in rng.choice(len(shared[index]), 2, replace=False))
        assert same_function(one, other), f"{one} and {other} have one form and are not one function"
    for one, other in rng.choice(len(ALL_CELLS), (200, 2)):
        equal = cell_function(ALL_CELLS[one]) == cell_function(ALL_CELLS[other])
        assert same_function(ALL_CELLS[one], ALL_CELLS[other]) == equal


def test_cells_with_equal_operations_are_told_apart_as_the_nets_tell_them():
    """All cells of three 3×3 convolutions and one skip: many pairs are nearly alike."""
    cells = [cell("".join(text)) for text in sorted(set(permutations("333s00")))]
    found = [outputs(one) for one in cells]
    forms = [cell_function(one) for one in cells]
    for i in range(len(cells)):
        for j in range(i):
            apart = (found[i][:1] - found[j]).abs().amax(1).min()
            assert (apart < 1e-9) == (forms[i] == forms[j]), f"{forms[i]} and {forms[j]}"


def test_the_network_is_its_cell_in_its_skeleton():
    one, other = cell("3000s0"), cell("0s0003")
    assert network_function(one | {"cells": 5}) == network_function({"cells": 5} | other)
    assert network_function(one | {"cells": 5}) != network_function(one | {"cells": 2})


@torch.no_grad()
def least_output(operations):
    """The output on ``IMAGES`` as one number, the least over all matchings of weights: equal for equal functions."""
    live = [edge for edge in EDGES if operations[edge] in CONVOLUTIONS and depends_on(operations, edge)]
    count = {name: [edge for edge in live if operations[edge] == name] for name in CONVOLUTIONS}
    found = []
    for orders in product(*(permutations(range(len(edges))) for edges in count.values())):
        chosen = {
            edge: POOL[name][number].train()
            for (name, edges), order in zip(count.items(), orders, strict=True)
            for edge, number in zip(edges, order, strict=True)
        }
        chosen |= {edge: FREE[operations[edge]] for edge in EDGES if operations[edge] in FREE}
        nodes = [IMAGES]
        for j in range(1, 4):
            inputs = [chosen[f"edge_{i}{j}"](nodes[i]) for i in range(j) if f"edge_{i}{j}" in chosen]
            nodes.append(sum(inputs, torch.zeros_like(IMAGES)))
        found.append((nodes[3] * WEIGHTS).sum().item())
    return min(found)


FREE = {name: _operation(name, CHANNELS) for name in ("none", "skip_connect", "avg_pool_3x3")}
WEIGHTS = torch.randn(IMAGES.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.slow
def test_all_cells_fall_into_the_same_classes_by_their_outputs():
    """All 15,625 cells: outputs agree to rounding within a formula, and differ between any two formulas."""
    by_function = {}
    for one in ALL_CELLS:
        by_function.setdefault(cell_function(one), []).append(least_output(one))
    within = max(max(values) - min(values) for values in by_function.values())
    between = np.diff(np.sort([values[0] for values in by_function.values()])).min()
    assert within < 1e-12
    assert between > 1e-9
