"""``nasproxy export``."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

from nasproxy.cli.commands.output import Source, device_named, load_data, say
from nasproxy.core.devices import DeviceChoice
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
    data_dir: Path | None,
    offline: bool,
    device: str,
) -> Path:
    """``nasproxy export``: writes a candidate as a Python file, with ``train`` epochs also its weights."""
    if train is not None and train < 1:
        raise NasproxyError(f"`--train >= 1` epochs must hold, but got {train}.")
    settings = load_settings(run)
    space = load_space(settings.space)
    if space.hash != settings.space_hash:
        raise NasproxyError(f"The space '{settings.space}' was changed since the run '{run}': restore it.")
    proxy = load_proxy(run / PROXY_FILE)
    found = _candidate(run, space, candidate)
    text = candidate_source(space, found, proxy.input_shape, proxy.num_classes, mean=proxy.mean, std=proxy.std)
    path = out or run / f"{found.id}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode())
    say("candidate", f"{found.id}: {found.label}")
    say("file", f"{path} (python {path} shows the network)")
    if train is not None:
        _train(settings, space, found, path, train, seed, data_dir, offline, device_named(device))
    return path


def _candidate(run: Path, space: SearchSpace, identity: str | None) -> Candidate:
    """The pick of the run's report, or the candidate called ``identity`` of all that it trained."""
    if identity is None:
        pick = read_report(run).pick
        if pick is None:
            raise NasproxyError(f"The run '{run}' has no pick: name a candidate by --candidate.")
        return space.candidate(pick.params)
    rows: list[tuple[str, str]] = []
    if (run / LEDGER_FILE).exists():
        with closing(sqlite3.connect(run / LEDGER_FILE)) as connection:
            query = "SELECT DISTINCT candidate, params FROM evaluations WHERE candidate LIKE ?"
            rows = connection.execute(query, (identity.replace("%", "") + "%",)).fetchall()
    if len(rows) != 1:
        how = "no" if not rows else f"{len(rows)} candidates are called so; more of the"
        raise NasproxyError(
            f"The run '{run}' has {how} candidate '{identity}': the id is in lines of --json and in {LEDGER_FILE}."
        )
    return space.candidate(json.loads(rows[0][1]))


def _train(
    settings: RunSettings,
    space: SearchSpace,
    candidate: Candidate,
    path: Path,
    epochs: int,
    seed: int,
    data_dir: Path | None,
    offline: bool,
    choice: DeviceChoice,
) -> None:
    """Trains the network on the full training images, measures it, and writes its weights beside ``path``."""
    from safetensors.torch import save

    recorded = Source.from_json(settings.source)
    dataset = load_data(Source(recorded.spec, data_dir or recorded.data_dir, recorded.image_size), offline=offline)
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
        say(name, f"accuracy {100 * accuracy:.1f} % after {epochs} epochs")
    weights = path.with_suffix(".safetensors")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    write_atomically(weights, save(state))
    say("weights", f"{weights} (net.load_state_dict(safetensors.torch.load_file(...)))")
