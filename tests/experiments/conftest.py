"""The benchmarks as modules: their folder is no package, and is on the path only where it is needed."""

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """A benchmark's module by name, as a process of its own finds it too."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


@pytest.fixture
def harness(load):
    return load("harness")


@pytest.fixture
def run(load, monkeypatch, capsys):
    """What `python experiments/benchmarks/NAME.py FLAGS` prints: the lines of its head, and each table as rows of texts, header first."""

    def typed(name: str, flags: str) -> tuple[list[str], list[list[list[str]]]]:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *flags.split(), "--quiet"])
        load(name).main()
        head, *tables = capsys.readouterr().out.strip().split("\n\n")
        cells = lambda line: [cell.strip() for cell in line.strip("|").split("|")]  # noqa: E731
        return head.splitlines(), [
            [cells(line) for k, line in enumerate(table.splitlines()) if k != 1] for table in tables
        ]

    return typed
