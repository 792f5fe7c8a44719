"""A tar is read to its end, or refused: nothing of it is left out in silence."""

import tarfile

import numpy as np
import pytest

from common.cli.errors import UserError
from common.data.fetch import unpack
from common.data.tars import entries, read_member

CONTENTS = {"a.jpg": bytes(range(200)) * 3, "deep/b.jpg": b"", "c.jpg": b"x" * 1024}


def written(path, mode="w", names=tuple(CONTENTS)):
    import io

    with tarfile.open(path, mode) as archive:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = len(CONTENTS[name])
            archive.addfile(entry, io.BytesIO(CONTENTS[name]))
    return path


def read(tar):
    return {entry.name: read_member(tar, entry.name, entry.offset_data, entry.size) for entry in entries(tar)}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_member_is_read_in_any_form(tmp_path, monkeypatch, form):
    monkeypatch.setattr(tarfile.TarFile, "format", form)
    assert read(written(tmp_path / "a.tar")) == CONTENTS


def test_a_tar_cut_anywhere_is_refused_up_to_its_two_blocks_of_zeros(tmp_path):
    whole = written(tmp_path / "a.tar").read_bytes()
    needed = 512 + 1024 + 512 + 512 + 1024 + 2 * 512
    for length in (*range(0, needed, 128), needed - 1):
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut\.tar is not an uncompressed, whole \.tar \(") as error:
            entries(tmp_path / "cut.tar")
        assert "\n" not in str(error.value)
    (tmp_path / "cut.tar").write_bytes(whole[:needed])  # blocks behind the end are padding
    assert read(tmp_path / "cut.tar") == CONTENTS


def test_a_flipped_bit_of_a_header_is_refused_wherever_it_stands(tmp_path):
    whole, rng = written(tmp_path / "a.tar").read_bytes(), np.random.default_rng(0)
    for start in (0, 1536, 2048):
        for at in rng.integers(start, start + 500, size=12).tolist():
            damaged = bytearray(whole)
            damaged[at] ^= 1 << int(rng.integers(8))
            (tmp_path / "b.tar").write_bytes(damaged)
            with pytest.raises(UserError, match=r"b\.tar"):
                entries(tmp_path / "b.tar")


def test_a_second_archive_behind_the_first_and_two_members_of_one_name_are_refused(tmp_path):
    whole = written(tmp_path / "a.tar").read_bytes()
    (tmp_path / "two.tar").write_bytes(whole + whole)
    with pytest.raises(UserError, match="something follows its end"):
        entries(tmp_path / "two.tar")
    with pytest.raises(UserError, match=r"twice\.tar holds a\.jpg 2 times; expected one member a name"):
        entries(written(tmp_path / "twice.tar", names=("a.jpg", "c.jpg", "a.jpg")))
    with pytest.raises(UserError, match="not an uncompressed, whole"):
        entries(written(tmp_path / "z.tar", "w:gz"))


def test_a_tar_that_was_cut_after_it_was_listed_is_named(tmp_path):
    tar = written(tmp_path / "a.tar")
    last = entries(tar)[-1]
    tar.write_bytes(tar.read_bytes()[: last.offset_data + 24])
    with pytest.raises(UserError, match=r"a\.tar!c\.jpg: 24 of 1024 bytes are left"):
        read_member(tar, last.name, last.offset_data, last.size)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_download_that_is_damaged_is_not_unpacked(tmp_path, mode):
    tar = written(tmp_path / "set.tar", mode)
    whole = tar.read_bytes()
    unpack(tar, tmp_path / "whole")
    assert (tmp_path / "whole/c.jpg").read_bytes() == CONTENTS["c.jpg"]
    damaged = bytearray(whole)
    damaged[1600 if mode == "w" else len(whole) // 2] ^= 1  # the header in the middle
    for content in (whole[: 1536 if mode == "w" else len(whole) - 9], damaged):
        tar.write_bytes(content)
        with pytest.raises(UserError, match=r"set\.tar does not unpack"):
            unpack(tar, tmp_path / "none")
        assert not (tmp_path / "none").exists()
