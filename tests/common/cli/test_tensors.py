"""Files of tensors: what is plain is read, what would run code is named and not opened."""

import argparse
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from common.cli.errors import UserError
from common.cli.tensors import Damaged, is_whole, read_tensors


class Runs:
    def __reduce__(self):
        return (print, ("code ran",))


def stored(path, beside):
    torch.save({"weights": torch.arange(3.0), "beside": beside}, path)
    return path


@pytest.mark.parametrize(
    "beside", [argparse.Namespace(lr=0.1), np.float64(93.1), np.float32(0.5), np.int64(3), {"a": [1, None]}]
)
def test_what_training_scripts_keep_beside_weights_is_read(tmp_path, beside):
    found = read_tensors(stored(tmp_path / "w.pt", beside), "weights")
    assert found["beside"] == beside and found["weights"].tolist() == [0, 1, 2]


@pytest.mark.skipif(torch.__version__.startswith(("2.4", "2.5")), reason="takes no other names of a class")
def test_numbers_of_numpy_1_are_read(tmp_path):
    path = stored(tmp_path / "w.pt", np.float64(1.5))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content.replace(b"numpy._core.", b"numpy.core."))
    assert read_tensors(path, "weights")["beside"] == 1.5


@pytest.mark.parametrize(
    "beside, name",
    [(Runs(), "print"), (Path("x"), "pathlib.PosixPath"), (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear")],
)
def test_an_object_of_another_class_is_named_and_not_opened(tmp_path, capsys, beside, name):
    with pytest.raises(
        Damaged, match=rf"w\.pt is not weights: it holds a .*{name}, which is not opened, for that may run code"
    ):
        read_tensors(stored(tmp_path / "w.pt", beside), "weights")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "the file is empty"),
        (b"PK\x03\x04" + bytes(40), "it is cut short"),
        (b"hello, world", ""),
        (pickle.dumps(Runs()), ""),
        (bytes(100), ""),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, capsys, content, said):
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    with pytest.raises(Damaged) as error:
        read_tensors(path, "a file of weights")
    assert str(error.value).startswith(f"{path} is not a file of weights: {said}") and "\n" not in str(error.value)
    assert "https" not in str(error.value) and capsys.readouterr() == ("", "")
    with pytest.raises(Damaged, match="is a folder; expected a file of weights"):
        read_tensors(tmp_path, "a file of weights")


def test_a_file_that_cannot_be_read_now_is_another_matter(tmp_path, monkeypatch):
    path = stored(tmp_path / "w.pt", None)
    for error in (OSError(5, "Input/output error"), MemoryError(), RuntimeError("can't allocate memory: 9 bytes")):

        def broken(*_, error=error, **__):
            raise error

        monkeypatch.setattr(torch, "load", broken)
        with pytest.raises(UserError, match=r"w\.pt cannot be read \(.*\); it was left as it is") as raised:
            read_tensors(path, "weights")
        assert not isinstance(raised.value, Damaged) and isinstance(raised.value.__cause__, (OSError, MemoryError))


def test_a_flipped_bit_shows_in_the_archives_checksums(tmp_path):
    path = stored(tmp_path / "w.pt", None)
    assert is_whole(path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(3.0).numpy().tobytes()) + 5] ^= 1
    path.write_bytes(content)
    assert not is_whole(path) and not is_whole(tmp_path / "none")
