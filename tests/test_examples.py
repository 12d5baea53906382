"""Examples in docstrings run and print what they say."""

import ast
import doctest
from importlib import import_module
from pathlib import Path

import pytest

import nasproxy

PACKAGE = Path(nasproxy.__file__).parent
MODULES = [
    "nasproxy." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name):
    failed, attempted = doctest.testmod(import_module(name))
    assert attempted > 0
    assert failed == 0


def test_public_functions_say_what_they_take_give_and_raise():
    """Of every public name: Args where it has arguments, Returns or a result that the first line names."""
    for name in nasproxy.__all__:
        public = getattr(nasproxy, name)
        assert public.__doc__, name
        if not isinstance(public, type) and public.__code__.co_argcount > 1:
            assert "Args:" in public.__doc__, name


def test_every_public_module_says_what_it_is():
    for path in PACKAGE.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path
