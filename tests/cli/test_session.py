"""A command reads each of its inputs once."""

import sys
from collections import Counter
from pathlib import Path

import pytest
from toy import toy_proxy

from nasproxy import NasproxyError
from nasproxy.cli import commands
from nasproxy.condense.build import build_proxy
from nasproxy.config import CondenseConfig
from nasproxy.data import load_dataset
from nasproxy.data.proxy_set import save_proxy

SPACE = "name: tiny\nnetwork: convnet\nparameters:\n  width: [4, 8]\n  depth: [1]\n"


@pytest.fixture
def options(tmp_path, cpu, monkeypatch):
    """A search of two candidates on digits, without validation, beside another proxy set."""
    monkeypatch.setenv("NASPROXY_CACHE_DIR", str(tmp_path / "cache"))
    digits = load_dataset("digits")
    files = []
    for seed in (0, 1):
        proxy = build_proxy(
            digits, CondenseConfig(method="random", ipc=1, seed=seed), choice=cpu, source={"spec": "digits"}
        )
        files.append(save_proxy(proxy, tmp_path / f"{seed}.safetensors"))
    space = tmp_path / "tiny.yaml"
    space.write_text(SPACE)
    return commands.SearchOptions(
        str(space),
        search={"trials": 2, "epochs": 2},
        validate={},
        data=commands.DataOptions(offline=True, device="cpu"),
        proxy=files[0],
        proxy_folder=tmp_path,
        run_folder=tmp_path,
        budget="quick",
        validation=False,
        beside=(files[1],),
        out=tmp_path / "run",
        workers=1,
    )


def test_search_reads_the_space_and_each_proxy_file_once(options, monkeypatch):
    read = Counter()

    def counting(function):
        def counted(path, *arguments, **named):
            read[Path(path).name] += 1
            return function(path, *arguments, **named)

        return counted

    # The modules are asked of Python by name: `commands.search` is the function.
    for module in ("nasproxy.cli.commands.search", "nasproxy.cli.commands.session"):
        for name in ("load_space", "load_proxy"):
            if hasattr(sys.modules[module], name):
                monkeypatch.setattr(sys.modules[module], name, counting(getattr(sys.modules[module], name)))
    run = commands.search(options)
    assert (run / "report.html").is_file()
    assert read == {"tiny.yaml": 1, "0.safetensors": 1, "1.safetensors": 1}


def test_a_proxy_set_of_other_data_is_refused_before_anything_is_trained(options, tmp_path):
    other = save_proxy(toy_proxy(), tmp_path / "toy.safetensors")
    with pytest.raises(NasproxyError, match="build a proxy of these data"):
        commands.search(commands.SearchOptions(**(vars(options) | {"beside": (other,)})))
    assert not (tmp_path / "run" / "evaluations.sqlite").exists()
