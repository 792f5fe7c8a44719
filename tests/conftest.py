"""What tests of commands share."""

import sys

import pytest

from common.cli.errors import command


@pytest.fixture
def typed(monkeypatch, capsys):
    """typed(module, *words) -> (exit code, stdout, stderr)"""

    def run(module, *words):
        monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, words)])
        code = 0
        try:
            command(module.main)
        except SystemExit as stop:
            code = stop.code or 0
        said = capsys.readouterr()
        return code, said.out, said.err

    return run
