"""What published tables alone say of NAS-Bench-201: every cheap column against 12 epochs and against 200."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from nasproxy.correlation import Estimate
from nasproxy.report.wording import value_and_interval
from nasproxy.spaces import inspect_space, load_space, uniform_sample
from ranking_lab.tables import (
    DATA_NAMES,
    SCORE_TABLES,
    SCORES,
    Column,
    Tables,
    all_cells,
    cell_of,
    correlation,
    function_of,
)

# The sample of "the cells of NAS-Bench-201 at a reduced skeleton" in RESULTS.md.
OLD_SPACE, OLD_SIZE, OLD_SEED = "nasbench201_space:cells=1,channels=4", 120, 0
PARTS = ("all", "upper half", "upper tenth")


def old_sample() -> list[str]:
    """The 120 cells of RESULTS.md, drawn again by the code of ``nasproxy validate``.

    That draw does not depend on how many other candidates the inspection tries, so it tries one.
    """
    inspection = inspect_space(load_space(OLD_SPACE), (3, 32, 32), 10, sample=1)
    return [cell_of(candidate.params) for candidate in uniform_sample(inspection, OLD_SIZE, OLD_SEED)]


def best_part(truth: Mapping[str, float], part: str) -> list[str]:
    """The keys of the best part of a truth."""
    share = {"all": 1.0, "upper half": 0.5, "upper tenth": 0.1}[part]
    return sorted(truth, key=lambda key: -truth[key])[: round(share * len(truth))]


def twins(column: Column, seed: int = 0) -> tuple[Column, Column]:
    """Two cells of each function that has several in ``column``: what one training says of another of the same net."""
    rng = np.random.default_rng(seed)
    by_function: dict[str, list[str]] = {}
    for cell in sorted(column):
        by_function.setdefault(function_of(cell), []).append(cell)
    pairs = {
        function: rng.choice(len(cells), 2, replace=False)
        for function, cells in by_function.items()
        if function != "0" and len(cells) > 1
    }
    first, second = (
        {function: column[by_function[function][pair[place]]] for function, pair in pairs.items()} for place in (0, 1)
    )
    return first, second


def table(head: str, rows: Iterable[tuple[str, list[Estimate]]], columns: list[str]) -> None:
    """Prints a table in Markdown: ρ with its interval and n."""
    print(f"\n| {head} | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, estimates in rows:
        print(f"| {name} | " + " | ".join(f"{value_and_interval(one)}, n = {one.n}" for one in estimates) + " |")


def cheap_columns(tables: Tables, data: str, among: list[str] | None = None) -> dict[str, Column]:
    """Every column that a table gives of a data set besides 200 epochs, by function."""
    names = [f"{data}-val@12", f"{data}-test@12"]
    names += [f"{score}@{data}" for score in SCORES] if data in SCORE_TABLES else []
    return {name: tables.by_function(name, among) for name in names}


def print_counts(tables: Tables) -> dict[str, int]:
    """How many functions there are, and how many the tables have."""
    counts = {"cells": len(all_cells()), "functions": len({function_of(cell) for cell in all_cells()})}
    for name in ("cifar10-val@12", "cifar10-test@200", "nwot@cifar10"):
        counts[f"{name}, cells"] = len(tables.columns[name])
        counts[f"{name}, functions"] = len(tables.by_function(name))
    for name, value in counts.items():
        print(f"{name}: {value:,}")
    return counts


def print_old_sample(tables: Tables) -> dict[str, Any]:
    """The 120 cells of RESULTS.md again, as cells and as functions, against 12 and 200 epochs."""
    cells = old_sample()
    functions = sorted({function_of(cell) for cell in cells} - {"0"})
    zeros = sum(function_of(cell) == "0" for cell in cells)
    print(f"\nThe {len(cells)} cells of RESULTS.md are {len(functions)} functions and {zeros} cells without an input.")
    print("A function has the mean of all of its cells in a table; a cell its own value.")
    truths = ["cifar10-val@12", "cifar10-test@200"]
    whole = cheap_columns(tables, "cifar10")
    found: dict[str, Any] = {"cells": len(cells), "functions": len(functions)}
    rows = []
    for name, column in whole.items():
        own = {cell: tables.columns[name][cell] for cell in cells if cell in tables.columns[name]}
        estimates = [correlation(own, tables.columns[truth]) for truth in truths]
        estimates += [correlation(column, tables.by_function(truth), functions) for truth in truths]
        rows.append((name, estimates))
        found[name] = [asdict(one) for one in estimates]
    heads = ["cells, 12 epochs (val)", "cells, 200", "functions, 12 epochs (val)", "functions, 200"]
    table("score", rows, heads)
    return found


def print_all(tables: Tables, data: str) -> dict[str, Any]:
    """Every cheap column against 12 and 200 epochs over all functions that have both."""
    cheap = cheap_columns(tables, data)
    long = tables.by_function(f"{data}-test@200")
    truths = {f"12 epochs ({split})": cheap[f"{data}-{split}@12"] for split in ("val", "test")}
    common = sorted(set.intersection(*(set(column) for column in (*cheap.values(), long))))
    found: dict[str, Any] = {"functions": len(common)}
    print(f"\n{DATA_NAMES[data]}: {len(common):,} functions that have every column.")
    rows = []
    for name, column in cheap.items():
        estimates = [correlation(column, truth, common) for truth in truths.values()]
        for part in PARTS:
            best = best_part({function: long[function] for function in common}, part)
            estimates.append(correlation(column, long, best))
        rows.append((name, estimates))
        found[name] = [asdict(one) for one in estimates]
    table("score", rows, [*truths, *(f"200 epochs, {part}" for part in PARTS)])
    return found


def print_ceiling(tables: Tables) -> dict[str, Any]:
    """How well two cells of one function, trained apart, agree."""
    found, rows = {}, []
    for data in DATA_NAMES:
        estimates = []
        for name in (f"{data}-val@12", f"{data}-test@12", f"{data}-test@200"):
            first, second = twins(tables.columns[name])
            estimates.append(correlation(first, second))
            best = best_part(second, "upper half")
            estimates.append(correlation(first, second, best))
        rows.append((DATA_NAMES[data], estimates))
        found[data] = [asdict(one) for one in estimates]
    heads = [
        f"{name}{part}" for name in ("12 epochs (val)", "12 (test)", "200 (test)") for part in ("", ", upper half")
    ]
    print("\nTwo cells of one function, trained apart:")
    table("data", rows, heads)
    return found


def print_tables(tables: Tables) -> dict[str, Any]:
    """All of it."""
    return {
        "counts": print_counts(tables),
        "ceiling": print_ceiling(tables),
        "old sample": print_old_sample(tables),
        **{data: print_all(tables, data) for data in DATA_NAMES},
    }
