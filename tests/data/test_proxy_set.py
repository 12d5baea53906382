import json
import os
import stat
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from toy import toy_proxy

from nasproxy.core.errors import NasproxyError
from nasproxy.core.files import write_atomically
from nasproxy.data import proxy_set
from nasproxy.data.proxy_set import load_proxy, newest_proxy, per_class, save_proxy


def test_round_trip(tmp_path):
    proxy = toy_proxy()
    loaded = load_proxy(save_proxy(proxy, tmp_path / "a.safetensors"))
    assert torch.equal(loaded.images, proxy.images)
    assert torch.equal(loaded.labels, proxy.labels)
    assert replace(loaded, images=proxy.images, labels=proxy.labels) == proxy
    assert loaded.content_id == proxy.content_id


def test_soft_labels_round_trip(tmp_path):
    proxy = toy_proxy()
    soft = replace(proxy, labels=torch.nn.functional.one_hot(proxy.labels, 3).float() * 0.9)
    assert torch.equal(load_proxy(save_proxy(soft, tmp_path / "a.safetensors")).labels, soft.labels)


def test_formation_is_kept_and_nets_train_on_the_tiles(tmp_path):
    proxy = toy_proxy()
    several = replace(proxy, formation=2)
    loaded = load_proxy(save_proxy(several, tmp_path / "a.safetensors"))
    assert loaded.formation == 2
    images, labels = loaded.training_images(0)
    assert images.shape == (4 * proxy.num_images, 1, 8, 8)
    assert torch.equal(labels, proxy.labels[0].repeat_interleave(4))
    assert "each 2×2 smaller ones" in loaded.describe()
    assert several.content_id != proxy.content_id
    images, labels = proxy.training_images(0)
    assert torch.equal(images, proxy.images[0])
    assert torch.equal(labels, proxy.labels[0])


def test_a_file_is_hashed_once(tmp_path, monkeypatch):
    """Loading verifies the digest of the file, and the identity follows from the same hash of the tensors."""
    proxy = toy_proxy()
    path, identity = save_proxy(proxy, tmp_path / "a.safetensors"), proxy.content_id
    hashed, real = [], proxy_set._hash_of
    monkeypatch.setattr(proxy_set, "_hash_of", lambda *tensors: hashed.append(1) or real(*tensors))
    loaded = load_proxy(path)
    assert [loaded.content_id for _ in range(3)] == [identity] * 3
    assert [proxy.content_id for _ in range(3)] == [identity] * 3
    assert len(hashed) == 1


def test_same_set_same_bytes(tmp_path):
    a, b = (save_proxy(toy_proxy(), tmp_path / name).read_bytes() for name in ("a.safetensors", "b.safetensors"))
    assert a == b


def test_identity_ignores_the_record_but_nothing_else():
    proxy = toy_proxy()
    assert replace(proxy, record={"seconds": 99.0}).content_id == proxy.content_id
    changes = (
        {"images": proxy.images + 1e-3},
        {"labels": proxy.labels.flip(1)},
        {"recipe": replace(proxy.recipe, epochs=6)},
        {"mean": (0.4,)},
        {"class_names": ("a", "b", "c")},
        {"provenance": proxy.provenance | {"more": 1}},
    )
    assert len({replace(proxy, **change).content_id for change in changes} | {proxy.content_id}) == len(changes) + 1


def test_every_flipped_bit_is_found(tmp_path):
    path = save_proxy(toy_proxy(), tmp_path / "a.safetensors")
    data = path.read_bytes()
    header = int.from_bytes(data[:8], "little")
    start = data.index(b"nasproxy") + 14
    positions = [*range(start, 8 + header, 97), *range(8 + header, len(data), 61), len(data) - 1]
    for position in positions:
        damaged = bytearray(data)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(NasproxyError, match=r"SHA-256|damaged|truncated|format"):
            load_proxy(path)


def test_a_path_may_be_a_text(tmp_path):
    path = save_proxy(toy_proxy(), tmp_path / "a.safetensors")
    assert load_proxy(str(path)).content_id == load_proxy(path).content_id
    with pytest.raises(NasproxyError, match="No proxy file at 'missing"):
        load_proxy("missing.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, -1])
def test_truncated_files_are_refused(tmp_path, keep):
    path = save_proxy(toy_proxy(), tmp_path / "a.safetensors")
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(NasproxyError, match="truncated"):
        load_proxy(path)


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(NasproxyError, match="no proxy set"):
        load_proxy(path)
    save_file({"images": torch.zeros(2)}, path, metadata={"nasproxy": "{not json"})
    with pytest.raises(NasproxyError, match="damaged"):
        load_proxy(path)
    body = {"format": 99, "content": {}, "record": {}, "sha256": ""}
    save_file({"images": torch.zeros(2), "labels": torch.zeros(2)}, path, metadata={"nasproxy": json.dumps(body)})
    with pytest.raises(NasproxyError, match="format 99"):
        load_proxy(path)
    path.write_text("hello")
    with pytest.raises(NasproxyError, match="truncated or no"):
        load_proxy(path)
    with pytest.raises(NasproxyError, match=r"missing\.safetensors"):
        load_proxy(tmp_path / "missing.safetensors")
    with pytest.raises(NasproxyError, match="build-proxy"):
        load_proxy(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(6, 1, 8, 8)}, r"\(6, 1, 8, 8\)"),
        ({"images": torch.full((1, 6, 1, 8, 8), float("nan"))}, "NaN"),
        ({"labels": torch.zeros(1, 5, dtype=torch.int64)}, r"\(1, 5\)"),
        ({"labels": torch.full((1, 6), 3)}, "0 … 2"),
        ({"labels": torch.zeros(1, 6, 2)}, r"\(1, 6, 2\)"),
        ({"mean": (0.1, 0.2)}, "per channel"),
    ],
)
def test_impossible_sets_are_refused(change, message):
    with pytest.raises(NasproxyError, match=message):
        replace(toy_proxy(), **change)


def test_writing_is_atomic_and_keeps_links_and_modes(tmp_path):
    target = tmp_path / "real.bin"
    target.write_bytes(b"old")
    link = tmp_path / "link.bin"
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.bin", "real.bin"]


def test_newest_proxy(tmp_path):
    with pytest.raises(NasproxyError, match="nasproxy build-proxy"):
        newest_proxy(tmp_path / "absent")
    for age, name in ((20, "old"), (5, "new"), (10, "middle")):
        path = save_proxy(toy_proxy(), tmp_path / f"{name}.safetensors")
        os.utime(path, ns=(10**18 - age * 10**9,) * 2)
    assert newest_proxy(tmp_path).stem == "new"


@pytest.mark.parametrize(
    ("counts", "words"), [((3, 3), "3 per class"), ((1, 20, 4), "1 to 20 per class"), ((1, 1, 0), "2 in all")]
)
def test_numbers_of_images_read_well(counts, words):
    assert per_class(counts) == words


def test_every_set_may_have_a_recipe_of_its_own(tmp_path):
    proxy = toy_proxy()
    own = replace(proxy.recipe, lr=0.5)
    two = replace(
        proxy, images=proxy.images.repeat(2, 1, 1, 1, 1), labels=proxy.labels.repeat(2, 1), recipes=(proxy.recipe, own)
    )
    again = load_proxy(save_proxy(two, tmp_path / "two.safetensors"))
    assert [again.recipe_of(number).lr for number in range(2)] == [proxy.recipe.lr, 0.5]
    assert replace(two, recipes=()).content_id != two.content_id
    with pytest.raises(NasproxyError, match="one for each of 2 sets, the first of them `recipe`, but got 1"):
        replace(two, recipes=(proxy.recipe,))
