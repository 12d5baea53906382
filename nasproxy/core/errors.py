"""The exception for mistakes that the user can correct, and what helps to write its messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NasproxyError(ValueError):
    """Input that the user can correct. The message states the invariant, the offending value and the next step.

    The command line prints the message alone and exits with code 2; ``--debug`` shows the traceback.
    """


def nearest(word: str, choices: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the choice most similar to ``word``; an empty text when none is similar."""
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def unknown(kind: str, word: str, choices: Iterable[str]) -> NasproxyError:
    """The error for a ``word`` that is none of ``choices``. It names the most similar choice, and all of them."""
    names = sorted(choices)
    return NasproxyError(f"Unknown {kind} '{word}'.{nearest(word, names)} Known: {', '.join(names)}.")
