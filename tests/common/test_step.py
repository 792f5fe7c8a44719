"""Steps side by side in one folder: each runs once, in the right order, and what died is taken over."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
set -euo pipefail
cd {root}
. experiments/steps.sh
python() {{ {python} "$@"; }}
O={folder}
step $O/a -- bash -c "echo a >>$O/log; sleep {pause}; cp $O/seed $O/a"
step $O/b $O/a -- bash -c "echo b >>$O/log; sleep {pause}; cat $O/a $O/a >$O/b"
step $O/c $O/a -- bash -c "echo c >>$O/log; wc -c <$O/a >$O/c"
step $O/d $O/b $O/c -- bash -c "echo d >>$O/log; cat $O/b $O/c >$O/d"
"""


@pytest.fixture
def table(tmp_path):
    """table() runs the four steps of a small table; table(dry=True) gives the lines it would run."""
    (tmp_path / "seed").write_text("x")

    def go(dry: bool = False, pause: float = 0.0) -> list[str]:
        text = SCRIPT.format(root=ROOT, python=sys.executable, folder=tmp_path, pause=pause)
        environment = {**os.environ, "DRY": "1" if dry else ""}
        lines = subprocess.run(["bash", "-c", text], env=environment, check=True, capture_output=True, text=True).stdout.splitlines()
        return [line.replace("python -m", f"{sys.executable} -m", 1) for line in lines]

    return go


def ran(folder: Path) -> str:
    return "".join((folder / "log").read_text().split())


def start(line: str) -> subprocess.Popen:
    return subprocess.Popen(["bash", "-c", f"exec {line}"], cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)


def test_a_step_runs_once_and_what_a_lost_or_changed_file_touches_runs_again(table, tmp_path):
    table()
    assert ran(tmp_path) == "abcd" and (tmp_path / "d").read_text() == "xx1\n"
    table()
    assert ran(tmp_path) == "abcd"
    (tmp_path / "c").unlink()
    table()
    assert ran(tmp_path) == "abcdc", "c came out as it was, so d stands"
    (tmp_path / "b").write_text("tampered")
    table()
    assert ran(tmp_path) == "abcdcb"
    table(pause=0.01)  # another command for a and b
    assert ran(tmp_path) == "abcdcb" + "abcd", "their keys go into the keys of c and d"


def test_eight_workers_in_any_order_run_every_step_once(table, tmp_path):
    lines = table(dry=True, pause=0.3)
    assert len(lines) == 4 and not (tmp_path / "a").exists()
    workers = [start(line) for line in [*reversed(lines), *lines]]
    assert [worker.wait(60) for worker in workers] == [0] * 8
    assert sorted(ran(tmp_path)) == list("abcd") and (tmp_path / "d").read_text() == "xx1\n"


def test_a_worker_killed_in_the_middle_of_a_step_is_taken_over(table, tmp_path):
    line = table(dry=True, pause=1.0)[0]
    first = start(line)
    while not (tmp_path / "log").exists():
        time.sleep(0.02)
    second = start(line)
    time.sleep(0.5)
    os.killpg(first.pid, signal.SIGKILL)
    assert second.wait(60) == 0 and ran(tmp_path) == "aa"
    assert "waiting for" in second.stderr.read()
    assert json.loads((tmp_path / "a.step.json").read_text())["needs"] == {}


def test_an_input_that_nobody_makes_and_a_command_that_fails_are_said(tmp_path):
    step = [sys.executable, "-m", "common.step", "--makes", str(tmp_path / "out"), "--key", "k"]
    lost = subprocess.run([*step, "--needs", str(tmp_path / "in"), "--grace", "0.1", "--", "true"], cwd=ROOT, capture_output=True, text=True)
    assert lost.returncode == 2 and "which is not there and which nobody is making" in lost.stderr
    failed = subprocess.run([*step, "--", "bash", "-c", "exit 7"], cwd=ROOT, capture_output=True, text=True)
    assert failed.returncode == 7 and not (tmp_path / "out.step.json").exists()
    empty = subprocess.run([*step, "--", "true"], cwd=ROOT, capture_output=True, text=True)
    assert empty.returncode == 2 and "is not there after" in empty.stderr
