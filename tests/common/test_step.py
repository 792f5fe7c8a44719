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

    def go(dry: bool = False, pause: float | str = 0.0) -> list[str]:
        text = SCRIPT.format(root=ROOT, python=sys.executable, folder=tmp_path, pause=pause)
        environment = {**os.environ, "DRY": "1" if dry else ""}
        lines = subprocess.run(
            ["bash", "-c", text], env=environment, check=True, capture_output=True, text=True
        ).stdout.splitlines()
        return [line.replace("python -m", f"{sys.executable} -m", 1) for line in lines]

    return go


def ran(folder: Path) -> str:
    return "".join((folder / "log").read_text().split())


def start(line: str) -> subprocess.Popen:
    return subprocess.Popen(
        ["bash", "-c", f"exec {line}"], cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


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


def test_a_step_far_down_waits_while_the_first_one_runs_longer_than_the_grace(table, tmp_path, monkeypatch):
    monkeypatch.setenv("STEP_GRACE_S", "0.5")
    lines, workers = table(dry=True, pause=f"0; until [ -e {tmp_path}/go ]; do sleep 0.05; done"), []
    for line, sign in zip(lines, ("log", "b.lock", "c.lock", "d.lock"), strict=True):
        workers.append(start(line))
        until = time.monotonic() + 30
        while not (tmp_path / sign).exists():
            assert time.monotonic() < until, f"{sign}: the step does not show that it is waiting"
            time.sleep(0.02)
    time.sleep(1.0)
    assert [worker.poll() for worker in workers] == [None] * 4, "given up while the first step runs"
    (tmp_path / "go").touch()
    assert [worker.wait(60) for worker in workers] == [0] * 4
    assert sorted(ran(tmp_path)) == list("abcd")


def test_a_file_made_beside_the_output_is_made_again_where_it_is_lost(tmp_path):
    out, beside = tmp_path / "out", tmp_path / "beside"
    line = [
        sys.executable,
        "-m",
        "common.step",
        "--makes",
        str(out),
        "--also",
        str(beside),
        "--key",
        "k",
        "--",
        "bash",
        "-c",
        f"echo x | tee -a {beside} >{out}",
    ]
    subprocess.run(line, cwd=ROOT, check=True)
    subprocess.run(line, cwd=ROOT, check=True)
    assert beside.read_text() == "x\n"
    beside.unlink()
    subprocess.run(line, cwd=ROOT, check=True)
    assert beside.read_text() == "x\n"


def test_an_input_is_not_ready_while_what_it_was_made_from_has_changed(table, tmp_path):
    from common.step import is_ready, read_stamp

    table()
    key = read_stamp(tmp_path / "b")["key"]
    assert is_ready(tmp_path / "b", key) and not is_ready(tmp_path / "b", "other")
    (tmp_path / "a").write_text("new")
    assert not is_ready(tmp_path / "b", key), "b is about to be made again"


def test_an_input_that_nobody_makes_and_a_command_that_fails_are_said(tmp_path):
    step = [sys.executable, "-m", "common.step", "--makes", str(tmp_path / "out"), "--key", "k"]
    lost = subprocess.run(
        [*step, "--needs", str(tmp_path / "in"), "--grace", "0.1", "--", "true"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert lost.returncode == 2 and "which is not there and which nobody is making" in lost.stderr
    failed = subprocess.run([*step, "--", "bash", "-c", "exit 7"], cwd=ROOT, capture_output=True, text=True)
    assert failed.returncode == 7 and not (tmp_path / "out.step.json").exists()
    empty = subprocess.run([*step, "--", "true"], cwd=ROOT, capture_output=True, text=True)
    assert empty.returncode == 2 and "is not there after" in empty.stderr
