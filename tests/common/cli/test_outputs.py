"""Paths that cannot be written, or must not, are refused before the work, and nothing is left of looking."""

import os
import socket

import pytest

from common.cli.errors import UserError, ending
from common.cli.outputs import check_outputs


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def refused(*outputs, inputs=()) -> str:
    with pytest.raises((UserError, OSError)) as caught:
        check_outputs([type(outputs[0])(path) for path in outputs], inputs)
    text, code = ending(caught.value)
    assert code == 2 and "\n" not in text
    return text


@pytest.mark.parametrize(
    "name, said",
    [
        ("folder", "folder is a folder, expected the name of a file"),
        (".", ". is a folder"),
        ("/dev/null", "/dev/null is a device"),
        ("pipe", "pipe is a device, a pipe or a socket"),
        ("dangling", "dangling is a link to nowhere, which is not there"),
        ("loop", "loop is a link to loop"),
        ("dangling/x", "dangling is not a folder"),
        ("file/x/y", "file is not a folder"),
        ("~nosuchuser/x", "~nosuchuser/x: no such home folder"),
        ("new/" + "x" * 250, "x: file name too long"),
        ("x" * 300 + "/x", "x: file name too long"),
    ],
)
def test_a_path_that_cannot_be_written_is_one_line(here, name, said):
    before = sorted(path.name for path in here.rglob("*"))
    assert said in refused(here.joinpath(name) if name[0] not in "/~." else type(here)(name))
    assert sorted(path.name for path in here.rglob("*")) == before and (here / "file").read_text() == "kept"


def test_an_input_below_a_file_is_what_is_named(here):
    typed = here / "file/x.pt"
    assert refused(typed.with_name("results.csv"), inputs=[typed]).startswith(f"{typed}: ")


def test_a_socket_is_refused_and_what_can_be_written_is_not(here):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("s")
        assert "a socket" in refused(here / "s")
    check_outputs([here / "new/a", here / "file", here / "folder/b"], [here / "input"])
    assert not (here / "new").exists()


@pytest.mark.parametrize("output", ["file", "link", "folder/../file"])
def test_an_output_that_is_an_input_by_any_name_is_refused(here, output):
    assert "is an input; write elsewhere" in refused(here / output, inputs=[here / "file"])


def test_two_outputs_of_one_name_are_refused(here):
    assert "is to be written twice" in refused(here / "new", here / "folder/../new")


def test_a_disk_that_refuses_is_named_with_the_output(here, monkeypatch):
    def full(dir):
        raise OSError(28, "No space left on device", f"{dir}/tmp1234")

    monkeypatch.setattr("common.cli.outputs.tempfile.TemporaryFile", full)
    assert refused(here / "new/x") == f"{here / 'new/x'}: no space left on device"
