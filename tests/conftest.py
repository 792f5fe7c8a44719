"""What tests of commands share."""

import sys
from typing import NamedTuple

import pytest

from common.cli.errors import command


class Said(NamedTuple):
    code: int
    out: str
    err: str


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
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture
def started_as(monkeypatch):
    """started_as(rank, count): the environment that torchrun gives to a process."""

    def set_environment(rank: int, count: int) -> None:
        given = {"RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}
        for name, value in given.items():
            monkeypatch.setenv(name, str(value))

    return set_environment
