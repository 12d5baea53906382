import sys
import time
from types import SimpleNamespace

import pytest
import torch
from toy import toy_dataset, toy_proxy

from nasproxy.config import Recipe
from nasproxy.core import devices
from nasproxy.core.devices import energy_meter
from nasproxy.networks import NETWORKS
from nasproxy.scores.proxy import proxy_task
from nasproxy.training import candidate

CPU = torch.device("cpu")


@pytest.fixture
def counters(tmp_path, monkeypatch):
    """Two packages, one of them with a part that must not count twice."""
    monkeypatch.setattr(devices, "POWERCAP", tmp_path)
    for name, value in (("intel-rapl:0", 900), ("intel-rapl:0:0", 500), ("intel-rapl:1", 100)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "max_energy_range_uj").write_text("1000\n")
        (tmp_path / name / "energy_uj").write_text(f"{value}\n")

    def add(**values):
        for name, value in values.items():
            (tmp_path / f"intel-rapl:{name[1:]}" / "energy_uj").write_text(str(value))

    return add


def test_energy_of_a_processor_is_that_of_its_packages_across_the_end_of_a_counter(counters):
    meter = energy_meter(CPU)
    assert meter() == 0
    counters(p0=950, p1=400)
    assert meter() == pytest.approx(350e-6)
    counters(p0=20)  # it began again at 1000
    assert meter() == pytest.approx(420e-6)


def test_a_device_that_does_not_tell_has_no_energy(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "POWERCAP", tmp_path)
    assert energy_meter(CPU) is None
    (tmp_path / "intel-rapl:0").mkdir()  # not readable
    assert energy_meter(CPU) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert energy_meter(torch.device("cuda")) is None


def test_energy_of_a_gpu_is_asked_of_nvml_by_its_uuid(monkeypatch):
    """A stand-in for NVML: no GPU is at hand here."""
    taken = iter([5_000, 12_500])
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: {"GPU-abc": "it"}[uuid],
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(taken),
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="abc"))
    assert energy_meter(torch.device("cuda"))() == 7.5


def test_a_training_knows_what_it_took(counters, monkeypatch):
    task = proxy_task(toy_proxy(), toy_dataset())

    def trained(checkpoint=None):
        return candidate.train_candidate(
            lambda: NETWORKS["convnet"]((1, 8, 8), 3, width=2, depth=1),
            task.train,
            task.held_out,
            Recipe(lr=0.01, epochs=2),
            seed=0,
            device=CPU,
            checkpoint=checkpoint,
            on_update=lambda done, total: counters(p0=900 + 10 * done),
        )

    assert trained().joules == pytest.approx(20e-6)
    monkeypatch.setattr(candidate, "energy_meter", lambda device: None)
    assert trained().joules is None


def test_the_peak_of_memory_is_what_a_block_needs_above_what_was_held():
    with devices.peak_memory(torch.device("cpu")) as memory:
        block = torch.ones(128 * 2**20 // 4)  # more than malloc ever takes from its heap
        time.sleep(3 * devices.SAMPLE_SECONDS)
        del block
    if memory.bytes is None:
        pytest.skip("this system does not tell")
    assert 120 * 2**20 < memory.bytes < 400 * 2**20


def test_memory_is_unknown_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.setattr(devices.Path, "exists", lambda path: False)
    with devices.peak_memory(torch.device("cpu")) as memory:
        pass
    assert memory.bytes is None
