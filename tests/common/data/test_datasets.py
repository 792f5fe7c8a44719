import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from common.cli.errors import UserError
from common.data import datasets, folders
from common.data.datasets import load
from common.data.encodings import re_encoded
from common.data.folders import FolderImages
from common.data.formats import draw
from common.data.images import Images
from common.data.specs import spec_of
from common.data.transforms import DFB, Transform


@pytest.mark.parametrize(
    "name, split, text",
    [
        ("sun397", "test", r"unknown data set 'sun397'; known: cifar10, cifar100, .*folder:PATH"),
        ("isun", "train", r"isun has no split 'train'; it has test"),
        (
            "tiny-imagenet-boxes",
            "test",
            r"tiny-imagenet-boxes has no split 'test'; it has boxes; it is for localisation only and cannot be an OOD set",
        ),
        ("svhn:m=5", "test", r"svhn takes the options n, encode, got 'm'"),
        ("svhn:n=ten", "test", r"svhn: n must be a whole number, got 'ten'"),
        ("textures:n=5", "test", r"textures takes no option, got 'n'"),
        ("textures:encode=jpeg75", "test", r"textures takes no option, got 'encode'"),
        ("cifar10:encode=gif", "test", r"encode must be jpegQ or webpQ with Q in \[1, 100\], got 'gif'"),
        ("svhn:n", "test", r"data set 'svhn:n': expected NAME:option=value,option=value"),
        ("folder:", "test", r"folder: needs a path, as in folder:my/images"),
        ("shapes-of-nothing", "test", r"unknown data set 'shapes-of-nothing'; known: cifar10"),
    ],
)
def test_bad_names_are_answered_with_what_was_expected(name, split, text, tmp_path):
    with pytest.raises(UserError, match=f"^{text}"):
        load(name, split, root=tmp_path)


def test_a_limit_must_be_positive(tmp_path):
    with pytest.raises(UserError, match="^limit must be >= 1, got 0$"):
        load("isun", "test", root=tmp_path, limit=0)


def test_a_wrong_count_stops_the_loading(noise, small, tmp_path):
    small("isun", test=3)
    for k in range(2):
        noise(f"isun/{k}.jpeg", seed=k)
    with pytest.raises(UserError, match="^isun test has 2 images, expected 3; see python -m common.data verify isun$"):
        load("isun", "test", root=tmp_path)


def test_a_loaded_set_says_what_it_is(noise, small, tmp_path):
    small("textures-10", test=4)
    for k in range(4):
        noise(f"textures-10/{'ab'[k % 2]}/{k}.webp", size=(64 + k, 70), seed=k)
    images = load("textures-10", "test", root=tmp_path)
    assert isinstance(images, Images) and images.size_px == (32, 32) and len(images) == 4 and images.labels is None
    transform = {"size_px": 32, "rule": "resize-crop", "resize_px": 32, "interpolation": "bilinear"}
    assert images.facts == {
        "set": "Textures-10 (stand-in)",
        "split": "test",
        "encoding": "WEBP",
        "transform": transform,
        "benchmark": False,
    }
    assert load("textures-10", "test", root=tmp_path, transform=DFB).size_px == (128, 128)


def test_what_does_not_fit_into_memory_is_streamed_with_the_same_pixels(noise, small, tmp_path, monkeypatch):
    small("isun", test=3)
    for k in range(3):
        noise(f"isun/{k}.jpeg", seed=k)
    whole = load("isun", "test", root=tmp_path)
    monkeypatch.setattr(datasets, "IN_MEMORY_BYTES", 3 * 3 * 32 * 32 - 1)
    parts = load("isun", "test", root=tmp_path)
    assert isinstance(parts, FolderImages) and whole.facts.items() <= parts.facts.items()
    assert torch.equal(torch.cat(list(parts.batches(2))), whole.pixels)


def test_of_images_that_nobody_will_ask_for_no_content_is_hashed(noise, tmp_path, monkeypatch):
    for k in range(3):
        noise(f"mine/{k}.png", size=(80, 80), seed=k)
    name, how = f"folder:{tmp_path / 'mine'}", {"root": tmp_path, "transform": Transform(72)}
    usual = load(name, "test", **how)
    monkeypatch.setattr(folders, "file_keys", None)
    quick = load(name, "test", identify=False, **how)
    assert torch.equal(next(quick.batches(3)), next(usual.batches(3)))
    assert len(usual.seen) == len(usual.keys) == 3 and quick.seen == {} and quick.keys == ()
    assert quick.digest != usual.digest  # never taken for one of the content


def test_large_images_are_streamed_however_few(noise, small, tmp_path):
    small("isun", test=1)
    noise("isun/1.jpeg")
    assert isinstance(load("isun", "test", root=tmp_path, transform=Transform(64, "squeeze")), Images)
    assert isinstance(load("isun", "test", root=tmp_path, transform=Transform(65, "squeeze")), FolderImages)


def test_a_part_of_an_unlabelled_set_is_the_published_draw(noise, small, tmp_path):
    small("isun", test=9)
    for k in range(9):
        noise(f"isun/{k}.jpeg", seed=k)
    whole, part = load("isun", "test", root=tmp_path), load("isun", "test", root=tmp_path, limit=4, seed=5)
    assert torch.equal(part.pixels, whole.pixels[draw([f"{k}.jpeg" for k in range(9)], 4, 5)])
    assert (
        part.facts["limit"] == 4
        and part.facts["limit_seed"] == 5
        and not part.facts["benchmark"]
        and whole.facts["benchmark"]
    )
    assert load("isun", "test", root=tmp_path, limit=9).digest == whole.digest


def test_a_part_of_a_labelled_set_is_balanced(noise, tmp_path):
    for k in range(12):
        noise(f"mine/{'ab'[k >= 9]}/{k:02d}.png", seed=k)
    part = load(f"folder:{tmp_path / 'mine'}", "test", root=tmp_path, limit=6, seed=1)
    assert part.labels.bincount().tolist() == [3, 3] and part.classes == ("a", "b")


def test_a_folder_with_splits_is_read_split_by_split(noise, tmp_path):
    for k in range(4):
        noise(f"mine/{'train' if k else 'test'}/{'ab'[k % 2]}/{k}.png", seed=k)
    name = f"folder:{tmp_path / 'mine'}"
    assert len(load(name, "train", root=tmp_path)) == 3 and len(load(name, "test", root=tmp_path)) == 1
    for k in range(2):
        noise(f"only/train/{k}.png")
    with pytest.raises(UserError, match="^expected a folder of images at .*only/test$"):
        load(f"folder:{tmp_path / 'only'}", "test", root=tmp_path)


def test_generated_sets_have_no_row_and_pass_the_transform():
    with pytest.raises(UserError, match="^shapes is generated: there are no files of it to list, fetch or verify$"):
        spec_of("shapes")
    shapes = pytest.importorskip("common.data.shapes")
    whole = load("shapes-noise", "test", root=Path("nowhere"), limit=3)
    assert whole.digest == shapes.load("shapes-noise", "test", 3).digest
    assert load("shapes-noise", "test", root=Path("nowhere"), limit=3, transform=DFB).size_px == (128, 128)


def test_a_folders_path_is_not_below_the_root(noise, tmp_path, monkeypatch):
    noise("mine/1.png")
    monkeypatch.chdir(tmp_path)
    assert len(load("folder:mine", "test", root=tmp_path / "elsewhere")) == 1
    assert spec_of("folder:mine").is_benchmark is False


def test_boxes_go_with_their_images(noise, small, tmp_path):
    small("tiny-imagenet-boxes", boxes=2)
    for k in range(2):
        noise(f"tiny-imagenet-boxes/images/val_{k}.JPEG", size=(64, 64), seed=k)
    header = "file,wordnet_id,cifar10_class,x0,y0,x1,y1"
    (tmp_path / "tiny-imagenet-boxes" / "boxes.csv").write_text(
        f"{header}\nval_1.JPEG,n1,bird,0,19,63,47\nval_0.JPEG,n2,truck,1,2,3,4\n"
    )
    images = load("tiny-imagenet-boxes", "boxes", root=tmp_path)
    assert images.size_px == (64, 64) and images.facts["boxes"] == [[0, 19, 63, 47], [1, 2, 3, 4]]
    assert [images.classes[label] for label in images.labels] == ["bird", "truck"]
    first = np.asarray(Image.open(tmp_path / "tiny-imagenet-boxes" / "images" / "val_1.JPEG"))
    assert np.array_equal(images.pixels[0].permute(1, 2, 0).numpy(), first)


def test_a_corrupt_image_is_named(noise, small, tmp_path):
    small("isun", test=1)
    path = noise("isun/1.jpeg")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match="1.jpeg does not decode as an image"):
        load("isun", "test", root=tmp_path)


SIZES = pytest.mark.parametrize("size", [Transform(32), Transform(72)], ids=["in memory", "streamed"])


@pytest.fixture
def mine(noise, tmp_path):
    """mine("test/b/1.png", ...): these files, below the folder that is returned as a set's name."""

    def make(*names: str) -> str:
        for k, name in enumerate(names):
            noise(f"mine/{name}", size=(80, 80), seed=k)
        return f"folder:{tmp_path / 'mine'}"

    return make


@SIZES
@pytest.mark.parametrize("split", ["test", "val"])
def test_every_split_is_numbered_by_the_checkpoints_classes_whatever_its_folders(mine, tmp_path, size, split):
    name = mine(f"{split}/b/1.png", f"{split}/c/1.png", f"{split}/c/2.png", "train/a/1.png")
    (tmp_path / "mine" / split / "a").mkdir()
    how = {"root": tmp_path, "transform": size}
    assert load(name, "test", classes=["a", "b", "c"], **how).labels.tolist() == [1, 2, 2]
    other = load(name, "test", classes=["c", "a", "b"], **how)
    assert other.labels.tolist() == [2, 0, 0] and other.classes == ("c", "a", "b")
    assert other.digest != load(name, "test", classes=["a", "b", "c"], **how).digest
    assert load(name, "test", **how).labels.tolist() == [1, 2, 2]


def test_classes_in_tars_are_numbered_by_name_too(mine, tmp_path):
    mine("b/1.png", "a/1.png", "a/2.png")
    (tmp_path / "tars").mkdir()
    for name in "ab":
        with tarfile.open(tmp_path / "tars" / f"{name}.tar", "w") as archive:
            archive.add(tmp_path / "mine" / name, ".")
    images = load(f"folder:{tmp_path / 'tars'}", "test", root=tmp_path, classes=["b", "a"])
    assert images.labels.tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    "files, said",
    [
        (["b/1.png", "c/1.png"], "lacks the class a .*expected the checkpoint's 3, a, b, c$"),
        (
            ["a/1.png", "b/1.png", "c/1.png", "dog/1.png"],
            "has the class dog, which the checkpoint does not know; expected",
        ),
        (
            ["a/1.png"],
            "has no labels: it has one class folder alone, a, expected two classes or more; expected the checkpoint's 3",
        ),
        (["images/1.png"], "has the class images, which the checkpoint does not know"),
        (["a/1.png", "b/1.png", "c/1.png", "9.png"], "has no labels: 9.png lies beside the class folders a, b, c"),
    ],
)
def test_other_classes_than_the_checkpoints_are_refused_by_name(mine, tmp_path, files, said):
    with pytest.raises(UserError, match=f"^folder:.*mine test {said}"):
        load(mine(*(f"test/{file}" for file in files)), "test", root=tmp_path, classes=["a", "b", "c"])


def test_a_flat_test_folder_has_no_accuracy_and_is_scored_all_the_same_with_a_word(mine, tmp_path, capsys):
    assert load(mine("test/1.png"), "test", root=tmp_path, classes=["a", "b"]).labels is None
    assert (
        "mine test has no labels, so no accuracy is counted on it: its images lie in one flat folder"
        in capsys.readouterr().err
    )


def test_named_and_generated_sets_are_numbered_by_name_too(digits, tmp_path):
    root, names = digits[0], [str(digit) for digit in range(10)]
    plain, turned = (load("svhn:n=20", "test", root=root, classes=order) for order in (names, names[::-1]))
    assert torch.equal(turned.labels, 9 - plain.labels) and plain.digest == load("svhn:n=20", "test", root=root).digest
    with pytest.raises(UserError, match="^svhn:n=20 test lacks the class ten "):
        load("svhn:n=20", "test", root=root, classes=[*names, "ten"])
    with pytest.raises(UserError, match="^shapes has the classes disc, ring, .*, expected the checkpoint's 2, a, b$"):
        load("shapes", "test", root=tmp_path, limit=8, classes=["a", "b"])


@pytest.mark.parametrize(
    "files, said",
    [
        (
            ["1.png", "2.png"],
            "has no labels to train on: its images lie in one flat folder, expected a folder for each class$",
        ),
        (
            ["a/1.png", "a/2.png"],
            "has no labels to train on: it has one class folder alone, a, expected two classes or more$",
        ),
        (
            ["a/1.png", "b/1.png", "c.png"],
            "has no labels to train on: c.png lies beside the class folders a, b, expected",
        ),
        (["a/1.png", "b/1.png", "c/1.txt"], "has no image to train on of the class c$"),
    ],
)
def test_each_cause_of_labels_that_are_missing_has_its_message(mine, tmp_path, files, said):
    name = mine(*(f"train/{file}" for file in files if file.endswith(".png")))
    for file in files:
        if file.endswith(".txt"):
            (tmp_path / "mine" / "train" / file).parent.mkdir()
            (tmp_path / "mine" / "train" / file).touch()
    with pytest.raises(UserError, match=f"^folder:.*mine {said}"):
        datasets.training_images(name, Transform(32), root=tmp_path)


def test_files_left_out_are_counted_with_an_example_and_said_once(mine, tmp_path, capsys):
    name = mine("1.png")
    for file in ("notes.txt", "2.svg"):
        (tmp_path / "mine" / file).touch()
    for _ in range(2):
        assert len(load(name, "test", root=tmp_path)) == 1
    said = f"note: {tmp_path}/mine: 2 files are left out, which are no images by their extension, as 2.svg\n"
    assert capsys.readouterr().err == said


@SIZES
def test_names_that_are_no_text_and_a_slash_at_the_end_change_nothing(mine, tmp_path, size):
    name = mine("a/1.png", "b/1.png", "b/2.png")
    os.rename(tmp_path / "mine/b/2.png", os.fsencode(tmp_path) + b"/mine/b/\xe9.png")
    whole = load(name, "test", root=tmp_path, transform=size)
    assert len(whole) == 3 and whole.digest == load(name + "/", "test", root=tmp_path, transform=size).digest
    assert len(load(name, "test", root=tmp_path, transform=size, limit=2)) == 2
    flat = load(f"{name}/b", "test", root=tmp_path, transform=size, limit=1)
    assert len(flat) == 1 and flat.labels is None
    os.rename(tmp_path / "mine/a", os.fsencode(tmp_path) + b"/mine/\xe9")
    with pytest.raises(UserError, match="must have Unicode text as its name"):
        load(name, "test", root=tmp_path, transform=size, to_train_on=True)


@SIZES
@pytest.mark.parametrize("fault", ["cut", "empty", "gone"])
def test_a_file_that_does_not_decode_stops_or_is_left_out_named_and_counted(mine, tmp_path, size, fault, capsys):
    name, path = mine("a/1.png", "a/2.png", "b/1.png", "b/2.png"), tmp_path / "mine/a/2.png"
    content = path.read_bytes()
    path.unlink()
    if fault == "gone":
        path.symlink_to("nothing.png")
    else:
        path.write_bytes(content[:200] if fault == "cut" else b"")
    how = {"root": tmp_path, "transform": size}
    with pytest.raises(UserError, match="mine/a/2.png"):
        list(load(name, "train", **how).batches(4))
    left = load(name, "train", on_corrupt="skip", to_train_on=True, **how)
    path.unlink()
    assert torch.equal(torch.cat(list(left.batches(2))), torch.cat(list(load(name, "train", **how).batches(2))))
    assert left.labels.tolist() == [0, 1, 1] and left.facts["left_out"] == 1
    said = capsys.readouterr().err
    assert "mine/a/2.png" in said and "left out of" in said and "(1 of 4 images)" in said


def test_where_no_file_decodes_nothing_is_left_to_skip_to(mine, tmp_path):
    name = mine("a/1.png")
    (tmp_path / "mine/a/1.png").write_bytes(b"")
    with pytest.raises(UserError, match="no image decodes; .*1.png"):
        load(name, "test", root=tmp_path, on_corrupt="skip")


def test_a_class_that_loses_all_its_images_is_not_trained_on(mine, tmp_path):
    name = mine("a/1.png", "b/1.png", "c/1.png")
    (tmp_path / "mine/b/1.png").write_bytes(b"")
    with pytest.raises(UserError, match="has no image to train on of the class b$"):
        load(name, "train", root=tmp_path, on_corrupt="skip", to_train_on=True)


def test_a_benchmark_without_one_of_its_files_is_no_benchmark(noise, small, tmp_path):
    small("isun", test=2)
    noise("isun/1.jpeg")
    noise("isun/2.jpeg").write_bytes(b"")
    images = load("isun", "test", root=tmp_path, on_corrupt="skip")
    assert len(images) == 1 and not images.facts["benchmark"]


@pytest.fixture
def without_training_batches(monkeypatch):
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "train_list", [])


def test_cifar10s_test_set_is_torchvisions_and_its_control_sets_follow_from_it(
    real_cifar10_test, without_training_batches
):
    theirs = torchvision.datasets.CIFAR10(str(real_cifar10_test), train=False, download=False)
    ours = load("cifar10", "test", root=real_cifar10_test)
    assert np.array_equal(ours.pixels.permute(0, 2, 3, 1).numpy(), theirs.data)
    assert ours.labels.tolist() == theirs.targets and list(ours.classes) == theirs.classes
    part = load("cifar10:encode=jpeg75", "test", root=real_cifar10_test, limit=50)
    plain = load("cifar10", "test", root=real_cifar10_test, limit=50)
    expected = re_encoded(plain.pixels.permute(0, 2, 3, 1).numpy(), "jpeg75")
    assert np.array_equal(part.pixels.permute(0, 2, 3, 1).numpy(), expected) and torch.equal(part.labels, plain.labels)
    assert (
        part.facts["set"] == "CIFAR-10 (encode=jpeg75)"
        and part.facts["encoding"] == "jpeg75"
        and not part.facts["benchmark"]
    )
    large = load("cifar10", "test", root=real_cifar10_test, limit=50, transform=Transform(40, "squeeze"))
    assert torch.equal(large.labels, plain.labels) and large.size_px == (40, 40)


@pytest.mark.parametrize("split", ["train", "test"])
def test_all_of_cifar10_is_torchvisions(whole_cifar10, split):
    theirs = torchvision.datasets.CIFAR10(str(whole_cifar10), train=split == "train", download=False)
    ours = load("cifar10", split, root=whole_cifar10)
    assert (
        np.array_equal(ours.pixels.permute(0, 2, 3, 1).numpy(), theirs.data) and ours.labels.tolist() == theirs.targets
    )


def test_real_isun_and_the_stand_in_load(real_folders):
    images = load("isun", "test", root=real_folders)
    assert len(images) == 8_925 and images.facts["benchmark"] and images.facts["set"] == "iSUN"
    assert load("textures-10", "test", root=real_folders).facts["set"] == "Textures-10 (stand-in)"
