import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # helpers that several tests share

# The nets of the tests are tiny. A second thread gains a third on them, and makes them seven times slower when another
# process keeps one core busy (benchmarks/LOG.md).
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of the commands that tests start

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def global_generators_untouched():
    """No code of ours may draw from or reseed a global generator."""
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()
    yield
    assert torch.equal(torch_state, torch.random.get_rng_state()), "the global torch generator was used"
    after = np.random.get_state()
    assert (numpy_state[1] == after[1]).all(), "the global numpy generator was used"
    assert numpy_state[2] == after[2], "the global numpy generator was used"


@pytest.fixture
def cifar10_folder():
    """CIFAR-10 as Parquet files, where this machine has it."""
    folder = SHARED_DATA / "cifar10"
    if not folder.is_dir():
        pytest.skip("CIFAR-10 is not in ../shared/data")
    return folder


@pytest.fixture
def cpu():
    from nasproxy.core.devices import choose_device

    return choose_device("cpu")
