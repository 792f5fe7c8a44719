"""Every module has its test where it is looked for, tests/PACKAGE/test_MODULE.py, or this table says which file tests it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ELSEWHERE = {
    "common/training/recipe.py": "common/training/test_engine.py",
    "common/backbones/classifier.py": "common/backbones/test_backbones.py",
    "common/backbones/convertible.py": "common/test_convert.py",
    "common/backbones/fitting.py": "common/backbones/test_weights.py",
    "common/cli/flags.py": "test_starts.py",  # --help of every command
    "common/cli/stamps.py": "common/cli/test_steps.py",
    "common/compare.py": "common/test_commands.py",
    "common/data/__init__.py": "common/data/test_datasets.py",
    "common/data/shrink.py": "common/data/test_listing.py",
    "common/evaluate.py": "common/test_commands.py",
    "common/objectives/__init__.py": "common/objectives/test_registry.py",
    "common/objectives/cross_entropy.py": "common/training/test_engine.py",
    "common/objectives/mixup.py": "common/test_stage1.py",
    "common/pretrain.py": "common/test_stage1.py",
    "common/report.py": "common/results/test_report.py",
    "common/results/compare.py": "common/test_commands.py",
    "common/scorers/__init__.py": "common/scorers/test_contract.py",
    "common/scorers/arrays.py": "common/scorers/test_contract.py",
    "common/scorers/base.py": "common/scorers/test_contract.py",
    "common/scorers/neighbours.py": "common/scorers/test_distances.py",
    "common/scoring/cache.py": "common/scoring/test_features.py",
    "common/scoring/own_arrays.py": "common/test_commands.py",
    "common/training/method.py": "common/objectives/test_registry.py",
    "common/training/objective.py": "common/training/test_engine.py",
    "common/training/placement.py": "common/data/test_masks.py",
    "common/training/start.py": "common/test_commands.py",
    "dfb/diagnostics.py": "dfb/test_commands.py",
    "dfb/evaluate.py": "dfb/test_commands.py",
    "dfb/figures.py": "dfb/test_commands.py",
    "lbf/figures.py": "common/test_commands.py",
    "lbf/locations.py": "lbf/test_finetune.py",
    "lbf/selection.py": "common/test_commands.py",
}


def modules() -> list[str]:
    """The files that define a function or a class."""
    files = [path for package in ("common", "lbf", "dfb") for path in sorted((ROOT / package).rglob("*.py"))]
    return [path.relative_to(ROOT).as_posix() for path in files if _has_code(path)]


def _has_code(path: Path) -> bool:
    return any(isinstance(node, (ast.FunctionDef, ast.ClassDef)) for node in ast.parse(path.read_text()).body)


def mirror(module: str) -> Path:
    """common/data/fetch.py -> tests/common/data/test_fetch.py; a package's own file is tested under the package's name."""
    path = Path(module)
    name = path.parent.name if path.stem == "__init__" else path.stem.strip("_")
    return ROOT / "tests" / path.parent / f"test_{name}.py"


@pytest.mark.parametrize("module", modules())
def test_every_module_is_tested_where_it_is_looked_for_or_says_where(module):
    assert mirror(module).is_file() != (module in ELSEWHERE), "either a mirrored test file or a line in the table"


@pytest.mark.parametrize("module", ELSEWHERE)
def test_the_table_names_modules_and_files_that_are_there_and_the_file_has_tests(module):
    assert (ROOT / module).is_file()
    assert "\ndef test_" in (ROOT / "tests" / ELSEWHERE[module]).read_text()
