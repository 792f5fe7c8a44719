"""`run` in experiments/environment.sh: scripts as lists of commands, which can be printed, counted, and run side by side."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """
. {root}/experiments/environment.sh
export PYTHONPATH=$PYTHONPATH:{root}/tests/common/cli
cd {folder}
O="a folder"
run python -m fake_command --out "$O/a" --run --value "${{VALUE:-x}}" --log log
run python -m fake_command "$O/a/checkpoint.pt" --out "$O/b" --run --log log
run python -m fake_command "$O/a/checkpoint.pt" --out "$O/a/c.csv" --log log
run python -m fake_command --of "$O/a" "$O/b" --out "$O/d.md" --log log
"""


BESIDE = """
. {root}/experiments/environment.sh
say="import sys, time; time.sleep(float(sys.argv[1])); print(sys.argv[2], flush=True); sys.exit(int(sys.argv[3]))"
beside=1 run python -c "$say" 0.{first} a {a}
run python -c "$say" 0.2 b {b}
beside=1 run python -c "$say" 0 c 0
"""


def side_by_side(folder: Path, **values) -> subprocess.CompletedProcess:
    (folder / "beside.sh").write_text(BESIDE.format(root=ROOT, **values))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"OOD_INSTALL": "0", "DRY": values.get("DRY", ""), "PATH": path}
    return subprocess.run(["bash", str(folder / "beside.sh")], env=environment, capture_output=True, text=True)


def test_a_command_in_the_background_runs_beside_the_next_and_the_script_ends_with_the_last(tmp_path):
    done = side_by_side(tmp_path, first=9, a=0, b=0)
    assert done.returncode == 0 and done.stdout.split() == ["b", "a", "c"], "c waits for a: one at a time"
    assert [line[:10] for line in done.stderr.splitlines()] == ["step 1/3: ", "step 2/3: ", "step 3/3: "]
    printed = side_by_side(tmp_path, first=9, a=0, b=0, DRY="1")
    assert [line.split()[-2:] for line in printed.stdout.splitlines()] == [["a", "0"], ["b", "0"], ["c", "0"]]


def test_a_script_fails_with_the_command_in_its_background_and_stops_it_when_another_fails(tmp_path):
    done = side_by_side(tmp_path, first=1, a=5, b=0)
    assert done.returncode == 5 and done.stdout.split() == ["a", "b"]
    done = side_by_side(tmp_path, first=9, a=0, b=3)
    assert done.returncode == 3 and done.stdout.split() == ["b"], "a was stopped"


def test_the_last_command_of_a_script_fails_it_in_the_background_too(tmp_path):
    (tmp_path / "last.sh").write_text(f". {ROOT}/experiments/environment.sh\nbeside=1 run false x y\n")
    assert (
        subprocess.run(["bash", str(tmp_path / "last.sh")], env=os.environ | {"OOD_INSTALL": "0", "DRY": ""}).returncode
        == 1
    )


@pytest.fixture
def table(tmp_path):
    """table(name=value) runs the four commands of a small table, with these variables in its environment."""
    script = tmp_path / "table.sh"
    script.write_text(SCRIPT.format(root=ROOT, folder=shlex.quote(str(tmp_path))))

    def go(**variables: str) -> subprocess.CompletedProcess:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = os.environ | {"OOD_INSTALL": "0", "DRY": "", "PATH": path} | variables
        return subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, check=True)

    return go


def worked(folder: Path) -> str:
    return "".join(Path(line).stem for line in (folder / "log").read_text().split())


def keys_in(lines: list[list[str]]) -> set[str]:
    return {word.rpartition("=")[2] for line in lines for word, flag in zip(line[1:], line) if flag == "--expect"}


def test_commands_are_counted_and_done_ones_print_their_result(table, tmp_path):
    first, second = table(), table()
    assert first.stdout == second.stdout == "made x\nmade x\nmade x\nmade xx\n" and worked(tmp_path) == "abcd"
    steps = [line for line in first.stderr.splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in steps] == ["1/4:", "2/4:", "3/4:", "4/4:"] and "--expect" not in first.stderr
    assert second.stderr.count("done already") == 4


def test_an_input_is_expected_of_the_line_that_made_it_and_so_on_back(table, tmp_path):
    lines = [shlex.split(line) for line in table(DRY="1").stdout.splitlines()]
    expected = [[word.rpartition("=")[0] for word, flag in zip(line[1:], line) if flag == "--expect"] for line in lines]
    assert expected == [[], ["a folder/a"], ["a folder/a"], ["a folder/a", "a folder/b", "a folder/a/c.csv"]]
    assert not (tmp_path / "log").exists()
    other = [shlex.split(line) for line in table(DRY="1", VALUE="y").stdout.splitlines()]
    assert len(keys_in(lines)) == len(keys_in(other)) == 3 and not keys_in(lines) & keys_in(other)


def test_a_change_at_the_start_makes_all_that_follows_anew(table, tmp_path):
    table(), table(VALUE="y")
    assert worked(tmp_path) == "abcd" * 2 and (tmp_path / "a folder/d.md").read_text() == "yy"
    assert (tmp_path / "a folder/a.1/c.csv").read_text() == "x"


def test_workers_over_the_printed_lines_in_reverse_do_each_once(table, tmp_path):
    lines = table(DRY="1").stdout.splitlines()
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests/common/cli")))
    environment = os.environ | {"PYTHONPATH": paths, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    workers = [
        subprocess.Popen(["bash", "-c", line], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
        for line in [*reversed(lines), *lines]
    ]
    assert [worker.wait(60) for worker in workers] == [0] * 8
    assert sorted(worked(tmp_path)) == list("abcd") and (tmp_path / "a folder/d.md").read_text() == "xx"


def test_a_python_that_is_too_old_is_named_and_nothing_is_made(tmp_path):
    (tmp_path / "experiments").mkdir()
    shutil.copy(ROOT / "experiments/environment.sh", tmp_path / "experiments")
    (tmp_path / "experiments/x.sh").write_text('. "$(dirname "$0")/environment.sh"\n')
    old = tmp_path / "old"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.11.2 || exit 1\n')
    old.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "PYTHON": str(old)}
    done = subprocess.run(["bash", "experiments/x.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    said = "error: expected Python 3.11.4 or newer, found Python 3.11.2; give one with PYTHON=/path/to/python3\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said) and not (tmp_path / ".venv").exists()
