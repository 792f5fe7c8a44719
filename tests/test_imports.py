"""The house's walls: who may import whom, read from the source, also by way of others; no circle between rooms."""

import ast
import graphlib
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("common", "lbf", "dfb")

# A room may import those on its right and nothing else of the suite; "commands" are the files of common/ that are typed.
MAY_IMPORT = {
    "common.cli": set(),
    "common.metrics": {"common.cli"},
    "common.scorers": {"common.cli"},
    "common.data": {"common.cli"},
    "common.backbones": {"common.cli"},
    "common.cam": {"common.backbones", "common.cli"},
    "common.checkpoint": {"common.backbones", "common.cli"},
    "common.training": {"common.checkpoint", "common.backbones", "common.data", "common.cli"},
    "common.objectives": {"common.training", "common.backbones", "common.data", "common.cli"},
    "common.scoring": {
        "common.training", "common.checkpoint", "common.backbones", "common.data", "common.scorers", "common.metrics", "common.cli",
    },
    "common.results": {
        "common.scoring", "common.training", "common.checkpoint", "common.backbones", "common.data", "common.scorers", "common.metrics",
        "common.cli",
    },
}  # fmt: skip


def modules() -> dict[str, Path]:
    """Dotted name -> file of every module of the suite."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


def room(module: str) -> str:
    """`common.data.shapes` lives in common.data; a file directly in common/ or in a method is a room of its own."""
    return ".".join(module.split(".")[:2])


def imported(path: Path, known: dict[str, Path]) -> set[str]:
    """The suite's modules a file imports, wherever in the file; `from a import b` is a.b where that is a module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {
                f"{node.module}.{a.name}" if f"{node.module}.{a.name}" in known else node.module for a in node.names
            }
    return {name for name in found if name.split(".")[0] in PACKAGES}


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    known = modules()
    return {name: imported(path, known) for name, path in known.items()}


def rooms_of(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    arrows: dict[str, set[str]] = defaultdict(set)
    for module, names in graph.items():
        arrows[room(module)] |= {room(name) for name in names} - {room(module)}
    return arrows


def circle(arrows: dict[str, set[str]]) -> list[str] | None:
    try:
        list(graphlib.TopologicalSorter(arrows).static_order())
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def test_no_circle_between_rooms_or_modules(graph):
    assert circle(rooms_of(graph)) is None
    assert circle({module: names - {module} for module, names in graph.items()}) is None


def test_a_circle_would_be_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) and not circle({"a": {"b", "c"}, "b": {"c"}})


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_a_room_imports_only_what_lies_below_it(name, graph):
    assert name in rooms_of(graph), "the table names a room that is not there"
    assert rooms_of(graph)[name] <= MAY_IMPORT[name] | {"common"}


def test_neither_method_is_imported_by_common_or_by_the_other(graph):
    arrows = {module: {name.split(".")[0] for name in names} for module, names in graph.items()}
    for module, packages in arrows.items():
        home = module.split(".")[0]
        assert packages <= ({"common"} if home == "common" else {"common", home}), module


def test_no_room_imports_a_command(graph):
    commands = {name for name in graph if room(name) == name and name.startswith("common.")} - set(MAY_IMPORT)
    assert {"common.pretrain", "common.evaluate", "common.tables", "common.report"} <= commands
    for module, names in graph.items():
        if room(module) in MAY_IMPORT:
            assert not names & commands, f"{module} imports a command"


@pytest.mark.parametrize("module", ("common.scorers", "common.metrics", "common.cli.recipes", "common.cli.errors"))
def test_arrays_in_numbers_out_without_torch(module):
    """In a fresh interpreter in which importing torch, timm or torchvision fails: through other modules too."""
    block = "import sys; sys.modules.update(dict.fromkeys(('torch', 'torchvision', 'timm'))); "
    done = subprocess.run([sys.executable, "-c", block + f"import {module}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_scripts_hold_no_paths_of_a_machine():
    for path in [*ROOT.glob("experiments/*.sh"), *ROOT.glob("tests/*.sh")]:
        for word in path.read_text().split():
            assert not word.startswith(("/home", "/root", "/work", "/tmp")), f"{path.name}: {word}"
