"""The shape of the package: imports go downwards only, and the README's tree is the tree."""

import ast
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nasproxy

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nasproxy"

# From the bottom up; a package imports from floors below its own only.
FLOORS = [
    {"core"},
    {"config", "correlation", "networks"},
    {"data", "spaces", "report", "picking"},
    {"training"},
    {"condense"},
    {"scores"},
    {"search"},
    {"validation"},
    {"cli"},
]
DOORS = {"__init__", "__main__"}  # modules beside the packages
MATHEMATICS = {"condense/matching.py", "data/augment.py", "data/multi_formation.py", "correlation"}
MAX_MODULE_LINES, MAX_FUNCTION_LINES = 400, 80
OPTION_LISTS = {"cli"}  # a command's parameters are its options: these functions may be longer


def modules():
    """``(path, room)`` of every module; a room is a package of the top level."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_modules(path):
    """Names of ours that ``path`` imports, without ``nasproxy.``: of modules, and of what may be one."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports name the package in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name.removeprefix("nasproxy.") for name in names if name.startswith("nasproxy."))


def test_every_package_has_a_floor_and_there_are_at_most_ten():
    assert {room for _, room in modules()} - DOORS == set().union(*FLOORS)
    assert len(FLOORS) <= 10


def test_imports_go_downwards_only():
    level = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    level |= dict.fromkeys(DOORS, len(FLOORS))
    for path, room in modules():
        for name in imported_modules(path):
            imported = name.split(".")[0]
            assert imported == room or level[imported] < level[room], f"{path.relative_to(ROOT)} imports {name}"


def test_no_modules_import_each_other_in_a_circle():
    names = {}
    for path, _ in modules():
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(parts).removesuffix(".__init__")] = path
    graph = {
        name: {wanted if wanted in names else wanted.rpartition(".")[0] for wanted in imported_modules(path)} - {name}
        for name, path in names.items()
    }
    for name in graph:
        graph[name] &= graph.keys()
    while leaves := {name for name, wanted in graph.items() if not wanted}:
        graph = {name: wanted - leaves for name, wanted in graph.items() if name not in leaves}
    assert not graph, f"in a circle, or above one: {sorted(graph)}"


def test_mathematics_imports_nothing_of_ours_but_errors():
    for path, room in modules():
        name = str(path.relative_to(PACKAGE))
        if name in MATHEMATICS or room in MATHEMATICS:
            for imported in imported_modules(path):
                assert imported.startswith(("core.errors.", f"{room}.")), f"{name} imports {imported}"


def test_modules_and_functions_are_short():
    too_long = []
    for path, room in modules():
        text = path.read_text()
        if len(text.splitlines()) > MAX_MODULE_LINES:
            too_long.append(f"{path.relative_to(ROOT)} has {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and room not in OPTION_LISTS:
                length = node.end_lineno - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    too_long.append(f"{path.relative_to(ROOT)}: {node.name} has {length} lines")
    assert not too_long, "\n".join(too_long)


def test_the_readme_tree_names_every_package():
    text = (ROOT / "README.md").read_text()
    tree = re.search(r"```\nnasproxy/\n(.*?)```", text, re.DOTALL).group(1)
    named = set(re.findall(r"^  ([a-z_]+)/", tree, re.MULTILINE))
    assert named == set().union(*FLOORS)


@pytest.mark.parametrize("name", nasproxy.__all__)
def test_a_public_name_is_the_same_object_at_every_access(name):
    """A submodule of the same name must not replace a lazy name once it is imported."""
    first, second = getattr(nasproxy, name), getattr(nasproxy, name)
    assert first is second
    assert callable(first), f"{name} is {first!r}"
    assert first.__doc__


def test_public_names_are_loaded_lazily_and_all_named():
    assert set(nasproxy.__all__) == set(nasproxy._HOMES)


def test_help_is_fast():
    """`nasproxy --help` loads neither torch nor pandas; measured as the best of three."""
    code = "import sys; sys.argv = ['nasproxy', '--help']\nfrom nasproxy.cli.app import main\nmain()"
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, nasproxy.cli.app; print([m for m in ('torch', 'pandas', 'scipy') if m in sys.modules])",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    assert loaded.stdout.strip() == "[]"
    assert min(seconds) < 1.0  # 0.2 s here; the bound is loose because test machines are busy
