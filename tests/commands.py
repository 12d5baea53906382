"""Commands as a person gives them, each in a process of its own, without importing torch anew for each.

A server process imports once what every command imports, and runs none itself; it forks for each command. What starts
a command from nothing, the interpreter with its imports, is in the tests that call it by ``subprocess``.
"""

import multiprocessing
import os
import sys
import tempfile
from pathlib import Path

_PRELOADED = [
    "nasproxy.cli.commands",
    "alembic.command",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "optuna.storages",
    "scipy.stats",
    "sklearn.cluster",
    "sklearn.datasets",
    "torch._dynamo",
]


def _run(arguments, folder, env, output, errors):
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    for stream, path in ((1, output), (2, errors)):
        file = os.open(path, os.O_WRONLY)
        os.dup2(file, stream)
        os.close(file)
    sys.stdin = open(os.devnull)  # noqa: PTH123, SIM115  # as long as the process
    sys.argv = ["nasproxy", *arguments]
    from nasproxy.cli.app import main

    main()


def nasproxy(folder, *arguments, code=0, env=None):
    """Runs a command in ``folder``; returns what it printed and said. A traceback is never an answer.

    By one worker, for every further one imports torch first: two double the time of a command.
    """
    started = multiprocessing.get_context("forkserver")
    started.set_forkserver_preload(_PRELOADED)
    env = os.environ | {"NASPROXY_CACHE_DIR": str(folder / "cache"), "NASPROXY_WORKERS": "1"} | (env or {})
    with tempfile.TemporaryDirectory() as own:
        output, errors = Path(own, "output"), Path(own, "errors")
        for file in (output, errors):
            file.touch()
        process = started.Process(target=_run, args=([str(word) for word in arguments], folder, env, output, errors))
        process.start()
        process.join()
        text = output.read_text() + errors.read_text()
    assert "Traceback" not in text, text
    assert process.exitcode == code, text
    return text
