"""Sets inside .tar files, and smaller copies."""

import os
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image, features

from common.cli.errors import UserError
from common.data.datasets import load
from common.data.folders import FolderImages
from common.data.formats import folder
from common.data.listing import extensions, is_text, look, members
from common.data.shrink import shrink
from common.data.specs import spec_of
from common.data.transforms import Transform

SMALL = Transform(16, "resize-crop")


@pytest.fixture
def both(tmp_path):
    """The same two classes of three photographs, as folders and as one .tar a class."""
    rng = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (tmp_path / "folders" / name).mkdir(parents=True)
        (tmp_path / "tars").mkdir(exist_ok=True)
        for k in range(3):
            pixels = rng.integers(0, 256, (40, 60 + k, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "folders" / name / f"{name}_{k}.JPEG", quality=90)
        with tarfile.open(tmp_path / "tars" / f"{name}.tar", "w") as archive:
            for path in sorted((tmp_path / "folders" / name).iterdir(), reverse=True):
                archive.add(path, path.name)
    return tmp_path / "folders", tmp_path / "tars"


def streamed(path):
    raw = folder(path)
    return FolderImages("mine", raw.items, raw.names, SMALL, torch.from_numpy(raw.labels), raw.classes, workers=0)


def test_a_tar_a_class_is_the_same_set_as_its_folders(both):
    unpacked, packed = (streamed(path) for path in both)
    assert (
        packed.names == unpacked.names
        and packed.classes == ("ant", "bee")
        and packed.labels.tolist() == [0, 0, 0, 1, 1, 1]
    )
    assert packed.digest == unpacked.digest
    rows = torch.tensor([4, 0, 5])
    assert torch.equal(
        torch.cat(list(packed.training_batches(rows, 2, 7)), 1),
        torch.cat(list(unpacked.training_batches(rows, 2, 7)), 1),
    )


def test_a_broken_or_compressed_tar_is_named(both):
    tar = both[1] / "ant.tar"
    with tarfile.open(both[1] / "z.tar", "w:gz") as archive:
        archive.add(tar, "inner.tar")
    with pytest.raises(UserError, match="z.tar is not an uncompressed"):
        members(both[1] / "z.tar")
    tar.write_bytes(tar.read_bytes()[:700])
    with pytest.raises(UserError, match="ant.tar"):
        list(streamed(both[1]).batches(2))


@pytest.mark.parametrize("form", [0, 1])
def test_a_smaller_copy_has_the_side_asked_for_and_another_digest_that_says_why(both, tmp_path, form):
    spec = spec_of(f"folder:{both[form]}")
    counts = shrink(spec, tmp_path, tmp_path / "small", 32, progress=False)
    assert counts == {"shrunk": 6, "copied": 0, "there already": 0}
    copy = tmp_path / "small" / both[form].name
    sizes = [Image.open(path).size for path in sorted((copy / "ant").iterdir())]
    assert sizes == [(48, 32), (49, 32), (50, 32)]
    original, small = (load(f"folder:{path}", "train", root=tmp_path, transform=SMALL) for path in (both[form], copy))
    assert (
        small.digest != original.digest and small.facts["shrunk"]["short_side"] == 32 and "shrunk" not in original.facts
    )
    (copy / "bee" / "bee_1.JPEG").unlink()
    assert shrink(spec, tmp_path, tmp_path / "small", 32, progress=False) == {
        "shrunk": 1,
        "copied": 0,
        "there already": 5,
    }
    with pytest.raises(UserError, match="holds a copy made with"):
        shrink(spec, tmp_path, tmp_path / "small", 24, progress=False)
    (copy / "shrunk.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(UserError, match="shrunk.json is damaged"):
        load(f"folder:{copy}", "train", root=tmp_path, transform=SMALL)
    with pytest.raises(UserError, match="holds a damaged shrunk.json"):
        shrink(spec, tmp_path, tmp_path / "small", 32, progress=False)


def test_images_that_are_small_already_are_copied_byte_by_byte(both, tmp_path):
    assert shrink(spec_of(f"folder:{both[0]}"), tmp_path, tmp_path / "small", 64, progress=False)["copied"] == 6
    name = "ant/ant_0.JPEG"
    assert (tmp_path / "small" / "folders" / name).read_bytes() == (both[0] / name).read_bytes()


def test_a_copy_onto_the_original_is_refused(both):
    with pytest.raises(UserError, match="a folder of its own"):
        shrink(spec_of(f"folder:{both[0]}"), both[0].parent, both[0].parent, 32, progress=False)


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (3, 3)).save(path)


def test_visible_files_are_images_by_their_extension_in_any_capitals_and_the_others_are_named(tmp_path):
    images = ["a/1.png", "a/deep/3.webp", "b/2.JPG", "b/3.Pgm", "b/4.jfif", "b/5.JPE", "b/6.tif", "c/7.ppm"]
    others = ["b/7.svg", "b/list", "notes.txt"]
    for name in [*images, *others, "a/.directory", "a/._1.png", ".hidden/4.png", "shrunk.json"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = look(tmp_path)
    assert [name for name, _ in found.images] == images and found.others == others and found.folders == ["a", "b", "c"]
    assert all(file == tmp_path / name for name, file in found.images)
    (tmp_path / "empty").mkdir()
    assert look(tmp_path).folders == ["a", "b", "c", "empty"]
    assert look(tmp_path, ["a"]).images == found.images[:2]


@pytest.mark.parametrize("ability", ["avif", "webp"])
def test_what_pillow_cannot_open_is_no_image(ability):
    assert (f".{ability}" in extensions()) == bool(features.check(ability))
    assert {".png", ".jpeg", ".pgm", ".ppm", ".bmp", ".gif"} <= extensions() and not {
        ".pdf",
        ".eps",
        ".h5",
        ".mpg",
    } & extensions()


def test_a_folder_is_visited_once_however_many_links_lead_to_it_and_its_parents_never(tmp_path):
    for name in ("id/train/a/1.png", "id/train/b/1.png", "id/test/a/9.png", "store/c/1.png"):
        write(tmp_path / name)
    train = tmp_path / "id" / "train"
    (train / "a" / "up").symlink_to("..")
    (train / "b" / "top").symlink_to(tmp_path / "id")
    (train / "0").symlink_to("a")  # sorts before the folder's own name
    (train / "c").symlink_to(tmp_path / "store" / "c")
    (tmp_path / "store" / "c" / "back").symlink_to(train)
    found = look(train)
    assert [name for name, _ in found.images] == ["a/1.png", "b/1.png", "c/1.png"]
    assert found.folders == ["a", "b", "c"]
    (tmp_path / "link").symlink_to(train)
    assert [name for name, _ in look(tmp_path / "link").images] == [name for name, _ in found.images]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    write(tmp_path / "a" / "1.png")
    scan = os.scandir

    def closed(path):
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(UserError, match=f"^{tmp_path}/a cannot be read \\(Permission denied\\)$"):
        look(tmp_path)


def test_names_that_are_no_text_are_files_like_others(tmp_path):
    write(tmp_path / "a.png")
    os.rename(os.fsencode(tmp_path / "a.png"), os.fsencode(tmp_path) + b"/\xe9.png")
    (pair,) = look(tmp_path).images
    assert pair[0] == "\udce9.png" and not is_text(pair[0]) and is_text("é.png") and pair[1].read_bytes()
