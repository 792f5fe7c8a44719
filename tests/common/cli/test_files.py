"""Files that are whole or not there."""

import errno
import fcntl
import hashlib
import os

import pytest
import torch

from common.cli import files
from common.cli.files import free_name, read_json, sha256, write_atomically, write_json


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")

    def fail(part):
        part.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_atomically(path, fail)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "write", [lambda part: torch.save(torch.zeros(10**6), part), lambda part: part.write_bytes(bytes(2 * 10**6))]
)
def test_a_disk_that_takes_no_more_is_told_by_the_path_whoever_writes(tmp_path, small_files, write):
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(OSError) as caught:
        write_atomically(path, write)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_another_file_that_fails_meanwhile_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "x", lambda part: (tmp_path / "source").read_text())
    assert caught.value.filename == str(tmp_path / "source")


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch/x").write_text("old")
    (tmp_path / "link").symlink_to("scratch/x")
    write_atomically(tmp_path / "link", lambda part: part.write_text("new"))
    assert (tmp_path / "link").is_symlink() and (tmp_path / "scratch/x").read_text() == "new"


def test_a_free_name_is_the_first_that_nothing_bears_not_even_a_dangling_link(tmp_path):
    assert free_name(tmp_path / "x") == tmp_path / "x.1"
    (tmp_path / "x.1").mkdir(), (tmp_path / "x.2").symlink_to("nowhere")
    assert free_name(tmp_path / "x") == tmp_path / "x.3"


def test_json_that_is_there_and_cannot_be_read_is_no_missing_file(tmp_path, monkeypatch):
    def broken(self):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("common.cli.files.read_plain", broken)
    with pytest.raises(OSError, match="Input/output error"):
        read_json(tmp_path / "x.json")


def test_json_comes_back_and_what_is_not_whole_reads_as_empty(tmp_path):
    write_json(tmp_path / "new/x.json", {"b": [1], "a": None})
    assert read_json(tmp_path / "new/x.json") == {"b": [1], "a": None}
    (tmp_path / "cut.json").write_text('{"a": ')
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "deep.json").write_text('{"a": ' + "[" * 100_000)
    for name in ("cut.json", "list.json", "deep.json", "none.json", "cut.json/none.json"):
        assert read_json(tmp_path / name) == {}


def test_a_digest_follows_the_content(tmp_path):
    path = tmp_path / "x"
    for text in ("one", "more"):
        path.write_text(text)
        assert sha256(path) == hashlib.sha256(text.encode()).hexdigest()


def test_parts_of_the_dead_are_taken_away_by_the_next_who_writes_there_and_those_of_the_living_stay(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(files, "_swept", set())
    for name in (".x.npz.7.part", ".y.8.part", ".y.part", "y.8.part"):
        (tmp_path / name).write_text("half")
    with open(tmp_path / ".y.8.part") as living:
        fcntl.flock(living, fcntl.LOCK_EX)
        write_atomically(tmp_path / "z", lambda part: part.write_text("whole"))
    assert {path.name for path in tmp_path.iterdir()} == {".y.8.part", ".y.part", "y.8.part", "z"}


def test_a_part_is_locked_while_it_is_written(tmp_path):
    def write(part):
        part.write_text("half")
        files.sweep(tmp_path)
        part.write_text("whole")

    write_atomically(tmp_path / "x", write)
    assert (tmp_path / "x").read_text() == "whole"


def test_a_pipe_is_not_read_for_ever(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="a pipe or a socket, expected a file"):
        files.read_plain(tmp_path / "pipe")
