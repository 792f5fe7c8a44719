"""Sets inside .tar files, and smaller copies."""

import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from common.cli.errors import UserError
from common.data.datasets import load
from common.data.folders import FolderImages
from common.data.formats import folder
from common.data.listing import members
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


def test_images_that_are_small_already_are_copied_byte_by_byte(both, tmp_path):
    assert shrink(spec_of(f"folder:{both[0]}"), tmp_path, tmp_path / "small", 64, progress=False)["copied"] == 6
    name = "ant/ant_0.JPEG"
    assert (tmp_path / "small" / "folders" / name).read_bytes() == (both[0] / name).read_bytes()


def test_a_copy_onto_the_original_is_refused(both):
    with pytest.raises(UserError, match="a folder of its own"):
        shrink(spec_of(f"folder:{both[0]}"), both[0].parent, both[0].parent, 32, progress=False)
