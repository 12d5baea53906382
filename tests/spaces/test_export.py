import json
import runpy
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from toy import slow_but

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


@pytest.mark.parametrize("family", slow_but(NETWORKS, "convnet"))
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


def exported(folder, files, network, *, parameters="  hidden: [3, 5]\n", name="s"):
    """What an exported candidate prints in a fresh interpreter, without the files that it was made of."""
    own = folder / "own"
    for place, text in files.items():
        (own / place).parent.mkdir(parents=True, exist_ok=True)
        (own / place).write_text(text)
    (own / "s.yaml").write_text(f"name: {json.dumps(name)}\nnetwork: {network}\nparameters:\n{parameters}")
    space = load_space(own / "s.yaml")
    path = written(folder, space, space.candidate({"hidden": 5}), (3, 8, 8))
    shutil.rmtree(own)
    done = subprocess.run([sys.executable, "-I", "-c", ALONE, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


HOSTILE = '''"""A file whose names are those of the exported one. \'\'\' and \\\\ are in it."""
from __future__ import annotations

import dataclasses
import torch

INPUT_SHAPE, NUM_CLASSES, MEAN, STD, OPTIONS, FILES = (1, 1, 1), "no", 1, 2, {"hidden": 99}, None


@dataclasses.dataclass
class Settings:
    hidden: int = 3


def load(hidden):
    return Settings(hidden)


def build(input_shape, num_classes, *, hidden):
    assert (INPUT_SHAPE, NUM_CLASSES) == ((1, 1, 1), "no")
    c, h, w = input_shape
    first = torch.nn.Linear(c * h * w, load(hidden).hidden)
    return torch.nn.Sequential(torch.nn.Flatten(), first, head(hidden, num_classes))


def head(hidden, num_classes):
    return torch.nn.Linear(hidden, num_classes)


if __name__ == "__main__":
    raise SystemExit("this is not for an import")
'''
SIZE = f"{3 * 8 * 8 * 5 + 5 + 5 * 10 + 10} parameters"


def test_names_of_the_user_are_not_those_of_the_exported_file(tmp_path):
    assert SIZE in exported(tmp_path, {"my_nets.py": HOSTILE}, "my_nets.py:build")


@pytest.mark.slow
@pytest.mark.parametrize("name", ['a """ b', "back\\slash {braces}", "two\nlines"])
def test_a_name_cannot_end_the_docstring(name, tmp_path):
    assert SIZE in exported(tmp_path, {"my_nets.py": HOSTILE}, "my_nets.py:build", name=name)


BESIDE = {
    "nets.py": "from blocks import first\n\ndef make(*, input_shape, num_classes, hidden):\n"
    "    import torch\n    from layers.heads import head\n"
    "    return torch.nn.Sequential(torch.nn.Flatten(), first(input_shape, hidden), head(hidden, num_classes))\n",
    "blocks.py": "import torch\nimport nets_common as common\n\ndef first(shape, hidden):\n"
    "    return torch.nn.Linear(common.pixels(shape), hidden)\n",
    "nets_common.py": "def pixels(shape: int):\n    assert pixels.__annotations__['shape'] is int\n"
    "    return shape[0] * shape[1] * shape[2]\n",
    "layers/__init__.py": "",
    "layers/heads.py": "from torch import nn\nfrom .sizes import BIAS\n\n"
    "def head(hidden, classes):\n    return nn.Linear(hidden, classes, bias=BIAS)\n",
    "layers/sizes.py": "BIAS = True\n",
}


def test_files_beside_the_network_are_carried_along(tmp_path):
    """Modules and a package, imported at the top, in a function and relatively; data is taken by name alone."""
    assert SIZE in exported(tmp_path, BESIDE, "nets.py:make")
