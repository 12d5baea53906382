import contextlib
import gzip
import hashlib
import http.server
import io
import itertools
import os
import pickle
import re
import shutil
import socket
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nasproxy import data
from nasproxy.core.errors import NasproxyError
from nasproxy.data import DATASETS, DatasetSource, LabeledImages, decoded, denormalize, load_dataset, named, normalize
from nasproxy.data.dataset import shared_images


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory, monkeypatch):
    """No test reads or writes the user's cache or data."""
    root = tmp_path_factory.mktemp("own")
    monkeypatch.setenv("NASPROXY_CACHE_DIR", str(root / "cache"))
    monkeypatch.setenv("NASPROXY_DATA_DIR", str(root / "data"))
    return root


@pytest.fixture
def no_socket(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)


def picture(seed, *, size=(6, 5), mode="RGB"):
    """Random pixels; ``size`` is (width, height)."""
    rng = np.random.default_rng(seed)
    channels = {"RGB": (3,), "RGBA": (4,), "LA": (2,), "L": ()}[mode]
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8), mode=None)


def image_folder(root, *, counts=None, size=(6, 5), mode="RGB", suffix="png"):
    """Writes ``counts`` {split: {class: n}} images; returns the folder."""
    counts = counts or {"train": {"ant": 12, "bee": 8}, "test": {"ant": 2, "bee": 3}}
    seed = itertools.count()
    for split, by_class in counts.items():
        for name, n in by_class.items():
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                picture(next(seed), size=size, mode=mode).save(root / split / name / f"{i:03d}.{suffix}")
    return root


def coded(seed, **options):
    buffer = io.BytesIO()
    picture(seed, **options).save(buffer, "PNG")
    return buffer.getvalue()


def parquet_file(path, labels, *, names=("cat", "dog"), image="img", label="label", nested=True, seed=0, **options):
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    images = [coded(seed + i, **options) for i in range(len(labels))]
    table = pa.table({image: [{"bytes": b, "path": None} for b in images] if nested else images, label: labels})
    if names:
        features = {"info": {"features": {label: {"names": list(names), "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, path, row_group_size=7)
    return path


def parquet_folder(root, **options):
    parquet_file(root / "train-00000-of-00001.parquet", [0, 1] * 10, seed=0, **options)
    parquet_file(root / "test-00000-of-00001.parquet", [1, 0, 1], seed=100, **options)
    return root


def arrays(**changes):
    rng = np.random.default_rng(0)
    made = {
        "train_images": rng.integers(0, 256, (20, 7, 6, 3), dtype=np.uint8),
        "train_labels": np.arange(20) % 2,
        "test_images": rng.integers(0, 256, (4, 7, 6, 3), dtype=np.uint8),
        "test_labels": np.array([0, 1, 1, 0]),
    }
    made.update(changes)
    return {key: value for key, value in made.items() if value is not None}


def npz(path, **changes):
    np.savez(path, **arrays(**changes))
    return path


def same(a, b):
    assert a.fingerprint == b.fingerprint
    for split in ("train", "val", "test"):
        assert torch.equal(getattr(a, split).images, getattr(b, split).images)
        assert torch.equal(getattr(a, split).labels, getattr(b, split).labels)
    assert (a.mean, a.std, a.class_names) == (b.mean, b.std, b.class_names)


# ---- types


def test_by_class_is_ascending_and_complete():
    labels = torch.tensor([2, 0, 2, 1, 0, 2])
    data = LabeledImages(torch.zeros(6, 1, 1, 1, dtype=torch.uint8), labels)
    assert [indices.tolist() for indices in data.by_class(4)] == [[1, 4], [3], [0, 2, 5], []]
    assert len(data) == 6


def test_normalize_is_the_formula_and_denormalize_its_inverse():
    every_value = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(2, 3, 1, 1)
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.004, 1.0)
    out = normalize(every_value, mean, std)
    expected = (every_value.double() / 255 - torch.tensor(mean).double().view(3, 1, 1)) / torch.tensor(std).view(
        3, 1, 1
    )
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(denormalize(out, mean, std), every_value)


def test_denormalize_clamps():
    assert denormalize(torch.tensor([-9.0, 9.0]).view(1, 1, 1, 2), (0.5,), (0.5,)).flatten().tolist() == [0, 255]


def test_normalize_refuses_other_channels():
    with pytest.raises(NasproxyError, match=r"\(2, 1, 4, 4\)"):
        normalize(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), (0.5,) * 3, (0.5,) * 3)


# ---- digits, splits, statistics


def test_digits(no_socket):
    data = load_dataset("digits", offline=True)
    assert (len(data.train), len(data.val), len(data.test)) == (1295, 143, 359)
    assert data.input_shape == (1, 8, 8)
    assert data.class_names == tuple("0123456789")
    assert data.num_classes == 10
    assert not data.flip
    assert data.train.images.dtype == torch.uint8
    assert (data.train.images.min(), data.train.images.max()) == (0, 255)
    assert data.train.labels.dtype == torch.int64
    same(data, load_dataset("digits"))


def test_digits_splits_are_a_partition():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    data = load_dataset("digits")
    parts = [data.train, data.val, data.test]
    together = torch.cat([part.images for part in parts]).flatten(1)
    labels = torch.cat([part.labels for part in parts])
    original = np.rint(bunch.data * 255 / 16).astype(np.uint8)

    def rows(pixels, targets):
        return sorted(zip(map(bytes, np.asarray(pixels)), targets.tolist(), strict=True))

    assert rows(together, labels) == rows(original, bunch.target)
    for part, share in ((data.val, 0.08), (data.test, 0.2)):
        counts = torch.bincount(part.labels, minlength=10) / torch.from_numpy(np.bincount(bunch.target))
        assert (counts - share).abs().max() < 0.01


def test_the_digits_are_the_same_on_every_machine():
    """Proxy files carry this fingerprint: a change of it makes every existing file useless."""
    assert load_dataset("digits").fingerprint.startswith("7b14ffbfa501693ed95247313430117b")


def test_mean_and_std_are_those_of_train(tmp_path):
    data = load_dataset(str(npz(tmp_path / "a.npz")))
    pixels = data.train.images.double() / 255
    np.testing.assert_allclose(data.mean, pixels.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(data.std, pixels.std((0, 2, 3), correction=0), rtol=1e-12)
    normalized = data.normalize(data.train.images)
    assert normalized.mean((0, 2, 3)).abs().max() < 1e-5


def test_a_constant_channel_stays_finite(tmp_path):
    path = npz(
        tmp_path / "a.npz",
        train_images=np.full((20, 4, 4), 7, dtype=np.uint8),
        test_images=np.full((4, 4, 4), 7, dtype=np.uint8),
    )
    data = load_dataset(str(path))
    assert data.std == (1 / 255,)
    assert data.normalize(data.train.images).abs().max() < 1e-5


def test_val_is_stratified_and_keeps_small_classes(tmp_path):
    labels = np.array([0] * 50 + [1] * 2 + [2])
    images = np.arange(53, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)
    path = npz(
        tmp_path / "a.npz",
        train_images=images,
        train_labels=labels,
        test_images=images[:3],
        test_labels=np.array([0, 1, 2]),
    )
    data = load_dataset(str(path))
    assert torch.bincount(data.val.labels, minlength=3).tolist() == [5, 1, 0]
    assert torch.bincount(data.train.labels).tolist() == [45, 1, 1]
    shown = torch.cat([data.train.images, data.val.images])[:, 0, 0, 0]
    assert sorted(shown.tolist()) == list(range(53))
    assert data.val.images[:, 0, 0, 0].tolist() == sorted(data.val.images[:, 0, 0, 0].tolist())


def test_a_val_split_of_the_source_is_taken(tmp_path):
    val = np.full((2, 7, 6, 3), 9, dtype=np.uint8)
    data = load_dataset(str(npz(tmp_path / "a.npz", val_images=val, val_labels=np.array([0, 1]))))
    assert len(data.train) == 20
    assert (data.val.images == 9).all()


def test_the_fingerprint_sees_every_part(tmp_path):
    base = load_dataset(str(npz(tmp_path / "a.npz"))).fingerprint
    assert re.fullmatch("[0-9a-f]{64}", base)
    for key in ("train_images", "test_images"):
        changed = arrays()[key].copy()
        changed[-1, -1, -1, -1] ^= 1
        assert load_dataset(str(npz(tmp_path / "b.npz", **{key: changed}))).fingerprint != base
    assert load_dataset(str(npz(tmp_path / "c.npz", test_labels=np.array([1, 1, 1, 0])))).fingerprint != base
    assert load_dataset(str(npz(tmp_path / "d.npz", class_names=np.array(["x", "y"])))).fingerprint != base
    assert load_dataset(str(npz(tmp_path / "e.npz"))).fingerprint == base


# ---- npz


def test_npz_layouts_are_one_data_set(tmp_path):
    names = ("train_images", "test_images")
    nhwc = load_dataset(str(npz(tmp_path / "a.npz")))
    assert nhwc.input_shape == (3, 7, 6)
    nchw = load_dataset(str(npz(tmp_path / "b.npz", **{k: arrays()[k].transpose(0, 3, 1, 2) for k in names})))
    same(nhwc, nchw)
    floats = load_dataset(str(npz(tmp_path / "c.npz", **{k: arrays()[k].astype(np.float32) / 255 for k in names})))
    same(nhwc, floats)
    keras = {
        f"{a}_{split}": arrays()[f"{split}_{b}"]
        for a, b in (("x", "images"), ("y", "labels"))
        for split in ("train", "test")
    }
    keras["y_train"] = keras["y_train"][:, None].astype(np.uint8)
    np.savez(tmp_path / "d.npz", **keras)
    same(nhwc, load_dataset(str(tmp_path / "d.npz")))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((20, 8, 9), (1, 8, 9)),
        ((20, 8, 9, 1), (1, 8, 9)),
        ((20, 13, 32, 32), (13, 32, 32)),
        ((20, 32, 32, 13), (13, 32, 32)),
        ((20, 2, 2, 3), (3, 2, 2)),
        ((20, 3, 2, 2), (3, 2, 2)),
    ],
)
def test_npz_channel_axis(tmp_path, shape, expected):
    images = np.zeros(shape, dtype=np.uint8)
    path = npz(tmp_path / "a.npz", train_images=images, test_images=images[:4])
    assert load_dataset(str(path)).input_shape == expected


def test_npz_floats_are_rounded_not_cut(tmp_path):
    images = np.full((20, 4, 5), 0.999)
    images[:, 0] = 0.0
    data = load_dataset(str(npz(tmp_path / "a.npz", train_images=images, test_images=images[:4])))
    assert data.train.images.unique().tolist() == [0, 255]


def test_npz_name_and_class_names(tmp_path):
    data = load_dataset(str(npz(tmp_path / "pets.npz", class_names=np.array(["cat", "dög"]))))
    assert (data.name, data.class_names, data.flip) == ("pets", ("cat", "dög"), False)
    assert load_dataset(str(npz(tmp_path / "pets.npz"))).class_names == ("0", "1")


UINT8 = np.zeros((20, 7, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_images": None, "test_labels": None}, r"holds train_images, train_labels"),
        ({"train_labels": None}, "`train_images` but not `train_labels`"),
        ({"train_labels": np.arange(19) % 2}, "train has 20 images and 19 labels"),
        ({"train_labels": np.arange(20) % 2 + 1, "test_labels": np.array([1, 2, 1, 2])}, "but 1 is there"),
        ({"train_labels": np.arange(20) % 2 * 5}, "but 5 is there"),
        ({"train_labels": np.arange(20) % 2 - 1}, "but -1 is there"),
        ({"train_labels": np.zeros(20, int)}, r"none of class 1 \('1'\), which is in test"),
        ({"train_labels": np.zeros(20, int), "test_labels": np.zeros(4, int)}, "at least 2 classes, but 'a' has 1"),
        ({"train_labels": (np.arange(20) % 2).astype(float)}, "float64"),
        ({"train_labels": np.eye(2, dtype=int)[np.arange(20) % 2]}, r"int64 \(20, 2\)"),
        ({"class_names": np.array(["a"])}, r"0 … 0 \(it has 1 classes\)|at least 2 classes, but 'a' has 1"),
        ({"class_names": np.array(["a", "b", "c"])}, r"none of class 2 \('c'\)"),
        ({"class_names": np.array([1, 2])}, "int64"),
        ({"train_images": UINT8.astype(np.int64)}, "int64"),
        ({"train_images": UINT8 + 255.0}, "from 255 to 255"),
        ({"train_images": np.full(UINT8.shape, np.nan)}, "from nan to nan"),
        ({"train_images": UINT8 - 0.5}, "from -0.5 to -0.5"),
        ({"train_images": UINT8[:, 0, 0]}, r"\(20, 3\)"),
        ({"train_images": UINT8[:, :, :, 0]}, r"train is \(20, 7, 6\) and test \(4, 7, 6, 3\)"),
        ({"train_images": UINT8[:, :4]}, r"\(3, 4, 6\) and test \(3, 7, 6\)"),
        ({"train_images": np.zeros((20, 5, 5, 5), np.uint8)}, r"\(5, 5, 5\) does not tell"),
        ({"test_images": UINT8[:0], "test_labels": np.zeros(0, int)}, "test is empty"),
        ({"train_images": UINT8[:2], "train_labels": np.array([0, 1])}, "a single training image"),
        ({"train_images": UINT8[:, :0], "test_images": UINT8[:4, :0]}, "at least one pixel"),
        ({"class_names": np.array(["a", None], dtype=object)}, "Python objects"),
    ],
)
def test_npz_bad_arrays(tmp_path, changes, message):
    path = npz(tmp_path / "a.npz", **changes)
    with pytest.raises(NasproxyError, match=message):
        load_dataset(str(path))


def test_npz_that_is_cut_or_altered_or_foreign(tmp_path):
    whole = npz(tmp_path / "whole.npz").read_bytes()
    path = tmp_path / "a.npz"
    rng = np.random.default_rng(0)
    contents = [b"", b"PK\x03\x04", whole[: len(whole) // 2], whole[:-30], b"text", pickle.dumps([1])]
    for _ in range(60):
        altered = bytearray(whole)
        for position in rng.integers(0, len(whole), 3):
            altered[position] ^= 1 << int(rng.integers(8))
        contents.append(bytes(altered))
    refused = 0
    for content in contents:
        path.write_bytes(content)
        try:
            load_dataset(str(path))
        except NasproxyError:
            refused += 1
    assert refused > 50  # the rest hit bytes that zip does not use
    np.save(tmp_path / "plain", np.zeros(3))
    with pytest.raises(NasproxyError, match=r"plain\.npy"):
        load_dataset(str(tmp_path / "plain.npy"))
    (tmp_path / "plain.npy").rename(tmp_path / "renamed.npz")
    with pytest.raises(NasproxyError, match=r"renamed\.npz"):
        load_dataset(str(tmp_path / "renamed.npz"))


# ---- folders of images


def test_image_folder(tmp_path):
    folder = image_folder(tmp_path / "bugs")
    data = load_dataset(str(folder))
    assert (data.name, data.class_names, data.input_shape, data.flip) == ("bugs", ("ant", "bee"), (3, 5, 6), False)
    assert torch.bincount(data.train.labels).tolist() == [11, 7]
    assert torch.bincount(data.val.labels).tolist() == [1, 1]
    for split, sub, label, i in (("test", "ant", 0, 1), ("test", "bee", 1, 2)):
        expected = np.asarray(Image.open(folder / split / sub / f"{i:03d}.png")).transpose(2, 0, 1)
        at = [j for j, target in enumerate(data.test.labels.tolist()) if target == label][i]
        assert (data.test.images[at].numpy() == expected).all()


def test_the_cache_gives_what_decoding_gave(tmp_path, monkeypatch):
    folder = image_folder(tmp_path / "bugs")
    decoded_now = load_dataset(str(folder))

    def forbidden(*args):
        raise AssertionError("decoded twice")

    monkeypatch.setattr(decoded, "_decode", forbidden)
    same(decoded_now, load_dataset(str(folder)))
    monkeypatch.setattr(decoded, "_available_memory", lambda: 100)
    mapped = load_dataset(str(folder))
    same(decoded_now, mapped)
    assert not list(decoded._cache_folder().glob("*.partial"))
    # Mapped pages are private: whoever writes to the tensor does not alter the cache.
    mapped.train.images.zero_()
    same(decoded_now, load_dataset(str(folder)))


def test_the_same_pixels_from_folder_npz_and_parquet_have_one_fingerprint(tmp_path):
    from_folder = load_dataset(str(image_folder(tmp_path / "bugs")))

    def nhwc(part):
        return part.images.permute(0, 2, 3, 1).numpy()

    parts = {split: getattr(from_folder, split) for split in ("train", "val", "test")}
    np.savez(
        tmp_path / "bugs.npz",
        class_names=np.array(["ant", "bee"]),
        **{f"{split}_images": nhwc(part) for split, part in parts.items()},
        **{f"{split}_labels": part.labels.numpy() for split, part in parts.items()},
    )
    same(from_folder, load_dataset(str(tmp_path / "bugs.npz")))


def test_a_cut_or_altered_cache_is_rebuilt(tmp_path):
    folder = image_folder(tmp_path / "bugs")
    good = load_dataset(str(folder))
    (entry,) = (path for path in decoded._cache_folder().iterdir() if path.is_dir())
    rng = np.random.default_rng(0)
    for path in sorted(entry.iterdir()):
        original = path.read_bytes()
        contents = [b"", original[:-1], original[: len(original) // 2], None]
        for _ in range(6):
            altered = bytearray(original)
            altered[int(rng.integers(len(altered)))] ^= 1 << int(rng.integers(8))
            contents.append(bytes(altered))
        header = bytearray(original)
        header[20:60] = b"9" * 40
        contents.append(bytes(header[: len(original)]))
        for content in contents:
            path.unlink()
            if content is not None:
                path.write_bytes(content)
            same(good, load_dataset(str(folder)))
        assert path.read_bytes() == original


def test_a_changed_file_or_size_is_another_cache_entry(tmp_path):
    folder = image_folder(tmp_path / "bugs")
    before = load_dataset(str(folder))
    picture(999).save(folder / "train" / "ant" / "000.png")
    assert load_dataset(str(folder)).fingerprint != before.fingerprint
    assert load_dataset(str(folder), image_size=4).input_shape == (3, 4, 4)


def test_an_interrupted_build_leaves_nothing_and_is_repeated(tmp_path):
    folder = image_folder(tmp_path / "bugs")

    def interrupt(done, total, note):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_dataset(str(folder), progress=interrupt)
    assert [path.suffix for path in decoded._cache_folder().iterdir()] == [".lock"]
    assert len(load_dataset(str(folder)).train) == 18


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NASPROXY_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(NasproxyError, match=r"file/cache.*NASPROXY_CACHE_DIR"):
        load_dataset(str(image_folder(tmp_path / "bugs")))


def test_progress_ends_at_the_total(tmp_path):
    calls = []
    load_dataset(str(image_folder(tmp_path / "bugs")), progress=lambda *args: calls.append(args))
    assert calls[-1] == (25, 25, "decoding images")


def test_grey_unless_one_image_has_colour(tmp_path):
    grey = image_folder(tmp_path / "grey", mode="L")
    picture(7, mode="LA").save(grey / "train" / "ant" / "000.png")
    picture(8, mode="L").convert("1").save(grey / "train" / "ant" / "001.png")
    data = load_dataset(str(grey))
    assert data.input_shape == (1, 5, 6)
    assert set(data.train.images[1].unique().tolist()) <= set(range(256))
    picture(7, mode="RGBA").save(grey / "test" / "ant" / "000.png")
    coloured = load_dataset(str(grey))
    assert coloured.input_shape == (3, 5, 6)
    pixels = np.asarray(Image.open(grey / "test" / "ant" / "000.png")).astype(float)
    alpha = pixels[:, :, 3:] / 255
    over_white = pixels[:, :, :3] * alpha + 255 * (1 - alpha)
    assert np.abs(coloured.test.images[0].numpy() - over_white.transpose(2, 0, 1)).max() <= 1


def test_palettes_and_other_formats(tmp_path):
    folder = image_folder(tmp_path / "bugs", suffix="bmp")
    paletted = picture(3).convert("P")
    paletted.info["transparency"] = bytes(range(256))
    paletted.save(folder / "train" / "ant" / "000.png", transparency=bytes(range(256)))
    picture(4).convert("CMYK").save(folder / "train" / "ant" / "001.JPEG")
    picture(5).save(folder / "train" / "ant" / "002.webp")
    picture(6).save(folder / "train" / "ant" / "003.gif")
    assert load_dataset(str(folder)).input_shape == (3, 5, 6)


def test_the_colours_of_transparent_pixels_do_not_count(tmp_path):
    folder = image_folder(tmp_path / "bugs")
    seen = []
    for seed in (1, 2):
        hidden = np.asarray(picture(seed, mode="RGBA")).copy()
        hidden[:, :, 3] = 0
        Image.fromarray(hidden).save(folder / "test" / "ant" / "000.png")
        seen.append(load_dataset(str(folder)).test.images[0])
    assert (seen[0] == 255).all()
    assert (seen[1] == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_images_are_turned_as_their_exif_says(tmp_path, orientation, suffix):
    """A phone stores a photograph as the sensor saw it, and how it was held beside it."""
    upright = Image.new("RGB", (8, 16), "black")
    upright.paste((255, 0, 0), (0, 0, 8, 8))  # red above
    steps = {2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}.get(orientation, [])  # the inverse of what it says
    stored = upright
    for step in steps:
        stored = stored.transpose(Image.Transpose(step))
    folder = image_folder(tmp_path / "bugs", size=(8, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    (folder / "test" / "ant" / "000.png").unlink()
    stored.save(folder / "test" / "ant" / f"000.{suffix}", exif=exif, **({"quality": 95} if suffix == "jpg" else {}))
    image = load_dataset(str(folder)).test.images[0].float()
    assert image.shape == (3, 16, 8)
    assert image[0, :7].mean() > 240
    assert image[0, 9:].mean() < 15


def test_what_is_left_out_is_counted_and_named(tmp_path):
    folder = image_folder(tmp_path / "bugs")
    assert load_dataset(str(folder)).notes == ()
    for name in ("a.heic", "b.heic", "c.svg"):
        (folder / "train" / "bee" / name).write_bytes(b"x")
    (folder / "train" / "ant" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    for _ in ("decoded", "from the cache"):
        others, broken = load_dataset(str(folder)).notes
        assert others.startswith("3 files beside 25 images, because of their endings: .heic (2), .svg (1), such as '")
        assert broken == f"1 link to a file that is not there, such as '{folder / 'train' / 'ant' / 'gone.png'}'"


def test_all_images_that_cannot_be_read_are_named_at_once(tmp_path):
    folder = image_folder(tmp_path / "bugs", size=(60, 50))
    for number in range(8):
        path = folder / "train" / "ant" / f"{number:03d}.png"
        path.write_bytes(b"x" if number < 4 else path.read_bytes()[:-200])
    with pytest.raises(NasproxyError, match="cannot be read as an image") as error:
        load_dataset(str(folder))
    assert [f"{number:03d}.png" in str(error.value) for number in range(8)] == 4 * [True] + 4 * [False]
    for number in range(4):
        (folder / "train" / "ant" / f"{number:03d}.png").unlink()
    for number in range(3):
        path = folder / "train" / "bee" / f"{number:03d}.png"
        path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(NasproxyError, match="and 2 more images") as error:
        load_dataset(str(folder))
    assert str(error.value).count("cannot be read as an image") == 5


def test_images_that_are_in_two_splits_are_counted(tmp_path):
    folder = image_folder(tmp_path / "bugs")
    assert shared_images(load_dataset(str(folder))) == {}
    for number in range(2):
        shutil.copy(folder / "train" / "ant" / f"00{number}.png", folder / "test" / "bee" / f"1{number}.png")
    shared = shared_images(load_dataset(str(folder)))
    assert sum(number for pair, number in shared.items() if pair.startswith("test")) == 2
    assert set(shared) <= {"test in train", "test in val"}


def test_hidden_files_and_other_files_are_ignored(tmp_path):
    folder = image_folder(tmp_path / "bugs")
    before = load_dataset(str(folder))
    for name in (".DS_Store", "train/.hidden.png", "train/ant/._000.png", "train/ant/Thumbs.db", "README.txt"):
        (folder / name).write_bytes(b"x")
    (folder / "train" / ".cache").mkdir()
    (folder / "train" / "ant" / ".thumbnails").mkdir()
    picture(1).save(folder / "train" / "ant" / ".thumbnails" / "0.png")
    same(before, load_dataset(str(folder)))


def test_deeper_folders_belong_to_their_class(tmp_path):
    folder = image_folder(tmp_path / "bugs")
    deeper = folder / "train" / "ant" / "images"
    deeper.mkdir()
    picture(50).save(deeper / "x.JPEG")
    data = load_dataset(str(folder))
    assert len(data.train) + len(data.val) == 21


def test_order_does_not_depend_on_the_file_system(tmp_path, monkeypatch):
    folder = image_folder(tmp_path / "bugs")
    before = load_dataset(str(folder))
    iterdir, rglob = Path.iterdir, Path.rglob
    monkeypatch.setattr(Path, "iterdir", lambda self: reversed(list(iterdir(self))))
    monkeypatch.setattr(Path, "rglob", lambda self, pattern: reversed(list(rglob(self, pattern))))
    monkeypatch.setenv("NASPROXY_CACHE_DIR", str(tmp_path / "other-cache"))
    same(before, load_dataset(str(folder)))


def test_validation_folder(tmp_path):
    counts = {"train": {"a": 3, "b": 3}, "validation": {"b": 2}, "test": {"a": 1}}
    data = load_dataset(str(image_folder(tmp_path / "x", counts=counts)))
    assert (len(data.train), data.val.labels.tolist(), data.test.labels.tolist()) == (6, [1, 1], [0])


def test_image_size_scales_the_shorter_side_and_crops(tmp_path):
    folder = image_folder(tmp_path / "x", size=(60, 20))
    upright = folder / "test" / "bee" / "000.png"
    picture(77, size=(20, 60)).save(upright)
    with pytest.raises(NasproxyError, match=r"ant/000\.png' is 60×20 and '.*bee/000\.png' 20×60.*--image-size 20"):
        load_dataset(str(folder))
    data = load_dataset(str(folder), image_size=10)
    assert data.input_shape == (3, 10, 10)
    for index, path, size, box in (
        (0, folder / "test" / "ant" / "000.png", (30, 10), (10, 0, 20, 10)),
        (2, upright, (10, 30), (0, 10, 10, 20)),
    ):
        expected = np.asarray(Image.open(path).resize(size, Image.Resampling.BICUBIC).crop(box)).transpose(2, 0, 1)
        assert (data.test.images[index].numpy() == expected).all()


def test_image_size_is_antialiased(tmp_path):
    folder = image_folder(tmp_path / "x")
    checkers = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    for path in folder.rglob("*.png"):
        Image.fromarray(checkers).save(path)
    data = load_dataset(str(folder), image_size=8)
    assert (data.train.images.int() - 127).abs().max() < 20


@pytest.mark.parametrize("image_size", [0, -3])
def test_image_size_must_be_positive(image_size):
    with pytest.raises(NasproxyError, match=f"image_size={image_size}"):
        load_dataset("digits", image_size=image_size)


def test_image_size_is_for_folders(tmp_path):
    for spec in ("digits", "mnist", str(npz(tmp_path / "a.npz"))):
        with pytest.raises(NasproxyError, match=f"--image-size 9 with '{re.escape(spec)}'"):
            load_dataset(spec, image_size=9, offline=True)


def deep_png(path, *, colour):
    """A 16-bit PNG, which Pillow reads but cannot write in colour."""
    width, height, samples = 6, 5, 3 if colour else 1
    header = struct.pack(">IIBBBBB", width, height, 16, 2 if colour else 0, 0, 0, 0)
    rows = b"".join(b"\0" + bytes(2 * samples * width) for _ in range(height))
    blocks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in blocks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


@pytest.mark.parametrize("colour", [False, True])
def test_16_bit_images_are_refused(tmp_path, colour):
    folder = image_folder(tmp_path / "bugs")
    deep_png(folder / "train" / "bee" / "003.png", colour=colour)
    with pytest.raises(NasproxyError, match=r"8 bits per channel, but '.*bee/003\.png'"):
        load_dataset(str(folder))


@pytest.mark.parametrize("content", [b"", b"not an image", "cut", "no header"])
def test_a_broken_image_is_named(tmp_path, content):
    folder = image_folder(tmp_path / "bugs", size=(60, 50))
    path = folder / "test" / "bee" / "001.png"
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "no header": whole[:20]}.get(content, content))
    with pytest.raises(NasproxyError, match=r"bee/001\.png' cannot be read as an image"):
        load_dataset(str(folder))


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tif", "webp", "ppm"])
def test_altered_images_never_raise_anything_else(tmp_path, suffix):
    """Bytes of a real file are altered; either it still decodes, or the error is ours."""
    buffer = io.BytesIO()
    picture(0, size=(20, 20)).save(buffer, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix))
    whole = buffer.getvalue()
    rng = np.random.default_rng(0)
    for _ in range(150):
        altered = bytearray(whole)
        for position in rng.integers(0, min(len(whole), 120), 2):
            altered[position] = rng.integers(256)
        try:
            _, mode, size = decoded._header(("x", bytes(altered)))
            if size[0] * size[1] < 100_000:  # an altered size may ask for gigabytes
                decoded._pixels(("x", bytes(altered)), mode in decoded.GREY_MODES, None)
        except NasproxyError:
            pass
        except Warning:  # Pillow's warnings are errors in tests only
            pass


def test_folder_mistakes(tmp_path):
    cases = iter(range(100))

    def refused(match, counts=None, change=lambda folder: None):
        folder = image_folder(tmp_path / f"case{next(cases)}", counts=counts)
        change(folder)
        with pytest.raises(NasproxyError, match=match):
            load_dataset(str(folder))

    refused(r"'cow' in test/ and not in train/", {"train": {"a": 2, "b": 2}, "test": {"a": 1, "cow": 1}})
    refused(r"holds train/: add test/", {"train": {"a": 2, "b": 2}})
    refused(r"holds test/: add train/", {"test": {"a": 2, "b": 2}})
    refused(r"train/c' holds nothing", change=lambda folder: (folder / "train" / "c").mkdir())
    refused(
        r"test/bee' holds x\.txt",
        {"train": {"bee": 2, "ant": 2}, "test": {"ant": 1}},
        lambda folder: ((folder / "test" / "bee").mkdir(), (folder / "test" / "bee" / "x.txt").write_text("")),
    )
    refused(
        r"train' must hold one folder per class, but holds the image 's\.png'",
        change=lambda folder: picture(0).save(folder / "train" / "s.png"),
    )
    refused("at least 2 classes, but 'case.*' has 1", {"train": {"a": 2}, "test": {"a": 1}})
    refused(r"but holds ant/, bee/", {"ant": {"x": 1}, "bee": {"x": 1}})


def test_folder_of_no_known_layout_says_what_is_there(tmp_path):
    with pytest.raises(NasproxyError, match="but holds nothing"):
        load_dataset(str(tmp_path))
    for i in range(7):
        (tmp_path / f"{i}.csv").write_text("")
    with pytest.raises(NasproxyError, match=r"but holds 0\.csv, 1\.csv, 2\.csv, 3\.csv, 4\.csv and 2 more"):
        load_dataset(str(tmp_path))


def test_unknown_names_and_absent_paths(tmp_path):
    with pytest.raises(NasproxyError, match=r"'cifar11'\. Did you mean 'cifar10'\?.* or a path"):
        load_dataset("cifar11")
    with pytest.raises(NasproxyError, match=r"no/such/folder' does not exist"):
        load_dataset("no/such/folder")
    (tmp_path / "data.zip").write_bytes(b"")
    with pytest.raises(NasproxyError, match=r"data\.zip"):
        load_dataset(str(tmp_path / "data.zip"))


# ---- Parquet


@pytest.mark.parametrize(
    "options", [{}, {"nested": False}, {"image": "image"}, {"image": "pixels"}, {"label": "fine_label"}]
)
def test_parquet(tmp_path, options):
    data = load_dataset(str(parquet_folder(tmp_path / "pets", **options)))
    assert (data.name, data.class_names, data.input_shape) == ("pets", ("cat", "dog"), (3, 5, 6))
    assert (len(data.train), len(data.val), data.test.labels.tolist()) == (18, 2, [1, 0, 1])
    for row in range(3):
        expected = np.asarray(Image.open(io.BytesIO(coded(100 + row)))).transpose(2, 0, 1)
        assert (data.test.images[row].numpy() == expected).all()
    same(data, load_dataset(str(tmp_path / "pets")))


def test_parquet_in_a_subfolder_in_several_files_with_validation(tmp_path):
    folder = tmp_path / "pets" / "plain_text"
    parquet_file(folder / "train-00000-of-00002.parquet", [0, 1, 1], seed=0)
    parquet_file(folder / "train-00001-of-00002.parquet", [0, 0], seed=3)
    parquet_file(folder / "validation-00000-of-00001.parquet", [1], seed=7)
    parquet_file(folder / "test-00000-of-00001.parquet", [1], seed=8)
    parquet_file(folder / "extra-00000-of-00001.parquet", [9], seed=9)
    data = load_dataset(str(tmp_path / "pets"))
    assert (data.train.labels.tolist(), data.val.labels.tolist()) == ([0, 1, 1, 0, 0], [1])
    expected = [np.asarray(Image.open(io.BytesIO(coded(i)))).transpose(2, 0, 1) for i in range(5)]
    assert (data.train.images.numpy() == np.stack(expected)).all()


def test_parquet_that_the_hub_converted(tmp_path):
    """``config/split/0000.parquet``."""
    folder = tmp_path / "pets" / "default"
    parquet_file(folder / "train" / "0000.parquet", [0, 1, 1], seed=0)
    parquet_file(folder / "train" / "0001.parquet", [0, 0], seed=3)
    parquet_file(folder / "validation" / "0000.parquet", [1], seed=7)
    parquet_file(folder / "test" / "0000.parquet", [1], seed=8)
    for place in (tmp_path / "pets", folder):
        data = load_dataset(str(place))
        assert (data.train.labels.tolist(), data.val.labels.tolist()) == ([0, 1, 1, 0, 0], [1])


def test_parquet_parts_by_any_name_are_read_and_others_counted(tmp_path):
    folder = tmp_path / "pets"
    parquet_file(folder / "train.parquet", [0, 1] * 5, seed=0)
    parquet_file(folder / "train_part2.parquet", [0, 1] * 5, seed=20)
    parquet_file(folder / "test.parquet", [1], seed=8)
    parquet_file(folder / "extra.parquet", [1], seed=9)
    data = load_dataset(str(folder))
    assert len(data.train) + len(data.val) == 20
    assert data.notes == (f"1 file of no split, such as '{folder / 'extra.parquet'}'",)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train-00000-of-00002"], "must hold all 2 files of a split, but 1 are missing, the first with the number 1"),
        (
            ["train-00000-of-00010", "train-00003-of-00010"],
            "8 are missing, the first with the number 1 beside 'train-0",
        ),
        (
            ["train-00000-of-00001", "train-00000-of-00002", "train-00001-of-00002"],
            "must be one set, but .* holds train-",
        ),
        (["train", "train-00000-of-00001"], "must be one set"),
    ],
)
def test_parquet_files_that_their_names_promise(tmp_path, names, message):
    folder = parquet_folder(tmp_path / "pets")
    (folder / "train-00000-of-00001.parquet").unlink()
    for seed, name in enumerate(names):
        parquet_file(folder / f"{name}.parquet", [0, 1] * 10, seed=100 * seed)
    with pytest.raises(NasproxyError, match=message):
        load_dataset(str(folder))


def test_parquet_without_class_names(tmp_path):
    assert load_dataset(str(parquet_folder(tmp_path / "pets", names=None))).class_names == ("0", "1")


def test_parquet_image_size_and_prefix_label(tmp_path):
    assert load_dataset(str(parquet_folder(tmp_path / "pets")), image_size=3).input_shape == (3, 3, 3)


def test_parquet_mistakes(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    cases = iter(range(100))

    def refused(match, change):
        folder = parquet_folder(tmp_path / f"case{next(cases)}")
        change(folder, folder / "train-00000-of-00001.parquet")
        with pytest.raises(NasproxyError, match=match):
            load_dataset(str(folder))

    def table(path, **columns):
        pq.write_table(pa.table(columns), path)

    good = coded(0)
    refused(r"but holds train-.*: add test-", lambda folder, train: (folder / "test-00000-of-00001.parquet").unlink())
    refused(r"a \(int64\), label \(int64\)", lambda folder, train: table(train, a=[1, 2], label=[0, 1]))
    refused(r"x \(binary\), y \(binary\)", lambda folder, train: table(train, x=[good], y=[good], label=[0]))
    refused("needs a column `label`.*has img, class", lambda folder, train: table(train, img=[good], **{"class": [0]}))
    refused("is string: number", lambda folder, train: table(train, img=[good, good], label=["a", "b"]))
    refused("1 rows of .*train.* have none", lambda folder, train: table(train, img=[good] * 3, label=[0, 1, None]))
    refused(r"train has 2", lambda folder, train: parquet_file(train, [0, 1, 2]))
    refused(r"but -1 is there|has -1", lambda folder, train: parquet_file(train, [0, 1, -1]))
    refused(
        r"row 1 of '.*train.*' has none",
        lambda folder, train: table(train, img=[good, None, good, good], label=[0, 0, 1, 1]),
    )
    refused(
        r"train.*, row 2' cannot be read",
        lambda folder, train: table(train, img=[good, good, b"x", good], label=[0, 0, 1, 1]),
    )
    refused("train.* cannot be read as Parquet", lambda folder, train: train.write_bytes(train.read_bytes()[:-100]))
    refused("train.* cannot be read as Parquet", lambda folder, train: train.write_bytes(b""))
    refused(
        r"a, b and the files before it cat, dog|cat, dog and the files before it a, b",
        lambda folder, train: parquet_file(train, [0, 1] * 3, names=("a", "b")),
    )
    refused(
        "'.*/one', '.*/two'",
        lambda folder, train: (
            parquet_folder(folder / "one"),
            parquet_folder(folder / "two"),
            [path.unlink() for path in folder.glob("*.parquet")],
        ),
    )


def test_altered_parquet_never_raises_anything_else(tmp_path):
    folder = parquet_folder(tmp_path / "pets")
    path = folder / "train-00000-of-00001.parquet"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(40):
        altered = bytearray(whole)
        for position in rng.integers(0, len(whole), 3):
            altered[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(altered))
        with contextlib.suppress(NasproxyError):
            load_dataset(str(folder))


@pytest.mark.slow
def test_cifar10_in_parquet(cifar10_folder, monkeypatch):
    """The real thing, from its own cache: about 10 s, most of it JPEG."""
    seconds = {}
    import time

    for run in ("decoded", "cached"):
        start = time.perf_counter()
        data = load_dataset("cifar10", data_dir=cifar10_folder.parent, offline=True)
        seconds[run] = time.perf_counter() - start
    assert (len(data.train), len(data.val), len(data.test)) == (45_000, 5_000, 10_000)
    assert data.class_names[:3] == ("airplane", "automobile", "bird")
    assert data.flip
    assert torch.bincount(data.val.labels).tolist() == [500] * 10
    np.testing.assert_allclose(data.mean, (0.4914, 0.4822, 0.4465), atol=2e-3)
    assert seconds["cached"] < seconds["decoded"] / 3


# ---- torchvision's layouts


def idx(path, values):
    """MNIST's format: two zero bytes, the type, the number of axes, their lengths, the values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes())


def mnist_values(split):
    rng = np.random.default_rng(len(split))
    n = {"train": 40, "t10k": 20}[split]
    return rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), (np.arange(n) % 10).astype(np.uint8)


def mnist_files(root, kind):
    for split in ("train", "t10k"):
        images, labels = mnist_values(split)
        idx(root / kind / "raw" / f"{split}-images-idx3-ubyte", images)
        idx(root / kind / "raw" / f"{split}-labels-idx1-ubyte", labels)


@pytest.mark.parametrize(("spec", "kind", "flip"), [("mnist", "MNIST", False), ("fashion_mnist", "FashionMNIST", True)])
def test_mnist(tmp_path, no_socket, spec, kind, flip):
    mnist_files(tmp_path, kind)
    for offline in (True, False):  # files that are there need no connection in either case
        data = load_dataset(spec, data_dir=tmp_path, offline=offline)
    assert (data.name, data.input_shape, data.flip) == (spec, (1, 28, 28), flip)
    assert (len(data.train), len(data.val), len(data.test)) == (30, 10, 20)
    assert (data.test.images[:, 0].numpy() == mnist_values("t10k")[0]).all()
    assert (data.test.labels.numpy() == mnist_values("t10k")[1]).all()
    assert data.class_names[3] == {"mnist": "3", "fashion_mnist": "Dress"}[spec]


def test_mnist_that_is_cut(tmp_path, no_socket):
    mnist_files(tmp_path, "MNIST")
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    for length in (0, 3, 10, 1000):
        path.write_bytes(path.read_bytes()[:length] if length else b"")
        with pytest.raises(NasproxyError, match=r"'mnist'.*MNIST/raw'"):
            load_dataset("mnist", data_dir=tmp_path, offline=True)
        mnist_files(tmp_path, "MNIST")


def pickled(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol=2))
    return hashlib.md5(path.read_bytes()).hexdigest()


def cifar_files(root, kind, monkeypatch):
    """Small batches in CIFAR's format, and torchvision's checksums of them."""
    import torchvision

    make = getattr(torchvision.datasets, kind)
    rng = np.random.default_rng(0)
    folder = root / make.base_folder
    fine = kind == "CIFAR100"
    classes = 100 if fine else 10
    lists, values = {}, {}
    for name, batches in (("train_list", make.train_list), ("test_list", make.test_list)):
        lists[name], values[name] = [], []
        for batch, _ in batches:
            data = rng.integers(0, 256, (2 * classes, 3072), dtype=np.uint8)
            labels = [i % classes for i in range(2 * classes)]
            keys = {"fine_labels": labels, "coarse_labels": [0] * len(labels)} if fine else {"labels": labels}
            lists[name].append([batch, pickled(folder / batch, {"data": data, **keys})])
            values[name].append(data)
        monkeypatch.setattr(make, name, lists[name])
    names = [f"kind {c}" for c in range(classes)]
    md5 = pickled(folder / make.meta["filename"], {make.meta["key"]: names})
    monkeypatch.setattr(make, "meta", {**make.meta, "md5": md5})
    return {name: np.concatenate(data).reshape(-1, 3, 32, 32) for name, data in values.items()}


@pytest.mark.parametrize(("spec", "kind", "classes"), [("cifar10", "CIFAR10", 10), ("cifar100", "CIFAR100", 100)])
def test_cifar(tmp_path, no_socket, monkeypatch, spec, kind, classes):
    values = cifar_files(tmp_path, kind, monkeypatch)
    data = load_dataset(spec, data_dir=tmp_path, offline=True)
    assert (data.input_shape, data.num_classes, data.flip) == ((3, 32, 32), classes, True)
    assert (data.test.images.numpy() == values["test_list"]).all()
    assert data.test.labels.tolist() == [i % classes for i in range(2 * classes)]
    assert len(data.train) + len(data.val) == len(values["train_list"])
    assert data.class_names[7] == "kind 7"


def test_cifar_with_a_wrong_checksum_is_never_unpickled(tmp_path, no_socket, monkeypatch):
    import torchvision

    cifar_files(tmp_path, "CIFAR10", monkeypatch)
    path = tmp_path / torchvision.datasets.CIFAR10.base_folder / "data_batch_3"
    path.write_bytes(path.read_bytes() + b"x")
    monkeypatch.setattr(pickle, "load", lambda *args, **kwargs: pytest.fail("unpickled"))
    with pytest.raises(NasproxyError, match=r"'cifar10' .*no intact copy is in '.*cifar-10-batches-py'"):
        load_dataset("cifar10", data_dir=tmp_path, offline=True)


def test_svhn(tmp_path, no_socket, monkeypatch):
    import scipy.io
    import torchvision

    rng = np.random.default_rng(0)
    entries, values = {}, {}
    for split, n in (("train", 40), ("test", 20)):
        url, name, _ = torchvision.datasets.SVHN.split_list[split]
        values[split] = rng.integers(0, 256, (32, 32, 3, n), dtype=np.uint8)
        scipy.io.savemat(tmp_path / name, {"X": values[split], "y": (np.arange(n) % 10 + 1)[:, None]})
        entries[split] = [url, name, hashlib.md5((tmp_path / name).read_bytes()).hexdigest()]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", {**torchvision.datasets.SVHN.split_list, **entries})
    data = load_dataset("svhn", data_dir=tmp_path, offline=True)
    assert (data.input_shape, data.class_names, data.flip) == ((3, 32, 32), tuple("0123456789"), False)
    assert (data.test.images.numpy() == values["test"].transpose(3, 2, 0, 1)).all()
    assert data.test.labels[:10].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


@pytest.mark.parametrize("spec", [name for name in DATASETS if name != "digits"])
def test_offline_and_missing(tmp_path, no_socket, spec):
    with pytest.raises(NasproxyError, match=rf"'{spec}' .*{re.escape(str(tmp_path))}.*--data-dir"):
        load_dataset(spec, data_dir=tmp_path, offline=True)
    assert list(tmp_path.iterdir()) == []


def test_no_network(tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(NasproxyError, match=r"'cifar10' could not be downloaded .*name resolution.*--data-dir"):
        load_dataset("cifar10", data_dir=tmp_path)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves tmp_path/served on this machine; yields (url, paths asked for)."""
    served = tmp_path / "served"
    served.mkdir()
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(served))

        def log_message(self, *args):
            asked.append(self.path)

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/", asked
        running.shutdown()
        thread.join()


def test_download(tmp_path, server, monkeypatch):
    import torchvision

    url, asked = server
    make = torchvision.datasets.MNIST
    mnist_files(tmp_path / "made", "MNIST")
    resources = []
    for name, _ in make.resources:
        raw = (tmp_path / "made" / "MNIST" / "raw" / name.removesuffix(".gz")).read_bytes()
        (tmp_path / "served" / name).write_bytes(gzip.compress(raw))
        resources.append((name, hashlib.md5((tmp_path / "served" / name).read_bytes()).hexdigest()))
    monkeypatch.setattr(make, "resources", resources)
    monkeypatch.setattr(make, "mirrors", [url + "gone/", url])  # the first mirror has nothing

    # A file that comes with other bytes than it should is refused and leaves nothing.
    path = tmp_path / "served" / resources[0][0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(
        NasproxyError,
        match=rf"'mnist' could not be downloaded .*404.*the checksum of the .* bytes is not {resources[0][1]}",
    ):
        load_dataset("mnist", data_dir=tmp_path / "data")
    assert list((tmp_path / "data" / "MNIST" / "raw").iterdir()) == []

    path.write_bytes(whole)
    notes = []
    data = load_dataset("mnist", data_dir=tmp_path / "data", progress=lambda *args: notes.append(args))
    assert len(data.test) == 20
    assert all(0 < done <= total for done, total, _ in notes)
    assert {note for *_, note in notes} == {f"kB of {name}" for name, _ in resources}
    num_asked = len(asked)
    same(data, load_dataset("mnist", data_dir=tmp_path / "data"))
    assert len(asked) == num_asked


def test_a_folder_of_that_name_comes_first(tmp_path, no_socket):
    image_folder(tmp_path / "fashion_mnist")
    data = load_dataset("fashion_mnist", data_dir=tmp_path, offline=True)
    assert (data.name, data.class_names, data.flip) == ("fashion_mnist", ("ant", "bee"), True)
    assert load_dataset("fashion_mnist", data_dir=tmp_path, image_size=4).input_shape == (3, 4, 4)


def test_data_dir_comes_from_the_environment(own_folders):
    image_folder(own_folders / "data" / "svhn")
    assert load_dataset("svhn", offline=True).class_names == ("ant", "bee")


def test_digits_are_not_replaced_by_a_folder(tmp_path):
    image_folder(tmp_path / "digits")
    assert load_dataset("digits", data_dir=tmp_path).num_classes == 10


def test_two_processes_decode_once(tmp_path):
    """Threads stand for processes: the lock is on a file, and each opens its own."""
    folder = image_folder(tmp_path / "bugs")
    decoding = []
    with pytest.MonkeyPatch.context() as patch:
        original = decoded._decode
        patch.setattr(decoded, "_decode", lambda *args: (decoding.append(1), original(*args)))
        results = []
        threads = [threading.Thread(target=lambda: results.append(load_dataset(str(folder)))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 4
    assert len(decoding) == 1


def test_available_memory_is_plausible():
    if not Path("/proc/meminfo").exists():
        pytest.skip("this system has no /proc/meminfo")
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < decoded._available_memory() <= total


@pytest.mark.parametrize("spec", DATASETS)
def test_every_named_data_set_is_described(spec):
    source = DATASETS[spec]
    assert source.description
    assert isinstance(source.flip, bool)


def test_module_exports():
    assert set(data.__all__) >= {"DATASETS", "Dataset", "LabeledImages", "load_dataset", "normalize", "denormalize"}
    assert named.TIMEOUT_SECONDS > 0


def test_adding_a_data_set_is_a_loader_and_a_line(tmp_path, monkeypatch):
    def stripes(name, root, offline, progress):
        images = torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1).expand(20, 1, 8, 8)
        labels = torch.arange(20) % 2
        return {"train": LabeledImages(images, labels), "test": LabeledImages(images, labels)}, ("even", "odd")

    monkeypatch.setitem(DATASETS, "stripes", DatasetSource("20 grey squares", flip=True, load=stripes))
    data = load_dataset("stripes", data_dir=tmp_path)
    assert (data.name, data.class_names, data.input_shape, data.flip) == ("stripes", ("even", "odd"), (1, 8, 8), True)
    assert len(data.val) == 2
