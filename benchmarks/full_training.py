"""How many seconds does an epoch of full CIFAR-10 training take, here and in a plain PyTorch loop?

Claim: at least 1.5 times as fast on two CPU cores, at equal accuracy.

The plain loop is what most people write: a Dataset of PIL images, torchvision's RandomCrop, RandomHorizontalFlip,
ToTensor and Normalize, a DataLoader, SGD with Nesterov momentum and OneCycleLR. Both train the same net with the same
batch size and number of epochs. Every round trains ``--images`` images by each loop, in turns, for one epoch, and for
a compiled net two, of which the second is counted: compiling, told apart, is once a training. The first round warms
up. Seconds are for 50,000 images.

    python benchmarks/full_training.py --rounds 5 --images 5120

    python benchmarks/full_training.py --accuracy --net convnet:width=16 --epochs 5 --seeds 3

trains both to the end and measures them on the 10,000 test images, with a 95 % interval of the difference; and a
plain loop that crops last, so that its borders are of the data's mean colour, as ours, and not black. Data: CIFAR-10 in
NASPROXY_DATA_DIR, or random pixels for the seconds alone.

Floor: two operations per multiply-add, three passes per training image.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from nasproxy.config import FULL_RECIPE, Recipe
from nasproxy.core.devices import choose_device, hardware, training_precision
from nasproxy.core.randomness import derive_seed
from nasproxy.data import load_dataset, normalize
from nasproxy.networks import seeded
from nasproxy.spaces.inspection import num_flops
from nasproxy.training.fit import Passes, fit, images_per_pass
from nasproxy.training.held_out import accuracy_and_loss
from nasproxy.training.images import TrainingImages
from nasproxy.validation.set_accuracy import NetSpec, difference_interval, parse_net

SHAPE, NUM_CLASSES, EPOCH = (3, 32, 32), 10, 50_000


class PilImages(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """As torchvision's CIFAR10: an array of pixels, a PIL image of each when it is asked for."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, transform: Callable[[Any], torch.Tensor]) -> None:
        self.pixels, self.labels, self.transform = images.permute(0, 2, 3, 1).numpy(), labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.pixels[number])), self.labels[number]


def plain_loop(
    net: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    num_workers: int,
    crop_last: bool = False,
) -> float:
    """Trains ``net``; seconds."""
    from torchvision import transforms

    crop = transforms.RandomCrop(SHAPE[1], padding=4)
    rest = [
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(data.mean, data.std),
    ]
    transform = transforms.Compose([*rest, crop] if crop_last else [crop, *rest])
    torch.manual_seed(seed)
    batches = DataLoader(
        PilImages(data.images, data.labels, transform),
        batch_size=recipe.batch_size,
        shuffle=True,
        num_workers=num_workers,
        pin_memory=device.type == "cuda",
    )
    optimizer = torch.optim.SGD(
        net.parameters(), lr=recipe.lr, momentum=recipe.momentum, nesterov=True, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=recipe.lr, total_steps=recipe.epochs * len(batches), cycle_momentum=False
    )
    start = time.perf_counter()
    net.train()
    for _ in range(recipe.epochs):
        for images, labels in batches:
            images, labels = images.to(device), labels.to(device)
            loss = nn.functional.cross_entropy(net(images), labels, label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def our_loop(
    net: nn.Module, data: Data, recipe: Recipe, *, seed: int, device: torch.device, precision: str, compiled: bool
) -> float:
    """Trains ``net``; seconds."""
    train = TrainingImages(data.images, data.labels, partial(normalize, mean=data.mean, std=data.std)).on(device)
    start = time.perf_counter()
    passes = Passes(images_per_pass(net, SHAPE, device), precision, compiled)
    loss = fit(net, train, recipe, seed=seed, device=device, passes=passes)
    loss.item()
    return time.perf_counter() - start


class Data:
    """Training and test images, uint8, and their statistics."""

    def __init__(self, num_images: int | None, *, need_real: bool) -> None:
        from nasproxy.core.errors import NasproxyError

        try:
            dataset = load_dataset("cifar10", offline=True)
            self.images, self.labels = dataset.train.images, dataset.train.labels
            self.test, self.mean, self.std = dataset.test, dataset.mean, dataset.std
            self.name = "CIFAR-10"
        except NasproxyError:
            if need_real:
                raise
            stream = torch.Generator().manual_seed(0)
            n = num_images or EPOCH
            self.images = torch.randint(0, 256, (n, *SHAPE), dtype=torch.uint8, generator=stream)
            self.labels, self.mean, self.std = torch.arange(n) % NUM_CLASSES, (0.5,) * 3, (0.25,) * 3
            self.name = "random pixels"
        if num_images is not None:
            self.images, self.labels = self.images[:num_images], self.labels[:num_images]


def build(spec: NetSpec, seed: int, device: torch.device) -> nn.Module:
    return seeded(partial(spec.build, SHAPE, NUM_CLASSES), derive_seed(seed, "init")).to(device)


def loops(device: torch.device, num_workers: int) -> dict[str, Callable[..., float]]:
    """Every loop by name; each is given net, data, recipe, seed and device."""
    found: dict[str, Callable[..., float]] = {"plain": partial(plain_loop, num_workers=num_workers)}
    precisions = dict.fromkeys(("float32", training_precision(device)))
    for precision in precisions:
        found[f"ours, {precision}"] = partial(our_loop, precision=precision, compiled=False)
    if device.type == "cpu":
        for precision in precisions:
            found[f"ours, {precision}, compiled"] = partial(our_loop, precision=precision, compiled=True)
    return found


def epochs_per_second(args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Seconds of an epoch by each loop, the rounds in turns."""
    data = Data(args.images, need_real=False)
    recipe = replace(FULL_RECIPE, epochs=1)
    found: dict[str, Any] = {"data": data.name, "images": args.images, "rounds": args.rounds, "nets": {}}
    for text in args.net:
        spec = parse_net(text)
        flops = num_flops(build(spec, 0, torch.device("cpu")), SHAPE)
        seconds: dict[str, list[float]] = {name: [] for name in loops(device, args.loader_workers)}
        for number in range(args.rounds + 1):
            for name, loop in loops(device, args.loader_workers).items():
                took = loop(build(spec, 0, device), data, recipe, seed=number, device=device) * EPOCH / args.images
                if number:
                    seconds[name].append(took)
        ratios = {
            name: [plain / own for plain, own in zip(seconds["plain"], took, strict=True)]
            for name, took in seconds.items()
            if name != "plain"
        }
        found["nets"][text] = {
            "gflop_per_epoch": 3 * flops * EPOCH / 1e9,
            "seconds": {name: [statistics.median(took), min(took), max(took)] for name, took in seconds.items()},
            "times_as_fast": {name: [statistics.median(own), min(own), max(own)] for name, own in ratios.items()},
        }
        print(text)
        for name, (middle, low, high) in found["nets"][text]["seconds"].items():
            rate = 3 * flops * EPOCH / 1e9 / middle
            print(f"  {name:24} {middle:8.1f} s ({low:.1f} to {high:.1f}), {rate:.0f} GFLOP/s")
        for name, (middle, low, high) in found["nets"][text]["times_as_fast"].items():
            print(f"  {name:24} {middle:8.2f} × plain ({low:.2f} to {high:.2f})")
    return found


def accuracies(args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Test accuracy of each loop after the same number of epochs."""
    data = Data(args.images, need_real=True)
    prepare = partial(normalize, mean=data.mean, std=data.std)
    test = TrainingImages(data.test.images, data.test.labels, prepare).on(device)
    recipe = replace(FULL_RECIPE, epochs=args.epochs)
    compared = loops(device, args.loader_workers)
    compared["plain, crop last"] = partial(plain_loop, num_workers=args.loader_workers, crop_last=True)
    found: dict[str, Any] = {"epochs": args.epochs, "seeds": args.seeds, "images": len(data.images), "nets": {}}
    for text in args.net:
        spec = parse_net(text)
        by_loop: dict[str, list[float]] = {}
        seconds: dict[str, list[float]] = {}
        for seed in range(args.seeds):
            for name, loop in compared.items():
                net = build(spec, seed, device)
                seconds.setdefault(name, []).append(loop(net, data, recipe, seed=seed, device=device))
                by_loop.setdefault(name, []).append(accuracy_and_loss(net, test, device)[0])
        print(text)
        found["nets"][text] = {"accuracy": by_loop, "seconds": seconds, "difference": {}}
        for name, own in by_loop.items():
            gap = difference_interval(own, by_loop["plain"])
            found["nets"][text]["difference"][name] = [gap.value, gap.low, gap.high]
            ends = "" if gap.low is None or gap.high is None else f" ({100 * gap.low:+.1f} to {100 * gap.high:+.1f})"
            took = statistics.median(seconds[name])
            accuracy = f"{100 * statistics.mean(own):.1f} %, {took:.0f} s"
            print(f"  {name:24} {accuracy}; minus plain {100 * gap.value:+.1f}{ends}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", nargs="+", default=["convnet", "resnet18"])
    parser.add_argument("--images", type=int, help="of an epoch; all of them by default for --accuracy, else 5,120")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--epochs", type=int, default=FULL_RECIPE.epochs)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--loader-workers", type=int, default=0, help="processes of the plain loop's DataLoader")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    choice = choose_device(args.device)
    if not args.accuracy:
        args.images = args.images or 5_120
    result = (accuracies if args.accuracy else epochs_per_second)(args, choice.device)
    result["hardware"] = hardware(choice)
    result["loader_workers"] = args.loader_workers
    if args.out is not None:
        args.out.write_text(json.dumps(result, indent=1))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
