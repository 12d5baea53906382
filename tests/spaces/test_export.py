import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch

from nasproxy.networks import NETWORKS, seeded
from nasproxy.spaces import load_space, shipped_spaces
from nasproxy.spaces.export import candidate_source

NORMALISATION = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.25, 0.25, 0.25)}

# Runs a file where nasproxy does not exist.
ALONE = "import sys, runpy; sys.modules['nasproxy'] = None; runpy.run_path(sys.argv[1], run_name='__main__')"


def written(folder, space, candidate, shape=(3, 32, 32)):
    path = folder / "best.py"
    path.write_text(candidate_source(space, candidate, shape, 10, **NORMALISATION))
    return path


@pytest.mark.parametrize("name", sorted(shipped_spaces()))
def test_the_file_builds_the_same_network(name, tmp_path):
    space = load_space(name)
    for seed in range(3):
        candidate = space.sample(np.random.default_rng(seed))
        own = runpy.run_path(str(written(tmp_path, space, candidate)))
        net = seeded(own["build"], 0)
        other = seeded(lambda c=candidate: space.build(c.params, (3, 32, 32), 10), 0)
        assert not any("nasproxy" in type(module).__module__ for module in net.modules())
        net.load_state_dict(other.state_dict())
        images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        assert torch.equal(net.eval()(images), other.eval()(images))
        assert own["MEAN"] == NORMALISATION["mean"]


@pytest.mark.parametrize("family", sorted(NETWORKS))
def test_every_family_stands_alone_and_is_clean_python(family, tmp_path):
    (tmp_path / "s.yaml").write_text(
        f"name: s\nnetwork: {family}\nparameters:\n  width: 16\n"
        if family in WITH_WIDTH
        else f"name: s\nnetwork: {family}\nparameters:\n{OTHERS[family]}"
    )
    space = load_space(tmp_path / "s.yaml")
    path = written(tmp_path, space, space.candidate({}))
    done = subprocess.run([sys.executable, "-I", "-c", ALONE, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "(2, 10) logits of two images"
    ruff = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F", str(path)],
        capture_output=True,
        text=True,
    )
    assert ruff.returncode == 0, ruff.stdout


OTHERS = {
    "nasbench201": "  cells: 1\n",
    "nasbench_macro": "  layer_1: identity\n",
    "torchvision": "  model: resnet18\n",
}
WITH_WIDTH = set(NETWORKS) - OTHERS.keys()

USERS = """from __future__ import annotations

import torch


class Small(torch.nn.Module):
    def __init__(self, pixels, classes, hidden):
        super().__init__()
        self.first = torch.nn.Linear(pixels, hidden)
        self.last = torch.nn.Linear(hidden, classes)

    def forward(self, images):
        return self.last(torch.relu(self.first(images.flatten(1))))


def make(input_shape, num_classes, *, hidden=4):
    c, h, w = input_shape
    return Small(c * h * w, num_classes, hidden)
"""


def test_a_user_s_network_carries_its_file(tmp_path):
    (tmp_path / "mine.py").write_text(USERS)
    (tmp_path / "s.yaml").write_text("name: s\nnetwork: mine.py:make\nparameters:\n  hidden: [3, 5]\n")
    space = load_space(tmp_path / "s.yaml")
    path = written(tmp_path, space, space.candidate({"hidden": 5}), (3, 8, 8))
    (tmp_path / "mine.py").unlink()
    done = subprocess.run([sys.executable, "-I", "-c", ALONE, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"{3 * 8 * 8 * 5 + 5 + 5 * 10 + 10} parameters" in done.stdout
