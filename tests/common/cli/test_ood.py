"""ood COMMAND is python -m PACKAGE.COMMAND: the same words, exit codes and signals, under the name that was typed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.cli import ood

ROOT = Path(__file__).resolve().parents[3]
START = "import sys; from pathlib import Path; from common.cli import ood; ood.HOME = Path({home!r}); ood.main()"
NO_TORCH = "import sys; sys.modules.update(dict.fromkeys(('torch', 'numpy', 'scipy'))); from common.cli.ood import main; main()"
PROBE = """
import os, signal, sys
from common.cli.commands import prog
from common.cli.errors import command
from common.cli.stamps import line_key

def main():
    print(__name__, sys.argv[1:], line_key(), flush=True)
    print(prog("lbf.probe"), file=sys.stderr, flush=True)
    if sys.argv[1:] == ["stop"]:
        os.kill(os.getpid(), signal.SIGTERM)
    sys.exit(7)

if __name__ == "__main__":
    command(main)
"""


def typed(*words, home=ROOT, code=START, path=ROOT):
    words = [sys.executable, "-P", "-c", code.format(home=str(home)), *words]
    environment = os.environ | {"PYTHONPATH": str(path)}
    return subprocess.run(words, env=environment, capture_output=True, text=True)


def test_every_module_that_is_typed_is_a_command_and_says_what_it_does():
    every = ood.listed()
    files = [file for package in ("common", "lbf", "dfb") for file in (ROOT / package).rglob("*.py")]
    assert {one.file for one in every} == {file for file in files if '__name__ == "__main__"' in file.read_text()}
    assert {"ood evaluate", "ood data", "ood data.shapes", "ood lbf finetune", "ood dfb masks"} <= {
        o.typed for o in every
    }
    assert all(one.about for one in every)


def test_help_lists_all_of_them_without_any_library():
    done = typed("--help", code=NO_TORCH)
    assert done.returncode == 0, done.stderr
    assert all(f"  {one.typed} " in done.stdout and one.about in done.stdout for one in ood.listed())
    of_one = typed("lbf", "-h", code=NO_TORCH)
    assert "ood lbf finetune" in of_one.stdout and "ood evaluate" not in of_one.stdout


@pytest.mark.parametrize(
    "words, said",
    [
        (["nonsense"], "unknown command 'nonsense'; known: compare, "),
        (["lbf", "evaluate"], "unknown command of lbf 'evaluate'; known: ablation, bars, "),
        (["lbf.finetune"], "unknown command 'lbf.finetune'"),
        ([], "which command?"),
        (["dfb"], "which command?"),
        ([""], "must be something"),
        (["--completion", "fish"], "--completion needs a shell: bash, zsh, tcsh, got fish"),
    ],
)
def test_what_is_no_command_is_one_line_and_code_two(words, said):
    done = typed(*words, code=NO_TORCH)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {said}") or said in done.stderr


def test_usage_and_errors_have_the_name_that_was_typed_and_are_else_those_of_python_m():
    ours = typed("data", "nonsense")
    theirs = subprocess.run([sys.executable, "-m", "common.data", "nonsense"], cwd=ROOT, capture_output=True, text=True)
    assert ours.returncode == theirs.returncode == 2 and ours.stderr.startswith("usage: ood data ")
    same = [" ".join(done.stderr.split()).replace("python -m common.data", "ood data") for done in (ours, theirs)]
    assert same[0] == same[1]


def test_a_command_is_the_main_module_with_the_same_words_identity_exit_code_and_signals(tmp_path):
    (tmp_path / "lbf").mkdir()
    (tmp_path / "lbf/__init__.py").write_text("")
    (tmp_path / "lbf/probe.py").write_text(PROBE)
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    for words, code in ((["a", "b c"], 7), (["stop"], 143)):
        ours = typed("lbf", "probe", *words, home=tmp_path, path=path)
        theirs = subprocess.run(
            [sys.executable, "-P", "-m", "lbf.probe", *words],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        assert ours.returncode == theirs.returncode == code, ours.stderr
        assert ours.stdout == theirs.stdout and f"__main__ {words} " in ours.stdout
        assert ours.stderr.replace("ood lbf probe", "python -m lbf.probe") == theirs.stderr != ours.stderr


def test_another_package_of_the_same_name_is_not_run(tmp_path):
    (tmp_path / "lbf").mkdir()
    (tmp_path / "lbf/__init__.py").write_text("")
    for name in ("other.py", "finetune.py"):
        (tmp_path / "lbf" / name).write_text("print('not ours')")
        done = typed("lbf", "finetune", "--help", path=f"{tmp_path}{os.pathsep}{ROOT}")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: another package called lbf (") and str(tmp_path / "lbf") in done.stderr
