import hashlib
import pickle

import numpy as np
import pytest
import torchvision
from PIL import Image

from common.cli.errors import UserError
from common.data import formats
from common.data.formats import draw, folder, list_hash, svhn


def test_the_draw_is_the_smallest_hashes_of_seed_slash_name():
    names = [f"Places365_test_{k:08d}.jpg" for k in range(50)]
    rows = draw(names, 7, 0)
    keys = {name: hashlib.sha256(b"0/" + name.encode()).hexdigest() for name in names}
    assert [names[row] for row in rows] == sorted(sorted(names, key=keys.__getitem__)[:7])
    assert set(rows) < set(draw(names, 20, 0)) and rows != draw(names, 7, 1)


def test_the_draw_stays_what_was_published():
    # Written down once: if these change, published results stop being comparable.
    assert draw([f"Places365_test_{k:08d}.jpg" for k in range(1, 101)], 5, 0) == [8, 58, 87, 93, 97]


@pytest.mark.parametrize("count", [0, 6])
def test_a_draw_larger_than_the_pool_is_refused(count):
    with pytest.raises(UserError, match=f"^cannot draw {count} of 5 images$"):
        draw(list("abcde"), count, 0)


def test_the_list_hash_ignores_the_order_only():
    assert list_hash(["b", "a"]) == list_hash(["a", "b"]) == hashlib.sha256(b"a\nb\n").hexdigest() != list_hash(["ab"])


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (3, 3)).save(path)


def test_class_folders_become_labels_and_a_flat_folder_has_none(tmp_path):
    for name in ["dog/1.png", "dog/2.png", "cat/1.png"]:
        save(tmp_path / "sorted" / name)
        save(tmp_path / "flat" / name.replace("/", "_"))
    raw = folder(tmp_path / "sorted")
    assert (raw.classes, raw.labels.tolist(), raw.names) == (
        ("cat", "dog"),
        [0, 1, 1],
        ("cat/1.png", "dog/1.png", "dog/2.png"),
    )
    assert folder(tmp_path / "sorted", labelled=False).labels is None
    assert folder(tmp_path / "flat").labels is None
    save(tmp_path / "sorted" / "beside.png")
    assert folder(tmp_path / "sorted").labels is None


def test_an_empty_or_absent_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=f"^no image below {tmp_path}; extensions looked for: .*.jpg .*.png .*.webp$"):
        folder(tmp_path)
    with pytest.raises(UserError, match=f"^expected a folder of images at {tmp_path / 'x'}$"):
        folder(tmp_path / "x")


def test_svhn_agrees_with_torchvision(digits, monkeypatch):
    root, pixels, labels = digits
    raw = svhn(root, "test", {})
    assert np.array_equal(raw.items[7], pixels[..., 7]) and raw.labels[labels == 10].max() == 0
    monkeypatch.setattr(torchvision.datasets.SVHN, "_check_integrity", lambda self: True, raising=False)
    monkeypatch.setattr("torchvision.datasets.svhn.check_integrity", lambda *a: True)
    theirs = torchvision.datasets.SVHN(str(root / "svhn"), split="test", download=False)
    assert np.array_equal(theirs.data.transpose(0, 2, 3, 1), raw.items) and np.array_equal(theirs.labels, raw.labels)


def test_svhns_subset_is_the_first_of_each_digit_in_file_order(digits):
    root, pixels, labels = digits
    raw = svhn(root, "test", {"n": 20})
    first = sorted(k for digit in range(1, 11) for k in np.flatnonzero(labels == digit)[:2])
    assert (
        np.array_equal(raw.items, pixels.transpose(3, 0, 1, 2)[first]) and np.bincount(raw.labels).tolist() == [2] * 10
    )


@pytest.mark.parametrize("count", [0, 15, 50])
def test_svhns_subset_must_fit(digits, count):
    with pytest.raises(
        UserError, match=f"^svhn: n must be a multiple of 10 with n/10 images of each digit there, got {count}$"
    ):
        svhn(digits[0], "test", {"n": count})


def test_places365_is_drawn_from_names_without_their_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "PLACES365_POOL", 30)
    names = [f"Places365_test_{k:08d}.jpg" for k in range(30)]
    for name in names:
        save(tmp_path / "one" / "places365" / name)
        save(tmp_path / "two" / "places365" / "test_256" / name)
    one, two = (formats.places365(tmp_path / root, "test", {"n": 6, "seed": 2}) for root in ("one", "two"))
    expected = [names[row] for row in draw(names, 6, 2)]
    assert [path.name for path in one.items] == [path.name for path in two.items] == expected
    assert one.facts["list_sha256"] == two.facts["list_sha256"] == list_hash(expected)
    (tmp_path / "one" / "places365" / names[0]).unlink()
    with pytest.raises(
        UserError, match="29 images below .*places365, expected 30: a draw from another pool is another draw"
    ):
        formats.places365(tmp_path / "one", "test", {"n": 6})


def test_cifar100s_test_set_alone_says_that_the_training_set_is_missing(tmp_path):
    (tmp_path / "cifar100-test").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    names = np.array([f"class {k}" for k in range(100)])
    np.savez(
        tmp_path / "cifar100-test" / "cifar100-test.npz",
        images=pixels,
        fine=np.arange(6),
        coarse=np.zeros(6),
        class_names=names,
    )
    raw = formats.cifar100(tmp_path, "test", {})
    assert (
        np.array_equal(raw.items, pixels) and raw.labels.tolist() == [0, 1, 2, 3, 4, 5] and raw.classes[3] == "class 3"
    )
    with pytest.raises(
        UserError, match="^cifar100 train: .*cifar100-test.npz holds the test set only, expected .*cifar-100-python$"
    ):
        formats.cifar100(tmp_path, "train", {})


def test_a_changed_cifar_file_is_refused(tmp_path):
    with pytest.raises(
        UserError,
        match="^cifar10: expected .*cifar-10-batches-py, which is not there; python -m common.data fetch cifar10$",
    ):
        formats.cifar10(tmp_path, "test", {})
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(
        pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [0]})
    )
    with pytest.raises(
        UserError,
        match="^cifar10: a file in .* is missing or differs from its published MD5; python -m common.data verify cifar10$",
    ):
        formats.cifar10(tmp_path, "test", {})
