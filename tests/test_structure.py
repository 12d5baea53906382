"""The shape of the package: imports go downwards only, and the README's tree is the tree."""

import ast
import re
import subprocess
import sys
import time
from pathlib import Path

import nasproxy

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nasproxy"

# From the bottom up; a module may import from rows above its own, and packages are one room.
LAYERS = [
    {"atomic", "errors", "pooling", "peers"},
    {"config", "randomness", "matching", "augment", "correlation", "progress", "chunks", "formation"},
    {"networks", "devices", "datasets", "figures", "plots"},
    {"train", "proxyset", "spaces"},
    {"condense", "zero_cost", "runs", "report", "wording", "pruning", "truth"},
    {"verdict"},
    {"evaluations", "charts"},
    {"page"},
    {"compare", "baselines"},
    {"scores", "ledger", "proposals", "workers"},
    {"coordinator", "objective"},
    {"climb", "watching"},
    {"study"},
    {"search"},
    {"summary", "budget", "evaluate", "export"},
    {"validate", "sets"},
    {"commands"},
    {"cli", "__init__"},
    {"__main__"},
]
MATHEMATICS = {"matching", "augment", "correlation", "formation"}


def rooms():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield path, parts[0]


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports name the package in full"
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name == "nasproxy":
                yield from (alias.name for alias in node.names)
            elif name.startswith("nasproxy."):
                yield name.split(".")[1]


def test_every_room_has_a_layer():
    assert {room for _, room in rooms()} == set().union(*LAYERS)


def test_imports_go_downwards_only():
    level = {room: number for number, layer in enumerate(LAYERS) for room in layer}
    for path, room in rooms():
        for imported in imports_of(path):
            assert imported == room or level[imported] < level[room], f"{path.relative_to(ROOT)} imports {imported}"


def test_mathematics_imports_nothing_of_ours_but_errors():
    for path, room in rooms():
        if room in MATHEMATICS:
            assert set(imports_of(path)) <= {"errors", room}, path.name


def test_the_readme_tree_names_every_room():
    text = (ROOT / "README.md").read_text()
    tree = re.search(r"```\nnasproxy/\n(.*?)```", text, re.DOTALL).group(1)
    named = set(re.findall(r"([a-z_]+)(?:\.py|/)", tree))
    for _, room in rooms():
        assert room in ("__init__", "__main__") or room in named, f"README's tree lacks {room}"
    for name in re.findall(r"^ *([a-z_]+\.py)", tree, re.MULTILINE):
        assert (PACKAGE / name).exists() or name.removesuffix(".py") in {r for _, r in rooms()}, f"no {name}"


def test_public_names_resolve():
    assert set(nasproxy.__all__) == set(nasproxy._HOMES)
    for name in nasproxy.__all__:
        assert getattr(nasproxy, name).__doc__


def test_help_is_fast():
    """`nasproxy --help` loads neither torch nor pandas; measured as the best of three."""
    code = "import sys; sys.argv = ['nasproxy', '--help']\nfrom nasproxy.cli import main\nmain()"
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, nasproxy.cli; print([m for m in ('torch', 'pandas', 'scipy') if m in sys.modules])",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    assert loaded.stdout.strip() == "[]"
    assert min(seconds) < 1.0  # 0.2 s here; the bound is loose because test machines are busy
