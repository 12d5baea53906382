"""A network of the user's own: a function in a Python file that a space names, and the files beside it.

``my_nets.py`` may import ``blocks.py`` or the package ``layers/`` of the same folder, also inside its functions. All of
them are part of the network: their contents are in the identity of its candidates, and an exported candidate carries
them. A module that is imported by a computed name is not seen.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.abc
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from nasproxy.config import config_hash
from nasproxy.core.errors import NasproxyError, nearest

if TYPE_CHECKING:
    from torch import nn

_FOLDERS: set[Path] = set()  # of networks that import files beside them
DATA = ("input_shape", "num_classes")  # what every network is given


def user_sources(file: Path) -> dict[str, bytes]:
    """The source of every module that importing ``file`` and calling its functions imports from its folder.

    Returns:
        By name, ``file``'s own module last, after those that it imports. A package has the name ``name.__init__``.

    Raises:
        NasproxyError: for a file that is no Python.
    """
    found: dict[str, bytes] = {}
    begun: set[Path] = set()

    def visit(path: Path, name: str) -> None:
        if path in begun:
            return
        begun.add(path)
        source = path.read_bytes()
        try:
            tree = ast.parse(source, str(path))
        except (SyntaxError, ValueError) as error:
            raise NasproxyError(f"importing '{path}' failed: {describe_error(error)}") from error
        for imported in _imported(tree, name):
            if (own := _file_of(imported, file.parent)) is not None:
                visit(own, imported if own.stem != "__init__" else f"{imported}.__init__")
        found[name] = source

    visit(file, file.stem)
    return found


def _imported(tree: ast.Module, name: str) -> Iterator[str]:
    """The modules that the module ``name`` may import: every ``a``, ``a.b`` and ``a.b.c`` of ``a.b.c``."""
    package = name.split(".")[:-1]
    for node in ast.walk(tree):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            targets = [f"{module}.{alias.name}" if module else alias.name for alias in node.names]
        for target in targets:
            parts = target.split(".")
            yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _file_of(module: str, folder: Path) -> Path | None:
    """The file of ``module`` under ``folder``; None for one of another place."""
    first = module.split(".")[0]
    if first in sys.stdlib_module_names or _is_elsewhere(sys.modules.get(first), folder):
        return None
    place = folder.joinpath(*module.split("."))
    return next((path for path in (place / "__init__.py", place.with_suffix(".py")) if path.is_file()), None)


def _is_elsewhere(module: ModuleType | None, folder: Path) -> bool:
    """Whether ``module`` was imported from neither ``folder`` nor another folder of a network, such as torch."""
    if module is None:
        return False
    places = [getattr(module, "__file__", None) or "", *getattr(module, "__path__", ())]
    return not any({folder, *_FOLDERS} & set(Path(place).resolve().parents) for place in places if place)


def user_digest(file: Path) -> str:
    """The SHA-256 of ``file``, or of it and of the files that it imports from its folder."""
    return _digest(file, user_sources(file))


def _digest(file: Path, sources: Mapping[str, bytes]) -> str:
    digests = {name: hashlib.sha256(source).hexdigest() for name, source in sources.items()}
    own = digests.pop(file.stem)
    return config_hash(own, sorted(digests.items())) if digests else own


@lru_cache
def user_function(file: Path, function: str, sha256: str) -> Callable[..., nn.Module]:
    """The ``function`` that the Python ``file`` defines, called as ``function(input_shape, num_classes, **options)``.

    Raises:
        NasproxyError: when the files no longer have the digest ``sha256``, cannot be imported, or lack the function.
    """
    sources = user_sources(file)
    if _digest(file, sources) != sha256:
        raise NasproxyError(f"'{file}' has changed since the space was read: start again, for its networks differ.")
    # In sys.modules, where dataclasses and pickle look for a class's module; executed from the bytes that were hashed.
    module = ModuleType(f"nasproxy_user_{config_hash(str(file), sha256)[:16]}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module
    own = sources.pop(file.stem)
    files = _Files(file.parent, sources) if sources else None
    if files is not None:
        files.prefer()
    try:
        exec(compile(own, str(file), "exec", dont_inherit=True), module.__dict__)
        found = getattr(module, function, None)
        if callable(found):
            return by_position(found if files is None else files.while_called(found))
    except (Exception, SystemExit) as error:
        sys.modules.pop(module.__name__)
        raise NasproxyError(f"importing '{file}' failed: {describe_error(error)}") from error
    sys.modules.pop(module.__name__)
    defined = [name for name, value in vars(module).items() if inspect.isfunction(value)]
    raise NasproxyError(f"'{file}' has no function '{function}'.{nearest(function, defined)}")


class _Bytes(importlib.abc.SourceLoader):
    """Loads a module from the bytes that were hashed, and never from a compiled file of before."""

    def __init__(self, path: Path, source: bytes) -> None:
        self._path, self._source = path, source

    def get_filename(self, fullname: str) -> str:
        return str(self._path)

    def get_data(self, path: str | bytes) -> bytes:
        return self._source


class _Files(importlib.abc.MetaPathFinder):
    """Finds the modules of a folder that a network imports."""

    def __init__(self, folder: Path, sources: Mapping[str, bytes]) -> None:
        self.folder = folder
        self._loaders = {
            name.removesuffix(".__init__"): (path, _Bytes(path, source))
            for name, source in sources.items()
            for path in [folder.joinpath(*name.split(".")).with_suffix(".py")]
        }

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if fullname not in self._loaders:
            return None
        own, loader = self._loaders[fullname]
        inside = [str(own.parent)] if own.stem == "__init__" else None
        return spec_from_file_location(fullname, own, loader=loader, submodule_search_locations=inside)

    def prefer(self) -> None:
        """These files are imported from now on; others of their folder are found as for a script that lies there."""
        if sys.meta_path[0] is self:
            return
        _FOLDERS.add(self.folder)
        for name in self._loaders:
            sys.modules.pop(name, None)  # of another folder, or as it was before an edit
        sys.meta_path[:] = [self, *(one for one in sys.meta_path if not isinstance(one, _Files))]
        sys.path[:] = [str(self.folder), *(path for path in sys.path if Path(path) not in _FOLDERS)]
        importlib.invalidate_caches()

    def while_called(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, whose own imports find these files, too."""

        @functools.wraps(function)
        def called(*arguments: Any, **options: Any) -> Any:
            self.prefer()
            return function(*arguments, **options)

        return called


def takes_by_name(function: Callable[..., Any]) -> bool:
    """Whether ``function`` takes the shape of the images and the number of classes by their names alone."""
    try:
        known = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    return all(name in known and known[name].kind is inspect.Parameter.KEYWORD_ONLY for name in DATA)


def by_position(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, or one that passes on by name what ``function`` takes by name alone."""
    if not takes_by_name(function):
        return function

    @functools.wraps(function)
    def positional(input_shape: Any, num_classes: Any, **options: Any) -> Any:
        return function(input_shape=input_shape, num_classes=num_classes, **options)

    first = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in DATA]
    signature = inspect.signature(function)
    others = [one for name, one in signature.parameters.items() if name not in DATA]
    positional.__signature__ = signature.replace(parameters=[*first, *others])  # type: ignore[attr-defined]
    return positional


def describe_error(error: BaseException) -> str:
    """``TypeError: first line``; of a :class:`NasproxyError` the first line alone."""
    line = (str(error).strip().splitlines() or ["no message"])[0]
    return line if isinstance(error, NasproxyError) else f"{type(error).__name__}: {line}"
