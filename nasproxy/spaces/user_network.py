"""A network of the user's own: a function in a Python file that a space names."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from nasproxy.config import config_hash
from nasproxy.core.errors import NasproxyError, nearest

if TYPE_CHECKING:
    from torch import nn


@lru_cache
def user_function(file: Path, function: str, sha256: str) -> Callable[..., nn.Module]:
    """The ``function`` that the Python ``file`` defines.

    Raises:
        NasproxyError: when the file no longer has the digest ``sha256``, cannot be imported, or lacks the function.
    """
    source = file.read_bytes()
    if hashlib.sha256(source).hexdigest() != sha256:
        raise NasproxyError(f"'{file}' has changed since the space was read: start again, for its networks differ.")
    # In sys.modules, where dataclasses and pickle look for a class's module; executed from the bytes that were hashed.
    module = ModuleType(f"nasproxy_user_{config_hash(str(file), sha256)[:16]}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, str(file), "exec"), module.__dict__)
        found = getattr(module, function, None)
        if callable(found):
            return found
    except (Exception, SystemExit) as error:
        sys.modules.pop(module.__name__)
        raise NasproxyError(f"importing '{file}' failed: {describe_error(error)}") from error
    sys.modules.pop(module.__name__)
    defined = [name for name, value in vars(module).items() if inspect.isfunction(value)]
    raise NasproxyError(f"'{file}' has no function '{function}'.{nearest(function, defined)}")


def describe_error(error: BaseException) -> str:
    """``TypeError: first line``; of a :class:`NasproxyError` the first line alone."""
    line = (str(error).strip().splitlines() or ["no message"])[0]
    return line if isinstance(error, NasproxyError) else f"{type(error).__name__}: {line}"
