"""The laboratory of rankings: which cheap signal ranks as full training ranks, and at what cost?

    python benchmarks/ranking.py register --tables DIR          write the fixed samples, before anything is measured
    python benchmarks/ranking.py tables --tables DIR            what published tables alone say of NAS-Bench-201
    python benchmarks/ranking.py skeleton --minutes 60          reduced skeletons and short trainings
    python benchmarks/ranking.py free --minutes 10              scores without training, in two skeletons
    python benchmarks/ranking.py convnets --minutes 60          ConvNets of widths 16 to 64: truths and short trainings
    python benchmarks/ranking.py report --tables DIR            one table and one figure from all rows

Measurements are rows of ``benchmarks/data/ranking_rows*.csv``, which grow and are never recomputed: a command measures
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
from ranking_lab.convnets import measure_nets, read_nets, write_nets
from ranking_lab.measuring import Laboratory
from ranking_lab.published import old_sample, print_tables
from ranking_lab.report import report as print_report
from ranking_lab.rows import Recorder, read_rows
from ranking_lab.skeleton import FIRST_ROUND, measure_free, measure_settings, read_cells, rounds, write_cells
from ranking_lab.tables import read_tables

DATA = Path(__file__).parent / "data"
CELLS, NETS = DATA / "ranking_cells.csv", DATA / "ranking_convnets.csv"


def laboratory(args: argparse.Namespace, recorder: Recorder) -> Laboratory:
    return Laboratory(load_dataset("cifar10", offline=True), recorder, args.device, getattr(args, "sets", None))


def rows_of(args: argparse.Namespace, name: str) -> Path:
    return Path(args.data) / f"ranking_rows{name}.csv"


def register(args: argparse.Namespace) -> None:
    write_cells(CELLS, read_tables(args.tables))
    write_nets(NETS)


def tables(args: argparse.Namespace) -> None:
    print(json.dumps(print_tables(read_tables(args.tables))))


def skeleton(args: argparse.Namespace) -> None:
    until, done = time.monotonic() + 60 * args.minutes, 0
    with Recorder(rows_of(args, "")) as recorder:
        here = laboratory(args, recorder)
        for cells, settings in rounds(read_cells(CELLS), everything=args.all):
            done += measure_settings(here, cells, settings, until=until)
    print(f"{done} trainings")


def free(args: argparse.Namespace) -> None:
    until, done = time.monotonic() + 60 * args.minutes, 0
    registered = [one.cell for one in read_cells(CELLS)]
    plan = [("cells=1 channels=4", registered[:FIRST_ROUND]), ("cells=1 channels=4", old_sample())]
    plan += [("cells=5 channels=16", registered), ("cells=1 channels=4", registered)]
    with Recorder(rows_of(args, "_free")) as recorder:
        here = laboratory(args, recorder)
        for options, cells in plan:
            done += measure_free(here, cells, options, until=until)
    print(f"{done} scores")


def convnets(args: argparse.Namespace) -> None:
    until = time.monotonic() + 60 * args.minutes
    with Recorder(rows_of(args, "_convnets")) as recorder:
        sets = tuple(sorted(path.stem for path in args.sets.glob("*.safetensors"))) if args.sets else ()
        here = laboratory(args, recorder)
        done = measure_nets(here, read_nets(NETS), until=until, everything=args.all, sets=sets)
    print(f"{done} measurements")


def report(args: argparse.Namespace) -> None:
    rows = [row for path in sorted(Path(args.data).glob("ranking_rows*.csv")) for row in read_rows(path)]
    found = read_tables(args.tables) if args.tables else None
    print(json.dumps(print_report(rows, found, read_cells(CELLS), Path(args.out))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for function in (register, tables, skeleton, free, convnets, report):
        command = commands.add_parser(function.__name__)
        command.set_defaults(run=function)
        if function in (register, tables, report):
            command.add_argument("--tables", type=Path, help="folder with the tables", required=function is not report)
        if function in (skeleton, free, convnets):
            command.add_argument("--minutes", type=float, default=60, help="no new measurement begins after these")
            command.add_argument("--device", default="auto")
            command.add_argument("--all", action="store_true", help="also the settings that take days on a CPU")
        if function is convnets:
            command.add_argument("--sets", type=Path, help="folder of proxy sets: each is a column by its file's name")
        if function is report:
            command.add_argument("--out", type=Path, default=DATA.parent, help="folder of the figures")
        command.add_argument("--data", type=Path, default=DATA, help="folder of the rows")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
