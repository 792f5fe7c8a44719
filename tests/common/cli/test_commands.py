"""What every command has from its first line on."""

from contextlib import nullcontext

import pytest

from common.cli import commands
from common.cli.flags import add_data_argument


def test_a_parser_is_named_and_has_the_flags_of_a_step_and_those_it_is_given(tmp_path, capsys):
    made = commands.parser("lbf.bars", "Draws.", add_data_argument)
    arguments = made.parse_args(["--wait", "2", "--data", str(tmp_path)])
    assert (arguments.wait, arguments.expect, arguments.data) == (2.0, [], tmp_path)
    with pytest.raises(SystemExit):
        made.parse_args(["--help"])
    said = capsys.readouterr().out
    assert said.startswith("usage: python -m lbf.bars ") and "Draws." in said


def test_the_step_waits_as_typed_and_takes_no_input_that_was_not_given(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        commands, "making", lambda outputs, inputs, **how: seen.update(how, inputs=inputs) or nullcontext()
    )
    arguments = commands.parser("x", None).parse_args(["--expect", f"{tmp_path}=k", "--wait", "3"])
    commands.step_of(arguments, [tmp_path / "out"], [tmp_path / "in", None], shared=True)
    assert seen == {"expect": [(tmp_path, "k")], "wait_s": 3.0, "inputs": [tmp_path / "in"], "shared": True}
