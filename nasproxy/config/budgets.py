"""The three budgets: quick, standard and paper."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """Loops, net width, trials and validation, set together. Every value can be overridden by its own option."""

    init: str
    outer_steps: int
    net_steps: int | None  # None: the published table
    width: int
    batch_real: int
    trials: int
    proxy_epochs: int
    sample: int
    top: int
    full_epochs: int
    full_images: int | None  # None: all training images


# Few nets do not carry noise far: on CIFAR-10 at ipc 10 the quick loops reach 32 % from noise and 37 % from real images
# (benchmarks/LOG.md), so the small budgets start from those.
BUDGETS: dict[str, Budget] = {
    "quick": Budget(
        init="real",
        outer_steps=50,
        net_steps=10,
        width=32,
        batch_real=64,
        trials=30,
        proxy_epochs=100,
        sample=20,
        top=5,
        full_epochs=4,
        full_images=5_000,
    ),
    "standard": Budget(
        init="real",
        outer_steps=200,
        net_steps=25,
        width=64,
        batch_real=128,
        trials=100,
        proxy_epochs=300,
        sample=50,
        top=5,
        full_epochs=10,
        full_images=None,
    ),
    "paper": Budget(
        init="noise",
        outer_steps=1000,
        net_steps=None,
        width=128,
        batch_real=256,
        trials=720,
        proxy_epochs=300,
        sample=100,
        top=10,
        full_epochs=200,
        full_images=None,
    ),
}


# What one command may take before a smaller budget is chosen: about an hour on a CPU, a few minutes on a GPU.
TIME_LIMIT_SECONDS = {"cpu": 3600.0, "cuda": 300.0}
