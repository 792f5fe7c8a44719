"""A crafted pickle in any file that is read runs nothing, and the file is named (or, where it is only kept to save time, made again)."""

import pickle

import numpy as np
import pytest
import torch

from common.backbones import build
from common.checkpoint import load, load_finished, load_training, read_facts
from common.cli.arrays import read_npz
from common.cli.errors import UserError
from common.data import masks
from common.scoring import cache
from common.scoring.own_arrays import OwnArrays


class Crafted:
    """Makes the file `ran` where it is unpickled."""

    def __init__(self, ran):
        self.ran = ran

    def __reduce__(self):
        return (open, (str(self.ran), "w"))


@pytest.fixture
def crafted(tmp_path):
    yield Crafted(tmp_path / "ran")
    assert not (tmp_path / "ran").exists(), "code of the file was run"


@pytest.fixture
def forms(crafted, tmp_path, finished):
    """name -> how the crafted object gets into a file of tensors"""

    def inside(path):
        content = torch.load(finished("whole.pt"), weights_only=True)
        torch.save(content | {"facts": content["facts"] | {"seed": crafted}}, path)

    return {
        "plain": lambda path: path.write_bytes(pickle.dumps({"state_dict": crafted})),
        "as torch saves": lambda path: torch.save({"state_dict": {"head.weight": crafted}}, path),
        "as torch saved once": lambda path: torch.save([crafted], path, _use_new_zipfile_serialization=False),
        "within a checkpoint": inside,
    }


FORMS = ("plain", "as torch saves", "as torch saved once", "within a checkpoint")


def objects(crafted):
    array = np.empty(2, object)
    array[:] = crafted
    return array


def test_the_crafted_pickle_would_run(tmp_path):
    crafted = Crafted(tmp_path / "ran")
    pickle.loads(pickle.dumps(crafted)).close()
    assert (tmp_path / "ran").exists()
    (tmp_path / "ran").unlink()
    np.save(tmp_path / "x.npy", objects(crafted))
    np.load(tmp_path / "x.npy", allow_pickle=True)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reader", [load, load_finished, load_training, read_facts])
def test_checkpoint(forms, form, reader, tmp_path):
    forms[form](tmp_path / "c.pt")
    with pytest.raises(UserError, match="c.pt is not a whole, safe checkpoint"):
        reader(tmp_path / "c.pt")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.safetensors"])
def test_start_weights(forms, form, name, tmp_path):
    forms[form](tmp_path / name)
    with pytest.raises(UserError, match=name):
        build("resnet8", 8, weights=tmp_path / name, image_size=48)


def test_cache(crafted, tmp_path, capsys):
    path = tmp_path / "key" / "penultimate.npy"
    path.parent.mkdir()
    np.save(path, objects(crafted))
    cache._seal(path, path)
    assert cache._read(path, 2, None, mapped=False) is cache._read(path, 2, None, mapped=True) is None
    assert "penultimate.npy: damaged" in capsys.readouterr().err


@pytest.mark.parametrize("reader", [read_npz, OwnArrays])
@pytest.mark.parametrize("name", ["head_weight", "another"])
def test_arrays(crafted, tmp_path, reader, name):
    np.savez(tmp_path / "a.npz", **{name: objects(crafted)})
    with pytest.raises(UserError, match=rf"a.npz: member {name}.npy is damaged: it holds Python objects"):
        reader(tmp_path / "a.npz")


def test_masks(crafted, tmp_path, capsys):
    def make(rows):
        return {"masks": np.zeros((len(rows), 4, 4), bool)}

    masks.make_masks(tmp_path, {"v": 1}, 3, (4, 4), make)
    masks.write_manifest(tmp_path, {"v": 1}, 3, (4, 4), {})
    with np.load(tmp_path / "part-00000.npz") as part:
        arrays = {name: part[name] for name in part.files}
    np.savez(tmp_path / "part-00000.npz", **arrays | {"bits": objects(crafted)})
    with pytest.raises(UserError, match="manifest.json"):
        masks.read_masks(tmp_path)
    again = masks.make_masks(tmp_path, {"v": 1}, 3, (4, 4), make)
    assert again["bits"].shape == (3, 2) and "it holds Python objects" in capsys.readouterr().err
