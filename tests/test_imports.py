"""The import rule: common imports neither method, the methods never each other, scores and metrics neither data nor networks."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def imported(path: Path) -> set[str]:
    """Dotted names a file imports, `from a import b` as a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


RULES = [
    ("common", ("lbf", "dfb")),
    ("lbf", ("dfb",)),
    ("dfb", ("lbf",)),
    ("common/scorers", ("common.data", "common.backbones", "torch", "common.checkpoint")),
    ("common/metrics.py", ("common.data", "common.backbones", "torch", "common.scoring")),
]


@pytest.mark.parametrize("place, forbidden", RULES, ids=[place for place, _ in RULES])
def test_nothing_imports_what_it_must_not(place, forbidden):
    where = ROOT / place
    files = [where] if where.is_file() else sorted(where.rglob("*.py"))
    assert files
    for path in files:
        for name in imported(path):
            assert not any(name == f or name.startswith(f + ".") for f in forbidden), f"{path.relative_to(ROOT)} imports {name}"


def test_scripts_hold_no_paths_of_a_machine():
    for path in [*ROOT.glob("experiments/*.sh"), *ROOT.glob("tests/*.sh")]:
        for word in path.read_text().split():
            assert not word.startswith(("/home", "/root", "/work", "/tmp")), f"{path.name}: {word}"
