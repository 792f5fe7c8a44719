"""How bad input ends: one line on stderr and exit code 2; a lost fellow process 1; anything else is a fault of ours and stays a traceback."""

import os
import signal
import warnings

import pytest
import torch

from common.cli.errors import UserError, command, ending, group, unknown
from common.cli.signals import Interrupted


def ends(error: BaseException) -> int:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        command(main)
    return stop.value.code


def test_a_user_error_is_a_value_error_that_lists_what_is_known():
    error = unknown("set", "x", ("a", "b"))
    assert isinstance(error, UserError) and isinstance(error, ValueError)
    assert str(error) == "unknown set 'x'; known: a, b"


def test_bad_input_is_one_line_and_code_two(capsys, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert ends(UserError("lr must be >= 0, got -1")) == 2
    assert capsys.readouterr() == ("", "error: lr must be >= 0, got -1\n")


def test_a_warning_is_one_line_without_a_path(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", None)
    command(lambda: None)
    assert warnings.formatwarning("few images", UserWarning, "file.py", 3, "code") == "warning: few images\n"
    assert warnings.formatwarning("old name", DeprecationWarning, "file.py", 3) == "DeprecationWarning: old name\n"


def test_another_process_says_which_it_is(capsys, monkeypatch, started_as):
    started_as(3, 4)
    monkeypatch.setattr("common.cli.errors.time.sleep", lambda seconds: None)
    assert ends(UserError("no image")) == 2
    assert capsys.readouterr().err == "error: process 3: no image\n"


def test_a_lost_fellow_process_is_one_line_and_code_one(capsys, started_as):
    started_as(0, 2)
    assert ends(RuntimeError("gloo: Connection closed by peer\nmore")) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "another process is gone" in said and "more" not in said


@pytest.mark.parametrize("error", [ValueError("ours"), RuntimeError("Connection of one process alone")])
def test_a_fault_of_ours_keeps_its_traceback(error, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)

    def main() -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        command(main)


def test_an_interrupt_ends_as_a_shell_expects():
    assert ends(KeyboardInterrupt()) == 130


@pytest.mark.parametrize(
    "error, said",
    [
        (PermissionError(13, "Permission denied", "runs/a"), "runs/a: permission denied"),
        (OSError(28, "No space left on device"), "no space left on device"),
        (OSError(18, "Invalid cross-device link", "a", None, "b"), "b: invalid cross-device link"),
        (OSError("broken data stream"), "broken data stream"),
        (FileNotFoundError(2, "No such file or directory", b"a"), "a: no such file or directory"),
        (MemoryError("Unable to allocate 1 TiB"), "out of memory (Unable to allocate 1 TiB); try smaller"),
        (torch.OutOfMemoryError("CUDA out of memory.\nmore"), "out of memory (CUDA out of memory.); try smaller"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory (Default"),
    ],
)
def test_what_the_machine_refuses_is_one_line_with_path_and_cause(error, said, capsys):
    assert ends(error) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {said}") and err.count("\n") == 1


def test_memory_that_torch_does_not_get_is_known_by_what_it_says():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert ending(caught.value)[1] == 2


def test_a_signal_says_where_the_command_stood(capsys):
    stop = Interrupted(signal.SIGTERM)
    stop.where = " at step 3 of 4"
    assert ends(stop) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "error: stopped by SIGTERM at step 3 of 4; type the same command again\n"


def test_nobody_who_reads_is_no_error(fakes):
    process = fakes.start("--out", "a", "--value", "x")
    process.stdout.close()
    assert process.wait(60) == 128 + signal.SIGPIPE and process.stderr.read() == ""
    process.stderr.close()
    process = fakes.start("--out", "b", "--value", "x")
    process.stdout.close(), process.stderr.close()
    assert process.wait(60) == 128 + signal.SIGPIPE


def test_a_standard_output_without_room_is_one_line(fakes):
    with open("/dev/full", "w") as full, fakes.start("--out", "a", stdout=full) as process:
        assert process.stderr.read() == "error: standard output: no space left on device\n"
    assert process.returncode == 2


def test_alone_this_is_the_first_of_one_process_whatever_rank_was_left_over(monkeypatch, started_as):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("RANK", "1")
    assert group() == (0, 1)
    started_as(2, 3)
    assert group() == (2, 3)


@pytest.mark.parametrize(
    "left, said",
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 is set in the environment without RANK, MASTER_ADDR, MASTER_PORT"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "without MASTER_ADDR, MASTER_PORT: start with torchrun, or unset"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0 "),
        ({"WORLD_SIZE": "two", "RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "WORLD_SIZE=two "),
        ({"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "with RANK=2"),
        ({"WORLD_SIZE": "2", "RANK": "-1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "with RANK=-1"),
    ],
)
def test_half_a_group_is_refused(left, said, monkeypatch, capsys):
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stop:
        command(lambda: os.abort())
    assert stop.value.code == 2 and said in capsys.readouterr().err
