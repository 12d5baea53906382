"""The device: its choice, precision, threads, energy and memory, and what a record says of the machine."""

from __future__ import annotations

import logging
import os
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from nasproxy.core.distributed import local_number
from nasproxy.core.errors import NasproxyError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True)
class DeviceChoice:
    """A device, its short name for people, and the reason why it was chosen."""

    device: torch.device
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


def _cpu_name() -> str:
    threads = torch.get_num_threads()
    return f"CPU with {threads} thread{'s' if threads != 1 else ''}"


def choose_device(name: str = "auto") -> DeviceChoice:
    """Chooses the device.

    Args:
        name: "cpu", "cuda", "cuda:N" or "auto". "auto" is CUDA if torch has it, else the CPU; of several processes,
            each takes a GPU of its own.

    Raises:
        NasproxyError: for a device that torch does not have on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            number = local_number()
            device = torch.device("cuda") if number is None else torch.device("cuda", number)
            return DeviceChoice(device, torch.cuda.get_device_name(device), "a CUDA device is available")
        return DeviceChoice(torch.device("cpu"), _cpu_name(), "no CUDA device is available")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise NasproxyError(f"Unknown device '{name}': use auto, cpu, cuda or cuda:N.") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise NasproxyError(
                f"Device '{name}' was asked for, but torch sees {count} CUDA devices: use --device cpu."
            )
        return DeviceChoice(device, torch.cuda.get_device_name(device), "asked for")
    if device.type != "cpu":
        raise NasproxyError(f"Device '{name}' is not supported: use auto, cpu, cuda or cuda:N.")
    return DeviceChoice(device, _cpu_name(), "asked for")


def accelerator(device: torch.device) -> Any | None:
    """torch's module for the kind of ``device``, such as ``torch.cuda``; None for a CPU."""
    return None if device.type == "cpu" else torch.get_device_module(device)


def placed(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """``images`` on a GPU ``device``, if they take less than a quarter of its free memory; else where they are."""
    module = accelerator(device)
    if module is None or images.nbytes >= module.mem_get_info(device)[0] // 4:
        return images
    return images.to(device)


@contextmanager
def forked(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """In its ``with`` block torch's global generators can be drawn from; afterwards they are as before.

    Args:
        device: it and the CPU are meant; the generators of other devices are left alone.
        seed: of both generators in the block; None: they go on from where they are.
    """
    module = accelerator(device)
    others = {} if module is None else {"device_type": device.type}
    with torch.random.fork_rng(devices=[] if module is None else [device], **others):
        if seed is not None:
            torch.random.default_generator.manual_seed(seed)
            if module is not None:
                with module.device(device):
                    module.manual_seed(seed)
        yield


def training_precision(device: torch.device) -> str:
    """The precision to train in: "bfloat16" if ``device`` has instructions for its products, else "float32"."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    has = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))
    return "bfloat16" if has else "float32"


POWERCAP = Path("/sys/class/powercap")  # Linux's energy counters of processors; often only root may read them


def energy_meter(device: torch.device) -> Callable[[], float] | None:
    """Starts to measure the energy of ``device``.

    A CUDA device is measured by NVML, if its Python bindings are installed; a CPU by the counters of its packages
    (RAPL), which count whatever else runs at the same time, too.

    Returns:
        A function that gives the joules used since this call; None when the device cannot be measured.
    """
    if device.type == "cuda":
        try:
            import pynvml

            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
            start = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)  # in millijoules
        except Exception:  # noqa: BLE001  # no bindings, no permission, an older card
            return None
        return lambda: (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - start) / 1e3
    counters = sorted(POWERCAP.glob("intel-rapl:[0-9]*/energy_uj"))
    counters = [path for path in counters if path.parent.name.count(":") == 1]  # packages, not their parts
    try:
        limits = [int((path.parent / "max_energy_range_uj").read_text()) for path in counters]
        last = [int(path.read_text()) for path in counters]
    except (OSError, ValueError):
        return None
    if not counters:
        return None
    total = 0

    def joules() -> float:
        nonlocal total
        for place, path in enumerate(counters):
            now = int(path.read_text())
            total += (now - last[place]) % limits[place]  # a counter starts again at 0 after its limit
            last[place] = now
        return total / 1e6

    return joules


SAMPLE_SECONDS = 0.02  # between two measurements of the memory of this process


@dataclass
class PeakMemory:
    """The most ``bytes`` above those at the beginning; None when the system does not tell."""

    bytes: int | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[PeakMemory]:
    """Measures the most memory that a ``with`` block needs on ``device``; the result is known at its end.

    On a CUDA device it is what torch allocates. On a CPU it is the resident memory of this process, measured every
    ``SAMPLE_SECONDS`` (on Linux alone).
    """
    found = PeakMemory()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield found
        found.bytes = torch.cuda.max_memory_allocated(device) - before
        return
    statistics = Path("/proc/self/statm")
    if not statistics.exists():
        yield found
        return
    page = os.sysconf("SC_PAGE_SIZE")

    def resident() -> int:
        return int(statistics.read_text().split()[1]) * page

    start = most = resident()
    ended = threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(SAMPLE_SECONDS):
            most = max(most, resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        ended.set()
        watcher.join()
        found.bytes = max(most, resident()) - start


@contextmanager
def float32_as(precision: str) -> Iterator[None]:
    """CUDA computes float32 products in TF32 when ``precision`` is "tf32", and in full float32 otherwise.

    By default, torch uses TF32 in convolutions; then "float32" would not be float32. The flags are global; they are
    restored at the end of the ``with`` block.
    """
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def twice_differentiable() -> AbstractContextManager[None]:
    """A context for a forward pass whose gradient is differentiated again.

    Attention then takes its plain form: torch's fused kernels have no second derivative.
    """
    return sdpa_kernel(SDPBackend.MATH)


def products_in(precision: str, device: torch.device) -> torch.autocast:
    """A context that takes products in bfloat16 when ``precision`` is "bfloat16", and changes nothing otherwise.

    Use it for one forward pass: torch keeps a copy of the weights it has seen, and would miss an update.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def compiled_program(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """``function``, compiled by torch for each shape of its tensors."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # on a CPU it warns about CUDA
    return torch.compile(function, dynamic=False)


@contextmanager
def cpu_threads(number: int | None) -> Iterator[None]:
    """Sets torch's number of CPU threads for the time of a ``with`` block; None changes nothing."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(number or before)
        yield
    finally:
        torch.set_num_threads(before)


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that the results depend on."""
    found = {"python": platform.python_version()}
    for package in ("nasproxy", "torch", "torchvision", "optuna", "numpy", "scipy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def hardware(choice: DeviceChoice) -> str:
    """Device, processor architecture, cores and operating system, in one line."""
    name = _cpu_name() if choice.device.type == "cpu" else choice.name
    return f"{name}; {platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
