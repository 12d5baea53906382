"""Does each way to build a proxy set train nets better than random real images, and at what cost?

    python benchmarks/methods.py --dataset digits --ipc 1,10
    python benchmarks/methods.py --dataset cifar10 --ipc 1,10 --methods random,kmeans,dsa --data-dir FOLDER --epochs 300

Every method builds ``--sets`` independent sets by the loops of ``--budget`` (a method's own, see
``nasproxy.config.BUDGETS`` and ``METHODS``); ``--nets`` fresh nets are trained on each by the recipe that the
set brings, and measured on the test images, beside as many nets on random real images with a draw for each. Accuracies
in percent, with 95 % t-intervals over sets. The published figure of CIFAR-10, where it was
confirmed, is of the method's paper, full protocol, width 128; it is printed to be compared with and is not this
protocol's.

It works in ``--out``, where a page shows all sets, and goes on there when it is started again. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from nasproxy.cli.commands import DataOptions, EvaluateOptions, compare_methods
from nasproxy.config import METHODS
from nasproxy.core.devices import versions
from nasproxy.core.wording import amount, precise_duration
from nasproxy.validation.set_page import Evaluated, percent_interval, points_interval

# CIFAR-10, ConvNet, test accuracy in percent at 1, 10 and 50 images per class, as the methods' own papers print it.
PUBLISHED = {
    "gradient_matching": {1: 28.3, 10: 44.9, 50: 53.9},
    "dsa": {1: 28.8, 10: 52.1, 50: 60.6},
    "distribution_matching": {1: 26.0, 10: 48.9, 50: 63.0},
}


def table(sets: list[Evaluated], dataset: str) -> list[str]:
    """Markdown, a row for each set."""
    lines = [
        "| method | ipc | n | accuracy | random real images | difference | to build | peak memory | published |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in sets:
        comparison, record = one.comparisons[0], one.proxy.record
        ipc = one.proxy.counts[0]
        published = PUBLISHED.get(one.proxy.method, {}).get(ipc) if dataset == "cifar10" else None
        baseline = comparison.baseline
        cells = (
            one.proxy.method,
            ipc,
            len(comparison.row.accuracies),
            percent_interval(comparison.row.mean),
            "" if baseline is None else percent_interval(baseline.mean),
            points_interval(comparison.difference),
            precise_duration(float(record["seconds"])),
            amount(record.get("peak_bytes"), "B"),
            "" if published is None else published,
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def as_json(one: Evaluated) -> dict[str, object]:
    comparison = one.comparisons[0]
    return {
        "method": one.proxy.method,
        "counts": one.proxy.counts,
        "accuracies": [[e.value for e in own] for own in comparison.row.sets],
        "random": [] if comparison.baseline is None else comparison.baseline.accuracies,
        "seconds": one.proxy.record["seconds"],
        "peak_bytes": one.proxy.record.get("peak_bytes"),
        "settings": one.proxy.provenance["config"],
        "hardware": one.proxy.record["hardware"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--ipc", default="1,10")
    parser.add_argument("--sets", type=int, default=3)
    parser.add_argument("--nets", type=int, default=5)
    parser.add_argument("--budget", default="quick")
    parser.add_argument("--epochs", type=int, help="of training on a set; default: the recipe's")
    parser.add_argument("--outer-steps", type=int)
    parser.add_argument("--width", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--out", type=Path, default=Path("reports/methods"))
    options = parser.parse_args()
    overrides = {"num_sets": options.sets, "seed": options.seed}
    overrides |= {name: own for name in ("outer_steps", "width") if (own := getattr(options, name)) is not None}
    sets = compare_methods(
        options.methods.split(","),
        [int(word) for word in options.ipc.split(",")],
        EvaluateOptions(num_nets=options.nets, epochs=options.epochs, seed=options.seed, workers=options.workers),
        DataOptions(options.dataset, options.data_dir, offline=True, device=options.device),
        overrides=overrides,
        budget=options.budget,
        folder=options.out,
        run_folder=options.out,
    )
    print("\n".join(table(sets, options.dataset)))
    print(json.dumps({"versions": versions(), "dataset": options.dataset, "rows": [as_json(one) for one in sets]}))


if __name__ == "__main__":
    main()
