"""Two processes over gloo, as torchrun starts them, must give what one gives."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toy import made_by, toy_dataset

from nasproxy.condense.contract import BuildRun
from nasproxy.config import CondenseConfig
from nasproxy.core import distributed
from nasproxy.data.proxy_set import load_proxy

SETTINGS = {"ipc": 2, "outer_steps": 2, "inner_steps": 3, "net_steps": 2, "width": 4, "depth": 2, "batch_real": 16}

WORKER = """
import sys
import torch
from toy import made_by, toy_dataset
from nasproxy.core import distributed
from nasproxy.condense.contract import BuildRun
from nasproxy.condense.methods.gradient_matching import gradient_matching
from nasproxy.config import CondenseConfig

torch.set_num_threads(1)
cpu, settings = torch.device("cpu"), eval(sys.argv[1])
with distributed.joined(cpu):
    images, _ = made_by(toy_dataset(num_classes=3), CondenseConfig(**settings), BuildRun(cpu))
    torch.save(images, f"{sys.argv[2]}/{distributed.own_rank()}.pt")
    assert distributed.from_first(distributed.own_rank()) == 0
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_two(*arguments):
    """What two processes with these arguments print, joined as torchrun would; none may wait for ever."""
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    shared |= {"PYTHONPATH": str(Path(__file__).parents[1])}
    workers = [
        subprocess.Popen(
            [sys.executable, *arguments],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [worker.communicate(timeout=120)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert [worker.returncode for worker in workers] == [0, 0]
    return outputs


@pytest.mark.integration
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_two_processes_give_the_images_of_one(tmp_path, norm):
    settings = SETTINGS | {"norm": norm}
    run_two("-c", WORKER, repr(settings), str(tmp_path))
    alone, _ = made_by(toy_dataset(), CondenseConfig(**settings), BuildRun(torch.device("cpu")))
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, alone, rtol=1e-4, atol=1e-5)


PLANNER = """
import sys
import torch
from toy import made_by, toy_dataset
from nasproxy.core import distributed
from nasproxy.condense.build_plan import plan_build
from nasproxy.condense import timing

cpu = torch.device("cpu")
with distributed.joined(cpu):
    # Process 0 times three numbers of threads, process 1 two.
    timing.FEWER_THREADS = (1e9, 0.0)[distributed.own_rank()]
    torch.set_num_threads(4)
    plan = distributed.from_first(plan_build(toy_dataset(), {"width": 4, "ipc": 1}, budget=None, device=cpu))
    print(plan.config)
"""


@pytest.mark.integration
def test_plans_that_differ_do_not_wait_for_each_other():
    first, second = run_two("-c", PLANNER)
    assert first == second != ""


def test_one_process_is_its_own_peer():
    with distributed.joined(torch.device("cpu")):
        assert (distributed.num_peers(), distributed.own_rank(), distributed.local_number()) == (1, 0, None)
        tensor = torch.ones(3)
        assert distributed.add_up(tensor) is tensor
        assert tensor.tolist() == [1, 1, 1]
        assert distributed.from_first("plan") == "plan"


@pytest.mark.integration
def test_the_command_under_torchrun(tmp_path):
    arguments = [
        "build-proxy",
        "--ipc",
        "1",
        "--outer-steps",
        "3",
        "--width",
        "8",
        "--batch-real",
        "16",
        "--budget",
        "quick",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NASPROXY_CACHE_DIR": str(tmp_path / "cache")}
    proxies = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}.safetensors"
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
        command += [
            "--master-port",
            str(free_port()),
            "-m",
            "nasproxy",
            *arguments,
            "--threads",
            "1",
            "--out",
            str(out),
        ]
        result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240)
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("picture ") == 1, "one process speaks"
        assert ("2 processes" in result.stdout) == (processes == 2)
        proxies.append(load_proxy(out))
    torch.testing.assert_close(proxies[0].images, proxies[1].images, rtol=1e-4, atol=1e-4)
