"""Commands that write, run beside each other as processes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


class Fakes:
    """fake_command.py in a folder: `start` and `run` take its words; `worked` is what each that did work left in the log."""

    def __init__(self, folder: Path):
        self.folder, self.log, self.go = folder, folder / "log", folder / "go"

    def start(self, *words, stdout=subprocess.PIPE, **environment: str) -> subprocess.Popen:
        paths = f"{ROOT}{os.pathsep}{HERE}"
        return subprocess.Popen(
            [sys.executable, "-m", "fake_command", *map(str, words), "--log", str(self.log)],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": paths} | environment,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words, **environment: str) -> subprocess.CompletedProcess:
        with self.start(*words, **environment) as process:
            out, said = process.communicate(timeout=60)
        return subprocess.CompletedProcess(words, process.returncode, out, said)

    def worked(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []

    def until(self, condition) -> None:
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, "it does not come to that"
            time.sleep(0.02)


@pytest.fixture
def fakes(tmp_path):
    return Fakes(tmp_path)
