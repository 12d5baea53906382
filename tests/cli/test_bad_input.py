"""Bad input to the commands that evaluate, compare, check, report and export: one sentence, exit code 2, no traceback.

More of it, also to the other commands, is in test_cli.py.
"""

import shutil

import pytest
from commands import nasproxy

from nasproxy.cli.app import main

QUICK = "--trials 2 --epochs 1 --sample 3 --top 1 --full-epochs 1 --full-images 100 --scores none --workers 1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a proxy set ``p.safetensors``, a run ``run``, damaged copies of it, and names that are no files."""
    folder = tmp_path_factory.mktemp("bad")
    nasproxy(folder, "build-proxy", "--method", "random", "--ipc", "1", "--out", "p.safetensors")
    space = ["--space", "convnet_small:depth=1,pooling=none,norm=batch"]
    nasproxy(folder, "search", *space, "--proxy", "p.safetensors", *QUICK.split(), "--out", "run")
    for copy, file, text in (
        ("settings", "run.json", "{"),
        ("numbers", "report.json", "[1]"),
        ("ledger", "evaluations.sqlite", "no database at all"),
    ):
        shutil.copytree(folder / "run", folder / copy)
        (folder / copy / file).write_text(text)
    (folder / "folder").mkdir()
    (folder / "folder.yaml").mkdir()
    (folder / "folder.safetensors").mkdir()
    (folder / "file").write_text("x")
    (folder / "empty.safetensors").touch()
    (folder / "bytes.yaml").write_bytes(bytes(range(256)))
    return folder


BAD = [
    ("evaluate file", "'file' is truncated or no .safetensors file"),
    ("evaluate folder.safetensors", "No proxy file at 'folder.safetensors'"),
    ("evaluate empty.safetensors", "'empty.safetensors' is truncated"),
    ("evaluate p.safetensors --nets -1", "`nets >= 1` must hold, but got nets=-1"),
    ("evaluate p.safetensors --nets x", "but got 'x': see"),
    ("evaluate p.safetensors --epochs 0", "`epochs >= 1` must hold, but got epochs=0"),
    ("evaluate p.safetensors --workers 0", "`--workers >= 1` must hold, but got 0"),
    ("evaluate p.safetensors --device cuda:x", "'cuda:x'"),
    ("evaluate p.safetensors --csv folder", "--csv takes a file, but 'folder' is a folder"),
    ("evaluate p.safetensors --html folder", "--html takes a file, but 'folder' is a folder"),
    ("evaluate p.safetensors --csv file/x.csv", "in 'file/x.csv' 'file' is a file"),
    ("evaluate p.safetensors --cross --network mlp", "got --network mlp too"),
    ("evaluate p.safetensors --network mlp:width=x", "'mlp:width=x' is no net"),
    ("evaluate p.safetensors --network mlp:width=-3", "width=-3"),
    ("evaluate p.safetensors --network convnet:norm=btach", "'btach'. Did you mean 'batch'?"),
    ("evaluate p.safetensors --dataset mnist --offline --data-dir file", "no intact copy is in 'file/MNIST/raw'"),
    ("compare --methods random --ipc 0", "ipc=0"),
    ("compare --ipc ,", "--ipc takes whole numbers separated by commas, but got ','"),
    ("compare --methods random --num-sets 0", "num_sets=0"),
    ("compare --methods random --budget huge", "Unknown budget 'huge'"),
    ("compare --methods random --recipe publishd", "'publishd'. Did you mean 'published'?"),
    ("compare --methods random --network vgg12", "'vgg12'. Did you mean 'vgg11'?"),
    ("compare --methods random --dataset folder", "'folder' must hold"),
    ("compare --methods gradient_matching --width -4 --budget quick", "width=-4"),
    ("compare --methods random --num-sets 1 --out file", "its folder writable, but 'file' gives"),
    ("check folder", "'folder': Is a directory"),
    ("check folder.yaml", "'folder.yaml': Is a directory"),
    ("check bytes.yaml", "bytes.yaml:2:118"),
    ("check p.safetensors --dataset folder", "'folder' must hold"),
    ("check convnet_small --dataset digits --image-size 16", "--image-size 16 with 'digits'"),
    ("report file", "'file' is no run"),
    ("report settings", "'settings/run.json' cannot be read"),
    ("report numbers", "'numbers/report.json' cannot be read"),
    ("report run run", "'run' is named twice"),
    ("report run folder", "'folder' has no report.json"),
    ("report run --out folder", "--out takes a file, but 'folder' is a folder"),
    ("report run --out file/report.html", "in 'file/report.html' 'file' is a file"),
    ("export run --train 0", "`--train >= 1` epochs must hold, but got 0"),
    ("export run --out folder", "--out takes a file, but 'folder' is a folder"),
    ("export run --candidate ____", "starts with '____', but none has"),
    ("export ledger --candidate a", "'ledger/evaluations.sqlite' must be a table of evaluations"),
    ("export run --train 1 --device tpu", "'tpu'"),
    ("demo --device tpu", "'tpu'"),
    ("evaluat", "No such command 'evaluat'. Did you mean 'evaluate'"),
    ("list extra", "extra"),
    ("schema --json", "--json"),
    ("search", "--space"),
    ("search --space", "--space"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[words for words, _ in BAD])
def test_bad_input_gets_one_sentence_and_exit_code_2(folder, words, message, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["nasproxy", *words.split()])
    monkeypatch.setenv("NASPROXY_WORKERS", "1")
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    errors = capsys.readouterr().err
    (line,) = [line for line in errors.splitlines() if line.startswith("nasproxy: ")]
    assert message in line
    assert line.endswith(".")
    assert errors.rstrip().endswith(line), "nothing follows it"
