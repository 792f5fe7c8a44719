"""Three hundred of the damaged inputs and six of the kills that `tests/full.sh` makes in thousands. Each runs in a process of its own, which forks."""

import subprocess
import sys
from pathlib import Path

import pytest
from robustness import processes, world
from robustness.cases import World
from robustness.flags import LINES

TESTS = Path(__file__).parent


@pytest.mark.parametrize(
    "words",
    [("fuzz.py", "--inputs", "300", "--seed", "0"), ("kills.py", "--kills", "6", "--seed", "0")],
    ids=["fuzz", "kills"],
)
def test_no_fault_is_found(words):
    done = subprocess.run(
        [sys.executable, TESTS / words[0], *words[1:]], cwd=TESTS.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_command_is_tried():
    texts = {
        path: path.read_text() for room in ("common", "lbf", "dfb") for path in (TESTS.parent / room).rglob("*.py")
    }
    there = {path for path, text in texts.items() if text.endswith('if __name__ == "__main__":\n    command(main)\n')}
    alone = {path for path, text in texts.items() if "command(main, alone=True)" in text}
    tried = {TESTS.parent / (line.split()[0].replace(".", "/") + ".py") for line in LINES}
    assert tried == there | alone


@pytest.mark.slow
def test_every_line_that_is_made_odd_would_run(tmp_path):
    """Else a refusal would say nothing of the flag."""
    root = world.make(tmp_path / "world")
    for place, (line, (words, needs)) in enumerate(LINES.items()):
        folder = tmp_path / f"{place}"
        folder.mkdir()
        World(root, tmp_path).take(folder, *needs)
        said = processes.typed((*line.split(), *words), folder)
        assert said.code == 0, f"{line}: {said.err}"


def test_a_fault_would_be_found(tmp_path):
    """A command that takes what it should refuse, one that hangs, one that ends in a traceback, one that names nothing and leaves something behind."""
    script = """
import sys, time
from pathlib import Path
match sys.argv[1]:
    case "hangs": time.sleep(60)
    case "breaks": raise KeyError("x")
    case "mute": Path("left").touch(); print("error: no", file=sys.stderr); sys.exit(2)
    case "one": sys.exit(1)
"""
    (tmp_path / "zork.py").write_text(script)
    look = f"""
import sys
sys.path[:0] = [{str(TESTS)!r}, {str(TESTS.parent)!r}, {str(tmp_path)!r}]
from pathlib import Path
from robustness.cases import DONE, REFUSED, Case, run
for word, right in [("takes", REFUSED), ("takes", DONE), ("hangs", REFUSED), ("breaks", REFUSED), ("mute", REFUSED), ("mute", DONE), ("one", REFUSED)]:
    check = lambda folder: "another value"
    print(word, [fault for fault, _ in run(Case(("zork", word), right, ("mine.npz",), "", check), Path({str(tmp_path)!r}), limit_s=1)[0]])
    Path({str(tmp_path)!r}, "left").unlink(missing_ok=True)
"""
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "takes ['silent acceptance']", "takes ['silent acceptance']", "hangs ['hang']", "breaks ['traceback']",
        "mute ['names nothing', 'left behind']", "mute ['wrong exit code', 'left behind']", "one ['wrong exit code']",
    ], done.stderr  # fmt: skip
