"""Do the options that promise fewer matchings keep the promise, on data that a CPU condenses in seconds?

scikit-learn's digits; every option alone against plain gradient matching, after the same numbers of nets and with the
seconds that they took. Accuracy is that of fresh ConvNets (width 32, one block) trained on the set, on the test images;
n is builds × nets.

    python benchmarks/faster_convergence.py --builds 3 --nets 3
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from functools import partial
from typing import Any

import torch

from nasproxy.condense.contract import BuildRun
from nasproxy.condense.initial import draw_per_class
from nasproxy.condense.methods.gradient_matching import gradient_matching
from nasproxy.config import RECIPES, CondenseConfig
from nasproxy.core.devices import choose_device, hardware
from nasproxy.data import Dataset, load_dataset
from nasproxy.data.multi_formation import decode
from nasproxy.networks import convnet
from nasproxy.training.candidate import train_candidate
from nasproxy.training.images import TrainingImages, real_images

CPU = torch.device("cpu")
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "k-means (DREAM)": {"real_choice": "kmeans"},
    "pool (Acc-DD)": {"pool": 20, "pool_epochs": 2, "perturbation": 0.09},
    "net on real images (IDC)": {"net_data": "real"},
    "formation 2 (IDC)": {"formation": 2},
    "siamese augmentation (DSA)": {"augmentation": "dsa"},
}
# Images per class → loops and the numbers of nets after which the set is looked at.
PROTOCOLS: dict[int, tuple[dict[str, int], tuple[int, ...]]] = {
    1: ({"inner_steps": 1, "net_steps": 1}, (10, 30, 100)),
    10: ({"inner_steps": 10, "net_steps": 10}, (4, 12, 40)),
}


def accuracies(dataset: Dataset, images: torch.Tensor, labels: torch.Tensor, formation: int, nets: int) -> list[float]:
    held_out = real_images(dataset, dataset.test)
    seen = decode(images, formation)
    train = TrainingImages(seen, labels.repeat_interleave(len(seen) // len(images)), lambda batch: batch)
    build = partial(convnet, dataset.input_shape, dataset.num_classes, width=32, depth=1)
    recipe = RECIPES["published"]
    fits = [train_candidate(build, train, held_out, recipe, seed=seed, device=CPU) for seed in range(nets)]
    return [100 * fit.value for fit in fits if fit.value is not None]


def run(dataset: Dataset, ipc: int, options: dict[str, Any], seed: int, nets: int) -> dict[int, dict[str, Any]]:
    """Accuracies and seconds after each number of nets."""
    loops, looks = PROTOCOLS[ipc]
    config = CondenseConfig(
        ipc=ipc, seed=seed, outer_steps=looks[-1], width=32, batch_real=64, init="real", **(loops | options)
    )
    kept: dict[int, tuple[float, torch.Tensor]] = {}

    def keep(outer: int, images: torch.Tensor) -> None:
        if outer in looks:
            kept[outer] = (time.perf_counter() - started, images)

    started = time.perf_counter()
    labels = gradient_matching(dataset, config, BuildRun(CPU, on_snapshot=keep)).labels
    return {
        outer: {
            "seconds": round(seconds, 2),
            "accuracies": accuracies(dataset, images, labels, config.formation, nets),
        }
        for outer, (seconds, images) in kept.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ipc", default="1,10")
    parser.add_argument("--builds", type=int, default=3, help="seeds of the build")
    parser.add_argument("--nets", type=int, default=3, help="nets trained on every set")
    arguments = parser.parse_args()

    dataset = load_dataset("digits")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    machine = hardware(choose_device("cpu"))
    print(f"{machine}, torch {torch.__version__}, commit {commit}")
    results = []
    for ipc in map(int, arguments.ipc.split(",")):
        looks = PROTOCOLS[ipc][1]
        real = []
        for seed in range(arguments.builds):
            drawn = draw_per_class(dataset.train, (ipc,) * dataset.num_classes, seed)
            real += accuracies(dataset, dataset.normalize(drawn.images), drawn.labels, 1, arguments.nets)
        print(f"\nipc {ipc}: random real images {statistics.mean(real):.1f} ± {statistics.stdev(real):.1f} %")
        print(f"{'option':<28}" + "".join(f"{f'after {look} nets':>24}" for look in looks))
        results.append({"ipc": ipc, "option": "random real images", "accuracies": real})
        for name, options in OPTIONS.items():
            if ipc == 1 and options.get("net_data") == "real":
                continue  # one matching per net: the net is not trained
            runs = [run(dataset, ipc, options, seed, arguments.nets) for seed in range(arguments.builds)]
            cells = []
            for look in looks:
                found = [accuracy for own in runs for accuracy in own[look]["accuracies"]]
                seconds = statistics.mean(own[look]["seconds"] for own in runs)
                cells.append(f"{statistics.mean(found):.1f} ± {statistics.stdev(found):.1f} % ({seconds:.0f} s)")
            print(f"{name:<28}" + "".join(f"{cell:>24}" for cell in cells), flush=True)
            results.append({"ipc": ipc, "option": name, "runs": runs})
    print(json.dumps({"benchmark": "faster_convergence", "hardware": machine, "commit": commit, "results": results}))


if __name__ == "__main__":
    main()
