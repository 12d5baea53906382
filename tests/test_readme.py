"""What the README promises in code blocks is run as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_python_example_runs(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ)
    )
    assert result.returncode == 0, result.stderr
    assert "Estimate(value=" in result.stdout
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


def test_the_space_example_is_a_space(tmp_path):
    from nasproxy.spaces import load_space

    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    path = tmp_path / "my_space.yaml"
    path.write_text(text)
    space = load_space(path)
    assert space.limits.max_params == 5_000_000
    # depth 1 and 2 without dropout, 3 and 4 with six values of it
    assert space.size() == 3 * 3 * (2 + 2 * 6)


def test_links_and_pictures_are_there():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)|<img [^>]*src=\"(?!https?:)([^\"]+)\"", README):
        name = target[0] or target[1]
        assert (ROOT / name).exists(), name


def test_commands_have_the_options_that_are_named():
    others = {"--help", "--nproc-per-node", "--array"}  # the last two are torchrun's and Slurm's
    named = set(re.findall(r"`?(--[a-z][a-z-]+)", README)) - others
    code = "import sys; from nasproxy.cli.app import main; main()"
    text = ""
    commands = "build-proxy evaluate compare search validate report export check list demo"
    for command in commands.split():
        text += subprocess.run([sys.executable, "-c", code, command, "--help"], capture_output=True, text=True).stdout
    missing = [option for option in named if option not in text]
    assert missing == []
