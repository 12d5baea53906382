"""What the documentation promises: examples run, links exist, options and modules are real, the site builds."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nasproxy.spaces import inspect_space, load_space

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


def run(code, folder):
    """Runs ``code`` in a process of its own, with warnings as errors."""
    path = folder / "example.py"
    path.write_text(code)
    command = [sys.executable, "-W", "error", path]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_the_examples_of_extending_run_from_top_to_bottom(tmp_path):
    """A network, a data set, a score, a space, a method and a tracker, and a search with all of them."""
    examples = blocks("extending.md", "python")
    assert len(examples) == 7
    result = run("\n".join(examples), tmp_path)
    assert result.returncode == 0, result.stderr


def test_the_space_and_the_network_of_the_page_on_spaces_work(tmp_path):
    (text,) = blocks("spaces.md", "yaml")
    path = tmp_path / "my_space.yaml"
    path.write_text(text)
    space = load_space(path)
    assert space.limits.max_params == 5_000_000
    # depth 1 and 2 without dropout, 3 and 4 with six values of it
    assert space.size() == 3 * 3 * (2 + 2 * 6)
    (code,) = blocks("spaces.md", "python")
    (tmp_path / "my_nets.py").write_text(code)
    path.write_text("name: own\nnetwork: my_nets.py:build\nparameters:\n  width: [4, 8]\n  depth: [1, 2]\n")
    assert inspect_space(load_space(path), (3, 8, 8), 10).num_valid == 4


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (page.parent / target).exists(), target


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    assert [page.name for page in PAGES if page.name not in navigation] == []


def test_a_newcomer_finds_what_to_change():
    """Each row of the table in CONTRIBUTING names a file, and something that is defined in it."""
    rows = re.findall(r"^\| [^|]+ \| `([^`]+\.py)` \| `(\w+)` \|$", CONTRIBUTING, re.MULTILINE)
    assert len(rows) >= 12
    for file, name in rows:
        tree = ast.parse((ROOT / file).read_text())
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        for node in tree.body:
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                defined |= {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
        assert name in defined, f"{file} does not define {name}"


def test_the_page_of_the_command_line_is_current():
    command = [sys.executable, ROOT / "docs" / "command_line.py", "--check"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr


def test_files_that_are_named_exist():
    """In the documentation, paths below the root of the repository are real."""
    paths = re.compile(r"\b((?:nasproxy|benchmarks|tests|search_spaces)/[\w/]+\.(?:py|md|json|yaml))")
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "README.md"]:
        for name in paths.findall(page.read_text()):
            assert (ROOT / name).exists(), f"{page.name} names {name}"


@pytest.mark.integration
def test_the_site_builds_and_asks_no_network(tmp_path):
    if shutil.which("mkdocs") is None:
        pytest.skip("mkdocs is not installed: pip install 'nasproxy[docs]'")
    command = ["mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    loaded = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=[\"']?(https?://[^\"'> ]+)")
    for page in (tmp_path / "site").rglob("*.html"):
        found = [url for url in loaded.findall(page.read_text()) if 'rel="canonical"' not in url]
        assert found == [], f"{page.name} loads {found}"
