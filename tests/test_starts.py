"""What a command imports before it has read its flags: a second of somebody's library is a second of every step of every script."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SLOW = (
    "timm", "torchvision", "torch._dynamo", "torch._inductor", "torch.distributed.run", "sympy", "matplotlib", "sklearn", "scipy.stats",
    "scipy.io", "scipy.optimize", "cv2", "pandas",
)  # fmt: skip
# These need no network: not even torch.
LIGHT = ("common.compare", "common.data.__main__", "common.tables", "lbf.bars", "lbf.sensitivity")

# Each command in a process of its own, forked from one that has imported `first`: name -> what of `slow` came with its import, then with --help.
EACH = """
import importlib, json, multiprocessing, os, sys
first, slow, names = json.loads(sys.argv[1])
for name in first:
    importlib.import_module(name)

def look(name, pipe):
    sys.argv, sys.stdout = [name, "--help"], open(os.devnull, "w")
    module = importlib.import_module(name)
    found = [sorted(sys.modules.keys() & slow)]
    try:
        module.main()
    except SystemExit as stop:
        found.append(sorted(sys.modules.keys() & slow) + ([] if stop.code == 0 else [f"exit code {stop.code}"]))
    pipe.send(found)

context, answers = multiprocessing.get_context("fork"), {}
for name in names:
    mine, theirs = context.Pipe()
    process = context.Process(target=look, args=(name, theirs))
    process.start()
    answers[name] = mine.recv() if mine.poll(60) else ["no answer"]
    process.join()
print(json.dumps(answers))
"""


def commands() -> list[str]:
    """Every module that is typed."""
    files = [path for package in ("common", "lbf", "dfb") for path in sorted((ROOT / package).rglob("*.py"))]
    typed = [path for path in files if '__name__ == "__main__"' in path.read_text()]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in typed]


def imported(names: list[str], first: tuple[str, ...], slow: tuple[str, ...]) -> dict[str, list]:
    words = [sys.executable, "-c", EACH, json.dumps([first, slow, names])]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_command_imports_what_is_slow_before_it_needs_it():
    names = commands()
    assert {"common.evaluate", "common.pretrain", "lbf.finetune", "dfb.figures", *LIGHT} <= set(names)
    assert imported(names, ("torch",), SLOW) == {name: [[], []] for name in names}


def test_commands_without_a_network_start_without_torch():
    assert imported(list(LIGHT), (), ("torch", *SLOW)) == {name: [[], []] for name in LIGHT}


def test_a_slow_import_would_be_found():
    assert imported(["common.evaluate"], (), ("torch",)) == {"common.evaluate": [["torch"], ["torch"]]}


@pytest.mark.parametrize("name", ["resnet8", "wrn28-10"])
def test_the_suites_own_networks_need_nobodys_library(name):
    look = (
        f"import sys; from common.backbones import build; build({name!r}, 8); print(sys.modules.keys() & {set(SLOW)})"
    )
    done = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
