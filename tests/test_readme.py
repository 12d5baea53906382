"""What the README promises: its example runs, its links exist, its options are real, it fits on few screens."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = ["build-proxy", "evaluate", "compare", "search", "validate", "report", "export", "check", "list", "demo"]


@pytest.mark.slow
def test_the_python_example_runs_twice_in_one_process(tmp_path):
    """The second time nothing is trained, and every public name must be what it was the first time."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code.splitlines()) <= 20
    (tmp_path / "example.py").write_text(code)
    twice = "from pathlib import Path\ncode = Path('example.py').read_text()\nfor _ in range(2):\n    exec(code, {})\n"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", twice],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr
    first, second = re.findall(r"Estimate\(value=.*", result.stdout)
    assert first == second
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_links_and_pictures_are_there():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)|<img [^>]*src=\"(?!https?:)([^\"]+)\"", README):
        name = target[0] or target[1]
        assert (ROOT / name).exists(), name


def test_options_that_are_named_exist():
    """In the README and in the documentation."""
    others = {"--help", "--nproc-per-node", "--array", "--strict"}  # of torchrun, Slurm and mkdocs
    named = {option for page in PAGES for option in re.findall(r"`?(--[a-z][a-z-]+)", page.read_text())} - others
    code = (
        "import sys, io, contextlib\n"
        "from nasproxy.cli import main\n"
        f"for command in {COMMANDS}:\n"
        "    sys.argv = ['nasproxy', command, '--help']\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main()\n"
    )
    environment = os.environ | {"COLUMNS": "200", "PYTHONPATH": str(ROOT)}
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment).stdout
    known = set(re.findall(r"--[a-z][a-z-]+", text))
    assert sorted(named - known) == []


def test_commands_that_are_named_exist():
    for command in re.findall(r"^\| `nasproxy ([a-z-]+)` \|", README, re.MULTILINE):
        assert command in (*COMMANDS, "schema"), command
