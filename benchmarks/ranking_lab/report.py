"""One table and one figure from all recorded rows: signal × length of the truth, with n, intervals and cost."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nasproxy.correlation import Estimate
from nasproxy.correlation.bootstrap import NUM_RESAMPLES, draws, estimate, p_value, undefined
from nasproxy.correlation.ranks import spearman
from nasproxy.report.wording import value_and_interval
from ranking_lab import convnets, skeleton
from ranking_lab.measuring import FREE, TRAINED
from ranking_lab.published import old_sample
from ranking_lab.rows import Key, Row
from ranking_lab.tables import SCORES, Tables, beyond, cell_code, cell_of_code, correlation, function_of

MIN_CANDIDATES = 15  # fewer are not shown: the interval would be wider than one
NAMES = {
    "accuracy": "accuracy",
    "loss": "loss",
    "loss_sum": "sum of training losses",
    "late_loss": "late training loss",
}
TABLE_TRUTHS = {
    "12 epochs (val)": "cifar10-val@12",
    "12 epochs (test)": "cifar10-test@12",
    "200 epochs": "cifar10-test@200",
}
COLOURS, GREY = ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), "#8A8F98"
Values = dict[str, float]  # by candidate; higher is better


@dataclass(frozen=True)
class Line:
    """A signal in a setting against each truth.

    Attributes:
        signal, setting: its names.
        seeds: how many seeds its values are the mean of.
        failed: candidates that gave no number.
        gflop, seconds: medians over candidates, of one seed.
        agreement: ρ by the name of the truth.
        beyond_size: ρ with the longest truth, FLOPs taken out.
    """

    signal: str
    setting: str
    seeds: int
    failed: int
    gflop: float
    seconds: float
    agreement: Mapping[str, Estimate]
    beyond_size: Estimate


def columns(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows by signal and setting."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row.signal, row.setting), []).append(row)
    return found


def mean_by_candidate(rows: Sequence[Row]) -> tuple[Values, int, int]:
    """Means over seeds, how many seeds, and how many candidates failed. One failed seed fails the candidate."""
    by_candidate: dict[str, list[Row]] = {}
    for row in rows:
        by_candidate.setdefault(row.candidate, []).append(row)
    least = min((len(own) for own in by_candidate.values()), default=0)
    values, failed = {}, 0
    for candidate, own in by_candidate.items():
        numbers = [row.value for row in sorted(own, key=lambda row: row.seed)[:least]]
        if None in numbers:
            failed += 1
        else:
            values[candidate] = statistics.fmean(number for number in numbers if number is not None)
    return values, least, failed


def lines(rows: Sequence[Row], truths: Mapping[str, Values], size: Values, leave_out: Sequence[str] = ()) -> list[Line]:
    """Every column of ``rows`` but ``leave_out`` with enough candidates; ``truths`` from the shortest on."""
    longest = truths[list(truths)[-1]]
    found = []
    for (signal, setting), own in columns(rows).items():
        values, seeds, failed = mean_by_candidate(own)
        if signal in leave_out or len(values) < MIN_CANDIDATES:
            continue
        sign = TRAINED.get(signal, 1)
        higher = {candidate: sign * value for candidate, value in values.items()}
        cost = [statistics.median(getattr(row, name) for row in own) for name in ("gflop", "seconds")]
        agreement = {name: correlation(higher, truth) for name, truth in truths.items()}
        found.append(Line(signal, setting, seeds, failed, cost[0], cost[1], agreement, beyond(higher, longest, size)))
    return found


def cell_truths(tables: Tables, cells: Sequence[skeleton.RegisteredCell]) -> dict[str, Values]:
    """12 and 200 epochs of the registered cells' functions, by the cells' codes."""
    return {name: of_cells(tables, column, cells) for name, column in TABLE_TRUTHS.items()}


def of_cells(tables: Tables, column: str, cells: Sequence[skeleton.RegisteredCell]) -> Values:
    """A column of the tables by the codes of the registered cells, the mean over the cells of each function."""
    by_function = tables.by_function(column)
    return {cell_code(one.cell): by_function[one.function] for one in cells if one.function in by_function}


def published_lines(
    tables: Tables, cells: Sequence[skeleton.RegisteredCell], truths: Mapping[str, Values], size: Values
) -> list[Line]:
    """Published scores of the same cells, and the shorter truths as signals."""
    named = {f"published {score}": of_cells(tables, f"{score}@cifar10", cells) for score in SCORES}
    named |= {f"published {name}": truths[name] for name in ("12 epochs (val)", "12 epochs (test)")}
    found, longest = [], truths[list(truths)[-1]]
    for name, values in named.items():
        agreement = {length: correlation(values, truth) for length, truth in truths.items()}
        more = beyond(values, longest, size)
        found.append(Line(name, "the benchmark's own skeleton", 1, 0, math.nan, math.nan, agreement, more))
    return found


def net_truths(rows: Sequence[Row]) -> dict[str, Values]:
    """Test accuracy after full trainings, by their length."""
    found = {}
    for plan in convnets.TRUTHS:
        own = [row for row in rows if row.signal == "test_accuracy" and row.setting == plan.text]
        if own:
            found[f"{plan.epochs} epochs"] = mean_by_candidate(own)[0]
    return found


def print_lines(title: str, found: Sequence[Line]) -> None:
    """Prints a table in Markdown, best last truth first."""
    if not found:
        print(f"\n{title}: no column has {MIN_CANDIDATES} candidates yet.")
        return
    truths = list(found[0].agreement)
    heads = ["signal", "setting", "n", *truths, f"{truths[-1]}, beyond FLOPs", "GFLOP", "seconds"]
    print(f"\n{title}\n\n| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    for line in sorted(found, key=lambda line: -(line.agreement[truths[-1]].value or 0)):
        cost = ["" if value != value else f"{value:.3g}" for value in (line.gflop, line.seconds)]
        rhos = [value_and_interval(one) for one in (*line.agreement.values(), line.beyond_size)]
        n = f"{line.agreement[truths[-1]].n}" + (f" ({line.failed} failed)" if line.failed else "")
        print(f"| {NAMES.get(line.signal, line.signal)} | {line.setting} | {n} | " + " | ".join([*rhos, *cost]) + " |")


def _points(chosen: Sequence[Line], truth: str) -> tuple[list[float], list[float], list[list[float]]]:
    """Costs, values, and the distances to the ends of the intervals, in the order of cost."""
    costs, rhos, below, above = [], [], [], []
    for line in sorted(chosen, key=lambda line: line.gflop):
        rho = line.agreement[truth]
        if rho.value is not None:
            costs.append(line.gflop)
            rhos.append(rho.value)
            below.append(rho.value - (rho.value if rho.low is None else rho.low))
            above.append((rho.value if rho.high is None else rho.high) - rho.value)
    return costs, rhos, [below, above]


def draw(found: Sequence[Line], path: Path, title: str) -> None:
    """ρ against cost: a panel for each truth, a line for each signal, its settings in the order of their cost."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    truths = list(found[0].agreement)
    figure = Figure(figsize=(4.2 * len(truths), 4.2), layout="constrained")
    panels = figure.subplots(1, len(truths), sharey=True, squeeze=False)[0]
    for truth, axes in zip(truths, panels, strict=True):
        for (signal, name), colour, marker in zip(NAMES.items(), COLOURS, "osD^", strict=True):
            chosen = [line for line in found if line.signal == signal]
            costs, rhos, bars = _points(chosen, truth)
            style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4}
            axes.errorbar(costs, rhos, bars, label=name, linewidth=1, elinewidth=0.5, **style)
        costs, rhos, _ = _points([line for line in found if line.signal not in NAMES], truth)
        axes.plot(costs, rhos, "x", color=GREY, label="scores of the untrained net")
        axes.axhline(0, color=GREY, linewidth=0.8)
        axes.set(xscale="log", xlabel="counted GFLOP of a candidate", title=f"truth: {truth}")
        axes.grid(color="#D9DEE4", linewidth=0.6)
    panels[0].set_ylabel("Spearman ρ, 95 % intervals")
    panels[0].legend(fontsize=8)
    figure.suptitle(title)
    with mpl.rc_context({"svg.hashsalt": "ranking", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None})


def difference(rows: Sequence[Row], signal: str, settings: tuple[str, str], truth: Values) -> tuple[Estimate, float]:
    """ρ of a signal in the first setting minus in the second, on the cells that have both, and the p-value of "0"."""
    first, second = (
        mean_by_candidate([row for row in rows if (row.signal, row.setting) == (signal, setting)])[0]
        for setting in settings
    )
    keys = sorted(first.keys() & second.keys() & truth.keys())
    x, y, z = (np.array([values[key] for key in keys]) for values in (first, second, truth))
    x, y = TRAINED[signal] * x, TRAINED[signal] * y
    why = undefined(len(keys), first=x, second=y, truth=z)
    if why:
        return Estimate(None, None, None, len(keys), why), math.nan
    index = draws(len(keys), NUM_RESAMPLES, 0)
    resampled = spearman(x[index], z[index]) - spearman(y[index], z[index])
    return estimate(float(spearman(x, z) - spearman(y, z)), resampled, len(keys)), p_value(resampled)


def print_differences(rows: Sequence[Row], truth: Values) -> list[dict[str, Any]]:
    """Prints what one change of the setting does, for each signal, each as if it were the only one."""
    found = []
    print("\n| change | signal | difference of ρ | p | n |\n|---|---|---|---|---|")
    for first, second in skeleton.CHANGES:
        for signal, name in NAMES.items():
            gap, p = difference(rows, signal, (first.text, second.text), truth)
            if gap.n >= MIN_CANDIDATES:
                print(f"| {second.text} → {first.text} | {name} | {value_and_interval(gap)} | {p:.3f} | {gap.n} |")
                found.append({"first": first.text, "second": second.text, "signal": signal, "p": p} | asdict(gap))
    return found


def by_function(rows: Sequence[Row]) -> list[Row]:
    """Rows of cells with the cell's function in place of its code; of several cells of one function the first."""
    kept: dict[Key, Row] = {}
    for row in rows:
        function = function_of(cell_of_code(row.candidate))
        if function != "0":
            own = replace(row, candidate=function)
            kept.setdefault(own.key, own)
    return list(kept.values())


def report(
    rows: Sequence[Row], tables: Tables | None, cells: Sequence[skeleton.RegisteredCell], folder: Path
) -> dict[str, Any]:
    """Prints both tables and draws both figures, as far as there are rows and truths."""
    found: dict[str, Any] = {}
    codes = {cell_code(one.cell) for one in cells}
    own = [row for row in rows if row.space == skeleton.SPACE and row.candidate in codes]
    if tables is not None and own:
        truths = cell_truths(tables, cells)
        size = of_cells(tables, "flops@cifar10", cells)
        measured = lines(own, truths, size)
        title = "NAS-Bench-201, one cell of each function of the fixed sample, CIFAR-10"
        print_lines(title, [*measured, *published_lines(tables, cells, truths, size)])
        found["nasbench201"] = [asdict(line) for line in measured]
        found["differences"] = print_differences(own, truths["200 epochs"])
        if measured:
            draw(measured, folder / "ranking_nasbench201.svg", "NAS-Bench-201: reduced skeletons")
    old = {cell_code(cell) for cell in old_sample()} if tables is not None else set()
    own = [row for row in rows if row.space == skeleton.SPACE and row.candidate in old and row.signal in FREE]
    if tables is not None and own:
        truths = {name: tables.by_function(column) for name, column in TABLE_TRUTHS.items()}
        measured = lines(by_function(own), truths, tables.by_function("flops@cifar10"))
        print_lines("NAS-Bench-201, the 120 cells of RESULTS.md by function, our scores without training", measured)
        found["old sample"] = [asdict(line) for line in measured]
    own = [row for row in rows if row.space == convnets.SPACE]
    truths = net_truths(own)
    if truths:
        size = mean_by_candidate([row for row in own if row.signal == "flops"])[0]
        measured = lines(own, truths, size, leave_out=("test_accuracy", "test_loss", "val_loss"))
        print_lines("ConvNets of widths 16 to 64, all 45,000 images, measured on test images", measured)
        found["convnets"] = [asdict(line) for line in measured]
        if measured:
            draw(measured, folder / "ranking_convnets.svg", "ConvNets of widths 16 to 64")
    return found
