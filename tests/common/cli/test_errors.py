"""How bad input ends: one line on stderr and exit code 2; a lost fellow process 1; anything else is a fault of ours and stays a traceback."""

import pytest

from common.cli.errors import UserError, command, unknown


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
