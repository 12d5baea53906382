"""One candidate as a Python file that needs PyTorch and not nasproxy.

The file holds the definitions that the family's function needs, copied from the source of this package. For a user's
own network it holds the user's files, as they are.
"""

from __future__ import annotations

import ast
import inspect
import sys
from importlib import import_module
from importlib.util import decode_source
from pathlib import Path
from types import ModuleType

from nasproxy.spaces import Candidate, SearchSpace
from nasproxy.spaces.user_network import takes_by_name, user_sources

PACKAGE = "nasproxy"

HEAD = """\"\"\"{title}

{label}

Written by nasproxy export; its network families are Apache-2.0. Needs {needs}.
\"\"\"

from __future__ import annotations

"""

TAIL = """
INPUT_SHAPE = {input_shape!r}  # channels, height, width
NUM_CLASSES = {num_classes}
MEAN, STD = {mean!r}, {std!r}  # of each channel, for pixels in [0, 1]
OPTIONS = {options!r}


def build() -> nn.Module:
    \"\"\"The untrained network: normalised images (n, c, h, w) in, logits (n, NUM_CLASSES) out.\"\"\"
    return {network}({data}, **OPTIONS)


if __name__ == "__main__":
    net = build()
    print(net)
    print(sum(parameter.numel() for parameter in net.parameters()), "parameters")
    print(tuple(net(torch.zeros(2, *INPUT_SHAPE)).shape), "logits of two images")
"""

# The user's files keep names of their own, whatever they are: each runs as a module.
OWN_FILES = """import sys
from collections.abc import Callable
from types import ModuleType

import torch
from torch import nn

# The files of the network, as they were when it was exported; each comes after those that it imports.
FILES = {{
{files}
}}


def load(function: str) -> Callable[..., nn.Module]:
    \"\"\"The function that builds the network, from the last of FILES.\"\"\"
    for name, source in FILES.items():
        module = ModuleType(name.removesuffix(".__init__"))
        package = name.rpartition(".")[0]
        module.__package__ = package
        if name.endswith(".__init__"):
            module.__path__ = []
        while package and package not in sys.modules:  # a folder without __init__.py
            sys.modules[package] = ModuleType(package)
            sys.modules[package].__path__ = []
            package = package.rpartition(".")[0]
        sys.modules[module.__name__] = module
        code = compile(source, f"<{{name}}.py of {{__file__}}>", "exec", dont_inherit=True)
        exec(code, module.__dict__)
        if "." in module.__name__:
            parent, _, own = module.__name__.rpartition(".")
            setattr(sys.modules[parent], own, module)
    return getattr(module, function)
"""


class _Collector:
    """Collects what a function needs: ``definitions``, each after those it needs, and ``imports`` by module."""

    def __init__(self) -> None:
        self.imports: dict[str, set[str]] = {"torch": {""}, "torch.nn": set()}
        self.definitions: list[str] = []
        self._homes: dict[str, str] = {}  # name → the module that defines it

    def add(self, module: ModuleType, name: str) -> None:
        """Collects ``name`` of ``module`` and everything that its definition needs."""
        node = _bindings(module).get(name)
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == PACKAGE:
            self.add(import_module(str(node.module)), name)
        elif isinstance(node, ast.ImportFrom):
            self.imports.setdefault(str(node.module), set()).add(name)
        elif isinstance(node, ast.Import):
            self.imports.setdefault(name, set()).add("")
        elif node is not None and name not in self._homes:  # None: a builtin, an argument
            self._homes[name] = module.__name__
            for used in ast.walk(node):
                if isinstance(used, ast.Name):
                    self.add(module, used.id)
            self.definitions.append(_source(module, node))
        elif node is not None and self._homes[name] != module.__name__:
            raise AssertionError(f"{name} is defined in {self._homes[name]} and in {module.__name__}: rename one")

    def text(self) -> str:
        """The imports and definitions, as Python."""
        lines = [f"import {module}" for module, names in self.imports.items() if "" in names]
        found = {module: sorted(names - {""}) for module, names in self.imports.items()}
        found["torch"] = sorted({*found["torch"], "nn"})
        lines += [f"from {module} import {', '.join(names)}" for module, names in sorted(found.items()) if names]
        return "\n".join(lines) + "".join(f"\n\n\n{text}" for text in self.definitions) + "\n"


def _bindings(module: ModuleType) -> dict[str, ast.stmt]:
    """The statement that binds each name at the top level of ``module``; imports for type checkers are included."""
    found: dict[str, ast.stmt] = {}
    statements = list(ast.parse(inspect.getsource(module)).body)
    for node in statements:
        if isinstance(node, ast.If):
            statements.extend(node.body)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name.split(".")[0]] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    found[target.id] = node
    return found


def _source(module: ModuleType, node: ast.stmt) -> str:
    """The lines of ``node``, with its decorators and the comment directly above it."""
    lines = inspect.getsource(module).splitlines()
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) - 1
    while first > 0 and lines[first - 1].startswith("#"):
        first -= 1
    return "\n".join(lines[first : node.end_lineno])


def candidate_source(
    space: SearchSpace,
    candidate: Candidate,
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> str:
    """The Python file of ``candidate``; its function ``build()`` returns the untrained network.

    Args:
        space: the space of the candidate.
        input_shape: ``(c, h, w)`` of the images.
        mean, std: of each channel, for pixels in [0, 1], by which images are normalised.

    Returns:
        The text of the file.
    """
    data = "INPUT_SHAPE, NUM_CLASSES"
    if space.network_file is None:
        collector = _Collector()
        network = space.family.__name__
        collector.add(sys.modules[space.family.__module__], network)
        body = collector.text()
        needs = "torch" + (" and torchvision" if "torchvision" in collector.imports else "")
    else:
        function = space.network.rpartition(":")[2]
        body, network = _own_files(space.network_file, candidate.id), f"load({function!r})"
        needs = f"torch and what {space.network_file.name} imports"
        if takes_by_name(inspect.unwrap(space.family)):
            data = "input_shape=INPUT_SHAPE, num_classes=NUM_CLASSES"
    tail = TAIL.format(
        input_shape=input_shape,
        num_classes=num_classes,
        mean=tuple(round(float(value), 6) for value in mean),
        std=tuple(round(float(value), 6) for value in std),
        options=space.constants | candidate.params,
        network=network,
        data=data,
    )
    title = f"Candidate {candidate.id} of the search space {space.name}."
    head = HEAD.format(title=_in_docstring(title), label=_in_docstring(candidate.label), needs=_in_docstring(needs))
    return f"{head}{body}\n{tail}"


def _in_docstring(text: str) -> str:
    """``text`` in one line that cannot end a docstring."""
    return " ".join(text.replace("\\", "\\\\").replace('"', '\\"').split())


def _own_files(file: Path, identity: str) -> str:
    """The files of a user's network as text in a Python file, and the function that runs them."""
    sources = {name: decode_source(source) for name, source in user_sources(file).items()}
    # The main file gets a name that no other module has; the others have those by which they are imported.
    sources[f"candidate_{identity}"] = sources.pop(file.stem)
    return OWN_FILES.format(files="\n".join(f"    {name!r}: {_literal(text)}," for name, text in sources.items()))


def _literal(text: str) -> str:
    """A literal of ``text``, in its own lines where Python can read it so."""
    plain = f"r'''{text}'''"
    try:
        if ast.literal_eval(plain) == text:
            return plain
    except (SyntaxError, ValueError):
        pass
    return repr(text)
