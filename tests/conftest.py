"""What tests of commands share."""

import resource
import signal
import sys
from typing import NamedTuple

import pytest
import torch

from common.backbones import build
from common.checkpoint import save
from common.cli.errors import command
from common.data import shapes


def pytest_configure() -> None:
    """A shell ignores the terminal's signals for what it starts in the background, and nohup hang-ups: tests of signals hear them all the same."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)


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
def small_files():
    """No file may become larger than 1 MB (`ulimit -f`), as on a disk that is full by then."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def started_as(monkeypatch):
    """started_as(rank, count): the environment that torchrun gives to a process."""

    def set_environment(rank: int, count: int) -> None:
        given = {"RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}
        for name, value in given.items():
            monkeypatch.setenv(name, str(value))

    return set_environment


@pytest.fixture
def finished(tmp_path):
    """finished(name, outputs, **facts) -> path of a finished checkpoint of a small network of `shapes`, not trained"""

    def make(name, outputs=8, **facts):
        torch.manual_seed(0)
        known = {"method": "m", "id_set": "shapes", "classes": list(shapes.CLASSES), "seed": 0, "limit": 64}
        known |= {"transform": {"size_px": 48, "rule": "none"}, "train_data_sha256": "x", "start": "from scratch"}
        save(tmp_path / name, build("resnet8", outputs, image_size=48), recipe={"epochs": 1}, **known | facts)
        return tmp_path / name

    return make
