"""The laboratory of rankings: which cheap signal ranks as full training ranks, and at what cost?

    python benchmarks/ranking.py register --tables DIR          write the fixed samples, before anything is measured
    python benchmarks/ranking.py tables --tables DIR            what published tables alone say of NAS-Bench-201
    python benchmarks/ranking.py skeleton --minutes 60          reduced skeletons and short trainings
    python benchmarks/ranking.py free --minutes 10              scores without training, in two skeletons
    python benchmarks/ranking.py convnets --minutes 60          ConvNets of widths 16 to 64: truths and short trainings
    python benchmarks/ranking.py report --tables DIR            one table and one figure from all rows

Measurements are rows of ``benchmarks/data/ranking_rows.csv``, which grows and is never recomputed: a command measures
what is not there, in an order in which every beginning is a balanced sample, and can be killed at any time. Accuracies
of NAS-Bench-201 are read from ``--tables`` and are not copied. Data: CIFAR-10 in NASPROXY_DATA_DIR.

The last line of ``tables`` and ``report`` is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from nasproxy.data import load_dataset
from ranking_lab.measuring import Laboratory
from ranking_lab.published import print_tables
from ranking_lab.rows import Recorder
from ranking_lab.skeleton import measure_settings, read_cells, rounds, write_cells
from ranking_lab.tables import read_tables

DATA = Path(__file__).parent / "data"
CELLS, ROWS = DATA / "ranking_cells.csv", DATA / "ranking_rows.csv"


def register(args: argparse.Namespace) -> None:
    write_cells(CELLS, read_tables(args.tables))


def tables(args: argparse.Namespace) -> None:
    print(json.dumps(print_tables(read_tables(args.tables))))


def skeleton(args: argparse.Namespace) -> None:
    until = time.monotonic() + 60 * args.minutes
    with Recorder(args.rows) as recorder:
        laboratory = Laboratory(load_dataset("cifar10", offline=True), recorder, args.device)
        done = 0
        for cells, settings in rounds(read_cells(CELLS), everything=args.all):
            done += measure_settings(laboratory, cells, settings, until=until)
        print(f"{done} trainings")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for function in (register, tables, skeleton):
        command = commands.add_parser(function.__name__)
        command.set_defaults(run=function)
        command.add_argument("--tables", type=Path)
        command.add_argument("--rows", type=Path, default=ROWS)
        command.add_argument("--minutes", type=float, default=60)
        command.add_argument("--device", default="auto")
        command.add_argument("--all", action="store_true", help="also the settings that take days on a CPU")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
