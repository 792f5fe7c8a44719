"""What runs a folder holds, and that pruning frees what was moved aside and nothing else."""

import os
import subprocess
import sys
from functools import partial

import pytest

from common import runs
from common.backbones import build
from common.checkpoint import save
from common.cli.locks import Lock
from common.cli.steps import making


@pytest.fixture
def typed(typed):
    return partial(typed, runs)


@pytest.fixture
def folder(tmp_path):
    """A run made three times with another recipe each time, so that two are aside; one killed half-way; and one called like one aside."""
    for seed in (0, 1, 2):
        with making([tmp_path / "r/a/checkpoint.pt"], run=tmp_path / "r/a") as step:
            assert not step.is_done({"seed": seed})
            facts = {"method": "LBF", "preset": "shapes", "seed": seed}
            save(tmp_path / "r/a/checkpoint.pt", build("resnet8", 3), recipe={}, **facts)
    save(tmp_path / "r/b/checkpoint.pt", build("resnet8", 3), recipe={}, training={"step": 1}, method="control", seed=7)
    save(tmp_path / "r/delta=.1/checkpoint.pt", build("resnet8", 3), recipe={}, method="LBF", seed=0)
    return tmp_path / "r"


def test_each_run_is_listed_with_what_it_is(folder, typed):
    (folder / "broken").mkdir()
    (folder / "broken/checkpoint.pt").write_text("no checkpoint")
    code, out, _ = typed("list", folder)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines()[2:]]
    by_name = {cell[0].rpartition("/")[2]: cell[1:] for cell in cells}
    assert code == 0 and {name: (*cell[:4], cell[5]) for name, cell in by_name.items()} == {
        "a": ("LBF", "shapes", "2", "yes", ""), "a.1": ("LBF", "shapes", "0", "yes", "kept aside"), "a.2": ("LBF", "shapes", "1", "yes", "kept aside"),
        "b": ("control", "?", "7", "no", ""), "delta=.1": ("LBF", "?", "0", "yes", ""), "broken": ("?", "?", "?", "?", ""),
    }  # fmt: skip
    assert float(by_name["a"][4]) > 0.1


def test_pruning_frees_what_is_aside_and_dead_and_only_when_told(folder, typed):
    old, new = folder / "a/.x.1.part", folder / "a/.x.2.part"
    damaged = folder / "b/checkpoint.pt.damaged.1"
    old.touch(), new.touch(), damaged.touch()
    os.utime(old, (0, 0))
    _, said, _ = typed("prune", folder)
    assert "would be freed" in said and all(
        str(path) in said for path in (folder / "a.1", folder / "a.2", old, damaged)
    )
    assert str(new) not in said and (folder / "a.1").is_dir()
    _, said, _ = typed("prune", folder, "--yes")
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b", "delta=.1"]
    assert (
        "freed" in said
        and not old.exists()
        and not damaged.exists()
        and new.exists()
        and (folder / "a/checkpoint.pt").exists()
    )


def test_a_run_in_which_somebody_is_at_work_is_not_freed(folder, typed):
    lock = Lock(folder / "a.1/.results.csv.lock")
    hold = f"import time; from common.cli.locks import *; Lock(Path({str(lock.path)!r})).take(); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        typed("prune", folder, "--yes")
        other.kill()
    assert (folder / "a.1").is_dir() and not (folder / "a.2").exists()


def test_a_folder_that_is_not_there_is_refused(tmp_path, typed):
    assert typed("list", tmp_path / "none") == (2, "", f"error: no folder {tmp_path / 'none'}\n")
