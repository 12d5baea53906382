"""How long does one outer step of condensation take, here and in the published implementation?

Both run in this process on the same random images of CIFAR-10's shape (speed does not depend on what they show), with
the same loops, net and batches, in turns: one outer step of the reference, one of ours, …. The reference is its own
``main()``, unchanged, from a local checkout; only its data, its loops and its evaluation (none) are supplied.

    python benchmarks/condense_speed.py --reference CHECKOUT --ipc 1 --repeats 5
    python benchmarks/condense_speed.py --reference CHECKOUT --ipc 10 --inner-steps 3 --repeats 3

Floor: the multiply-adds of convolutions and the linear layer, counted for the default ConvNet; no element-wise work.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from nasproxy.condense.contract import BuildRun
from nasproxy.condense.methods.gradient_matching import gradient_matching
from nasproxy.config import CondenseConfig, loops_for_ipc
from nasproxy.core.devices import choose_device, float32_as, hardware
from nasproxy.data import Dataset, LabeledImages
from nasproxy.networks import convnet, seeded
from nasproxy.spaces.inspection import num_flops

SHAPE, NUM_CLASSES, PER_CLASS = (3, 32, 32), 10, 1000


def random_dataset() -> Dataset:
    stream = torch.Generator().manual_seed(0)
    n = NUM_CLASSES * PER_CLASS
    split = LabeledImages(
        torch.randint(0, 256, (n, *SHAPE), generator=stream, dtype=torch.uint8), torch.arange(n) % NUM_CLASSES
    )
    return Dataset(
        name="random",
        train=split,
        val=split,
        test=split,
        class_names=tuple(str(c) for c in range(NUM_CLASSES)),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        fingerprint="0" * 64,
        flip=True,
    )


def floor_flops(config: CondenseConfig) -> float:
    """Products of one outer step: forward, input and weight gradient are one forward pass each, but for the first
    layer's input; matching the synthetic images costs seven passes (forward, two gradients, and four of these
    gradients' own)."""
    one = num_flops(seeded(lambda: convnet(SHAPE, NUM_CLASSES, width=config.width), 0), SHAPE)
    first = 2 * SHAPE[0] * 9 * config.width * SHAPE[1] * SHAPE[2]
    inner, net_steps = config.loops
    training = 3 * one - first
    synthetic = NUM_CLASSES * config.ipc
    matching = NUM_CLASSES * config.batch_real * training + synthetic * 7 * one
    return inner * matching + (inner - 1) * net_steps * synthetic * training


def synchronized(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def run_reference(checkout: Path, dataset: Dataset, config: CondenseConfig, steps: int, between) -> None:  # type: ignore[no-untyped-def]
    """The reference's ``main()`` for ``steps`` outer steps; calls ``between()`` where each begins, and at the end."""
    sys.path.insert(0, str(checkout))
    utils: Any = importlib.import_module("utils")
    main: Any = importlib.import_module("main")
    images, labels = dataset.normalize(dataset.train.images), dataset.train.labels

    def get_dataset(name: str, path: str):  # type: ignore[no-untyped-def]
        names = list(dataset.class_names)
        train = utils.TensorDataset(images, labels)
        return (SHAPE[0], SHAPE[1:], NUM_CLASSES, names, dataset.mean, dataset.std, train, train, None)

    def get_network(*arguments):  # type: ignore[no-untyped-def]
        between()
        return utils.get_network(*arguments)

    main.get_dataset, main.get_network = get_dataset, get_network
    main.get_loops = lambda ipc: config.loops
    main.get_eval_pool = lambda *_: []
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = [
            "main.py",
            *("--ipc", str(config.ipc), "--num_exp", "1", "--Iteration", str(steps - 1), "--eval_mode", "M"),
            *("--data_path", folder, "--save_path", folder),
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            main.main()
    between()


def run_ours(dataset: Dataset, config: CondenseConfig, device: torch.device) -> float:
    start = synchronized(device)
    gradient_matching(dataset, config, BuildRun(device))
    return synchronized(device) - start


def peak_memory(arguments: list[str], side: str) -> dict[str, float]:
    """Megabytes in a process of its own: at the peak, and after loading everything."""
    command = [sys.executable, __file__, *arguments, "--only", side]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def resident(field: str) -> float:
    """Megabytes: ``VmRSS`` now, or ``VmHWM``, the most since :func:`forget_peak`; Linux only."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--reference", type=Path, help="checkout of the published implementation; without it, ours alone"
    )
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument("--inner-steps", type=int, help="fewer matchings per net, to save time")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--compile", action="store_true", help="ours with torch.compile, its time not counted")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", choices=["ours", "reference"], help="one side, peak memory only")
    options = parser.parse_args()
    arguments = [argument for argument in sys.argv[1:] if argument != "--only"]

    choice = choose_device(options.device)
    dataset = random_dataset()
    inner, net_steps = loops_for_ipc(options.ipc)
    config = CondenseConfig(
        ipc=options.ipc,
        outer_steps=1,
        inner_steps=options.inner_steps or inner,
        net_steps=net_steps,
        precision=options.precision,
        compile=options.compile,
    )
    ours: list[float] = []
    reference: list[float] = []
    with float32_as(options.precision):  # the reference, too
        if options.only is not None:
            dataset.normalize(dataset.train.images)  # what the reference holds
            forget_peak()
            before = resident("VmRSS")
            if options.only == "ours":
                run_ours(dataset, config, choice.device)
            else:
                run_reference(options.reference, dataset, config, 1, lambda: None)
            cuda = torch.cuda.max_memory_allocated() / 2**20 if choice.device.type == "cuda" else None
            print(json.dumps({"peak_mb": round(resident("VmHWM")), "before_mb": round(before), "cuda_mb": cuda}))
            return
        run_ours(dataset, config, choice.device)  # warm-up
        if options.reference is None:
            ours = [run_ours(dataset, config, choice.device) for _ in range(options.repeats)]
        else:
            began = 0.0

            def between() -> None:
                nonlocal began
                now = synchronized(choice.device)
                if began:
                    reference.append(now - began)
                    print(f"reference {reference[-1]:8.3f} s", file=sys.stderr, flush=True)
                if len(ours) < options.repeats:
                    ours.append(run_ours(dataset, config, choice.device))
                    print(f"ours      {ours[-1]:8.3f} s", file=sys.stderr, flush=True)
                began = synchronized(choice.device)

            run_reference(options.reference, dataset, config, options.repeats, between)

    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    ).stdout.strip()
    floor = floor_flops(config)
    result = {
        "benchmark": "condense_speed",
        "hardware": hardware(choice),
        "torch": torch.__version__,
        "commit": commit,
        "ipc": options.ipc,
        "loops": list(config.loops),
        "published_loops": [inner, net_steps],
        "precision": options.precision,
        "compile": options.compile,
        "repeats": options.repeats,
        "seconds_ours": [round(value, 4) for value in ours],
        "seconds_reference": [round(value, 4) for value in reference],
        "gflop": round(floor / 1e9, 1),
        "gflop_per_second_ours": round(floor / 1e9 / statistics.median(ours), 1),
    }
    compiled = ", ours compiled" if options.compile else ""
    print(f"{hardware(choice)}, torch {torch.__version__}, {options.precision}{compiled}, commit {commit}")
    print(f"one outer step at ipc {options.ipc}: {config.loops[0]} matchings, {config.loops[1]} net epochs between")
    print(f"  ours       {_spread(ours)} s, {result['gflop_per_second_ours']} GFLOP/s of counted products")
    if reference:
        ratios = [theirs / own for theirs, own in zip(reference, ours, strict=True)]
        result["ratios"] = [round(ratio, 3) for ratio in ratios]
        print(f"  reference  {_spread(reference)} s")
        print(f"  ratio      {_spread(ratios)}   (reference / ours, pairs of neighbours)")
        for side in ("ours", "reference"):
            result[f"memory_{side}"] = memory = peak_memory(arguments, side)
            print(f"  memory     {side}: {memory['peak_mb'] - memory['before_mb']:.0f} MB above the loaded data")
    print(json.dumps(result))


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f}, n = {len(values)})"


if __name__ == "__main__":
    main()
