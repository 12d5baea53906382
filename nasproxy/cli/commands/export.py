"""``nasproxy export``: a candidate as a Python file, and its trained weights."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from nasproxy.cli.commands.options import DataOptions, Source
from nasproxy.cli.commands.output import check_new_file, device_named, load_data, say
from nasproxy.core.errors import NasproxyError
from nasproxy.core.files import write_atomically
from nasproxy.core.progress import progress_bar
from nasproxy.core.randomness import derive_seed
from nasproxy.data.proxy_set import load_proxy
from nasproxy.networks import seeded
from nasproxy.report.data import read_report
from nasproxy.scores.full_training import full_recipe
from nasproxy.search.run_folder import LEDGER_FILE, PROXY_FILE, RunSettings, load_settings
from nasproxy.spaces import Candidate, SearchSpace, load_space
from nasproxy.spaces.export import candidate_source
from nasproxy.training.fit import Passes, fit, images_per_pass
from nasproxy.training.held_out import accuracy_and_loss
from nasproxy.training.images import real_images


def export(
    run: Path,
    *,
    candidate: str | None,
    out: Path | None,
    train: int | None,
    seed: int,
    data: DataOptions,
) -> Path:
    """``nasproxy export``: writes a candidate as a Python file, and its weights if it is trained.

    Args:
        run: the run folder.
        candidate: the id of a candidate, or the beginning of it; None is the report's pick.
        out: the Python file; None is a file in the run folder.
        train: the epochs of training on the full data; None does not train.
        seed: the seed of this training.
        data: the data and the device of this training.

    Returns:
        The Python file.

    Raises:
        NasproxyError: when there is no such run or candidate, or the search space was changed since.
    """
    if train is not None and train < 1:
        raise NasproxyError(f"`--train >= 1` epochs must hold, but got {train}.")
    check_new_file("--out", out)
    settings = load_settings(run)
    space = load_space(settings.space)
    if space.hash != settings.space_hash:
        raise NasproxyError(
            f"The space must be the one that the run '{run}' searched, but '{settings.space}' was changed since: "
            "restore it."
        )
    proxy = load_proxy(run / PROXY_FILE)
    found = _candidate(run, space, candidate)
    text = candidate_source(space, found, proxy.input_shape, proxy.num_classes, mean=proxy.mean, std=proxy.std)
    path = out or run / f"{found.id}.py"
    write_atomically(path, text.encode())
    say("candidate", f"{found.id}: {found.label}")
    say("file", f"{path} (`python {path}` prints the network)")
    if train is not None:
        _train(settings, space, found, path, epochs=train, seed=seed, data=data)
    return path


def _candidate(run: Path, space: SearchSpace, identity: str | None) -> Candidate:
    """The pick of the run's report, or the one evaluated candidate whose id starts with ``identity``."""
    if identity is None:
        pick = read_report(run).pick
        if pick is None:
            raise NasproxyError(
                f"The run '{run}' has no pick, because no candidate could be trained: give --candidate."
            )
        return space.candidate(pick.params)
    rows = _rows(run / LEDGER_FILE, identity)
    if len(rows) != 1:
        many = f"{len(rows)} have" if rows else "none has"
        raise NasproxyError(
            f"One candidate of the run '{run}' must have an id that starts with '{identity}', but {many}: take an id "
            f"from the lines of `search --json`, or from {LEDGER_FILE}."
        )
    return space.candidate(json.loads(rows[0][1]))


def _rows(ledger: Path, start: str) -> list[tuple[str, str]]:
    """``(id, parameters as JSON)`` of the evaluated candidates whose id begins with ``start``."""
    if not ledger.exists():
        return []
    query = "SELECT DISTINCT candidate, params FROM evaluations WHERE substr(candidate, 1, ?) = ?"
    try:
        with closing(sqlite3.connect(ledger)) as connection:
            return connection.execute(query, (len(start), start)).fetchall()
    except sqlite3.DatabaseError as error:
        raise NasproxyError(
            f"'{ledger}' must be a table of evaluations, but cannot be read ({error}): restore it, or leave "
            "--candidate out for the report's pick."
        ) from None


def _train(
    settings: RunSettings,
    space: SearchSpace,
    candidate: Candidate,
    path: Path,
    *,
    epochs: int,
    seed: int,
    data: DataOptions,
) -> None:
    """Trains the network on the full training images, prints its accuracy, and writes its weights beside ``path``."""
    from safetensors.torch import save

    choice = device_named(data.device)
    recorded = Source.from_json(settings.source)
    source = replace(recorded, data_dir=data.data_dir or recorded.data_dir)
    dataset = load_data(source, offline=data.offline)
    build = partial(space.build, candidate.params, dataset.input_shape, dataset.num_classes)
    net = seeded(build, derive_seed(seed, "init")).to(choice.device)
    images = real_images(dataset, dataset.train).on(choice.device)
    with progress_bar("training") as progress:
        fit(
            net,
            images,
            full_recipe(dataset, epochs),
            seed=seed,
            device=choice.device,
            passes=Passes(images_per_pass(net, dataset.input_shape, choice.device)),
            on_update=lambda done, total: progress(done, total, ""),
        )
    for name, split in (("val", dataset.val), ("test", dataset.test)):
        accuracy, _ = accuracy_and_loss(net, real_images(dataset, split), choice.device)
        say(name, f"accuracy {100 * accuracy:.1f} % after {epochs} epoch{'' if epochs == 1 else 's'} of training")
    weights = path.with_suffix(".safetensors")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    write_atomically(weights, save(state))
    say("weights", f"{weights} (load it with `net.load_state_dict(safetensors.torch.load_file('{weights}'))`)")
