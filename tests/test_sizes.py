"""The house stays small: files that hold one idea, functions that fit a screen, flags that end where a command begins."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for package in ("common", "lbf", "dfb") for path in (ROOT / package).rglob("*.py"))
FILE_LINES, FUNCTION_LINES = 300, 40
NAMES = [str(path.relative_to(ROOT)) for path in FILES]


def lines(path: Path) -> int:
    return path.read_text().count("\n")


def functions(path: Path) -> dict[str, int]:
    """Name -> lines, docstring included, decorators not."""
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    return {node.name: node.end_lineno - node.lineno + 1 for node in found}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_file_and_its_functions_can_be_read_at_once(path):
    assert lines(path) <= FILE_LINES
    long = {name: count for name, count in functions(path).items() if count > FUNCTION_LINES}
    assert not long, f"functions above {FUNCTION_LINES} lines"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_what_was_typed_goes_no_further_than_main(path):
    """argparse.Namespace is named by nobody but common/cli, which makes recipes and options of it."""
    if not str(path.relative_to(ROOT)).startswith("common/cli"):
        assert "Namespace" not in path.read_text()
