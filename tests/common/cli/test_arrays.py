"""A file of arrays gives exactly what was written, or one line that names file and member."""

import io
import struct
import warnings
import zipfile

import numpy as np
import pytest

from common.cli.arrays import read_npz
from common.cli.errors import UserError

ARRAYS = {
    "rows": np.arange(12, dtype=np.float32).reshape(3, 4), "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "labels": np.array([2, 0, 1]), "name": np.array("identity"), "none": np.zeros((0, 3)),
}  # fmt: skip


def written(path, save=np.savez, **arrays):
    save(path, **(arrays or ARRAYS))
    return path


def rewritten(path, change):
    """The archive with each member's bytes as `change(name, bytes)` gives them, checksums made anew."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, change(name, content))
    return path


def same(found):
    return list(found) == list(ARRAYS) and all(
        np.array_equal(found[name], array) and found[name].dtype == array.dtype for name, array in ARRAYS.items()
    )


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_was_written_is_read(tmp_path, save):
    found = read_npz(written(tmp_path / "a.npz", save))
    assert same(found)
    found["rows"] += 1  # nobody else's memory


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_changed_bit_or_a_lost_end_is_refused_or_changes_nothing(tmp_path, save):
    whole = written(tmp_path / "a.npz", save).read_bytes()
    rng, refused = np.random.default_rng(0), 0
    for k in range(300):
        damaged, path = bytearray(whole), tmp_path / "b.npz"
        if k % 3:
            damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        else:
            damaged = damaged[: rng.integers(len(whole))]
        path.write_bytes(damaged)
        try:
            assert same(read_npz(path)), k
        except UserError as error:
            assert str(error).startswith((f"{path} ", f"{path}: "))
            assert "\n" not in str(error) and len(str(error)) < len(str(path)) + 300
            refused += 1
    assert refused > 200  # the rest fell on dates and the like


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "is empty; expected an .npz of plain arrays"),
        (b"hello, world", "is not an .npz of plain arrays: no zip file"),
        (b"PK\x03\x04" + bytes(40), "is not an .npz of plain arrays: cut short"),
    ],
)
def test_what_is_no_archive_is_named(tmp_path, content, said):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.npz {said}"):
        read_npz(tmp_path / "a.npz")


def test_a_lone_array_a_folder_and_nothing_are_named(tmp_path):
    with open(tmp_path / "a.npz", "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(
        UserError, match=r"a\.npz is one array \(\.npy\), whatever its name says; expected saved scores"
    ):
        read_npz(tmp_path / "a.npz", "saved scores")
    with pytest.raises(UserError, match="is a folder; expected"):
        read_npz(tmp_path)
    with pytest.raises(UserError, match=r"no file .*none\.npz; expected"):
        read_npz(tmp_path / "none.npz")


def test_two_members_of_one_name_and_a_member_that_is_no_array_are_named(tmp_path):
    path = written(tmp_path / "a.npz")
    member = io.BytesIO()
    np.save(member, np.ones(3))
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("labels.npy", member.getvalue())
    with pytest.raises(UserError, match=r"a\.npz holds labels\.npy 2 times"):
        read_npz(path)
    with zipfile.ZipFile(written(path), "a") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(UserError, match=r"a\.npz: member notes\.txt is no array"):
        read_npz(path)
    with zipfile.ZipFile(written(path), "a") as archive:
        archive.writestr("a\nb.npy", "hello")
    with pytest.raises(UserError, match=r"a\.npz: the name of a member is damaged: 'a\\nb\.npy'"):
        read_npz(path)
    with pytest.raises(UserError, match=r"a\.npz: member labels\.npy is damaged: the magic string is not correct"):
        read_npz(rewritten(written(path), lambda name, content: b"abcdefgh" if name == "labels.npy" else content))


def with_header(content, shape, descr):
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + content[-24:]


@pytest.mark.parametrize(
    "shape, descr, said",
    [
        ((10**12, 8), "<f4", "its header says float32 of shape .*, 32000000000000 bytes, and 24 follow"),
        ((2,), "<i8", ".* 16 bytes, and 24 follow"),
        ((-3,), "<i8", "its header says int64 of shape"),
        ((3,), "|O", "it holds Python objects"),
        ((3,), "<q9", ""),
        ("three", "<i8", ""),
    ],
)
def test_a_header_that_lies_is_named(tmp_path, shape, descr, said):
    change = lambda name, content: with_header(content, shape, descr) if name == "labels.npy" else content  # noqa: E731
    with pytest.raises(UserError, match=rf"a\.npz: member labels\.npy is damaged: {said}"):
        read_npz(rewritten(written(tmp_path / "a.npz"), change))


def test_pickled_objects_are_not_opened(tmp_path):
    with pytest.raises(UserError, match="member a.npy is damaged: it holds Python objects; expected numbers or text"):
        read_npz(written(tmp_path / "a.npz", a=np.array([print], dtype=object)))


def test_a_name_with_a_space_that_does_not_break_is_one_of_ours(tmp_path):
    np.savez(tmp_path / "a.npz", **{"msp/folder:a\u00a0b": np.arange(3)})
    assert list(read_npz(tmp_path / "a.npz")) == ["msp/folder:a\u00a0b"]
