"""Files that are whole or not there."""

import hashlib

import pytest

from common.cli.files import read_json, sha256, write_atomically, write_json


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")

    def fail(part):
        part.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_atomically(path, fail)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_json_comes_back_and_what_is_not_whole_reads_as_empty(tmp_path):
    write_json(tmp_path / "new/x.json", {"b": [1], "a": None})
    assert read_json(tmp_path / "new/x.json") == {"b": [1], "a": None}
    (tmp_path / "cut.json").write_text('{"a": ')
    assert read_json(tmp_path / "cut.json") == read_json(tmp_path / "none.json") == {}


def test_a_digest_follows_the_content(tmp_path):
    path = tmp_path / "x"
    for text in ("one", "more"):
        path.write_text(text)
        assert sha256(path) == hashlib.sha256(text.encode()).hexdigest()
