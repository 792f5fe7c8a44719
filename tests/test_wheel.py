"""What pip installs is whole: every file of the packages, and the console command."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("common", "lbf", "dfb")
BUILD = "import setuptools.build_meta as make; make.build_wheel('.')"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built of a copy, for setuptools leaves folders in what it builds."""
    pytest.importorskip("setuptools", minversion="71")
    copy = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (made,) = copy.glob("*.whl")
    return zipfile.ZipFile(made)


def test_every_file_of_the_packages_is_in_the_wheel_and_nothing_else(wheel):
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()]
    ours = {path.relative_to(ROOT).as_posix() for path in files if path.parent.name != "__pycache__"}
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == ours
    assert {f"{package}/py.typed" for package in PACKAGES} | {
        "lbf/paper/table1.csv",
        "common/results/report.html",
    } <= ours


def test_it_brings_one_command_and_its_extras(wheel):
    def said(name: str) -> str:
        (found,) = [one for one in wheel.namelist() if one.endswith(f".dist-info/{name}")]
        return wheel.read(found).decode()

    assert said("entry_points.txt").split() == ["[console_scripts]", "ood", "=", "common.cli.ood:main"]
    extras = {line.partition(": ")[2] for line in said("METADATA").splitlines() if line.startswith("Provides-Extra")}
    assert {"test", "onnx", "completion"} <= extras


def test_it_works_elsewhere(wheel, tmp_path):
    wheel.extractall(tmp_path / "installed")
    code = "from common.cli.ood import main; main()"
    there = {"env": {"PYTHONPATH": str(tmp_path / "installed"), "PATH": ""}, "cwd": tmp_path, "capture_output": True}
    for words in (["--help"], ["lbf", "bars", "--paper", "lbf/paper/table1.csv", "--out", "figures"]):
        done = subprocess.run([sys.executable, "-P", "-c", code, *words], text=True, **there)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "figures/bars.png").is_file()
