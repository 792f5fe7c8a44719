"""One console command: `ood evaluate ...` is `python -m common.evaluate ...`, `ood lbf finetune ...` is `python -m lbf.finetune ...`.

Nowhere is there a list of commands: a module that runs when it is the main one is a command, and the first line of its docstring says what it does.
"""

import ast
import importlib.util
import os
import re
import runpy
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import NamedTuple

from common.cli import commands
from common.cli.errors import UserError, command, unknown

HOME = Path(__file__).resolve().parents[2]
METHODS = ("lbf", "dfb")  # their commands are typed with the method's name: ood lbf finetune
RUNS = re.compile(r"^if __name__ == .__main__.:", re.MULTILINE)
USAGE = (
    "usage: ood COMMAND ...    (ood COMMAND --help: what it takes; ood --completion bash | zsh | tcsh: for the shell)"
)


class Known(NamedTuple):
    """A command: how it is typed, the module that runs (of a package its __main__), and its file."""

    typed: str
    module: str
    file: Path

    @property
    def about(self) -> str:
        return (ast.get_docstring(ast.parse(self.file.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def known(package: str) -> dict[str, Known]:
    """Every command of a package by its name: evaluate, data, data.shapes."""
    found = {}
    for file in sorted((HOME / package).rglob("*.py")):
        if RUNS.search(file.read_text(encoding="utf-8")):
            parts = file.relative_to(HOME / package).with_suffix("").parts
            name = ".".join(parts).removesuffix(".__main__")
            typed = f"ood {name}" if package == "common" else f"ood {package} {name}"
            found[name] = Known(typed, ".".join((package, *parts)), file)
    return found


def listed() -> list[Known]:
    return [one for package in ("common", *METHODS) for one in known(package).values()]


def help_text(of: list[Known]) -> str:
    width = max(len(one.typed) for one in of) + 2
    return "\n".join([USAGE, "", *(f"  {one.typed:<{width}}{one.about}" for one in of)])


def chosen(words: list[str]) -> tuple[Known, list[str]]:
    """The command that the words name, and the words for it. Answers --help and --completion by itself, and exits.

    Raises UserError for words that name none, and where Python would take another's module for it.
    """
    package = words[0] if words and words[0] in METHODS else "common"
    every, words = known(package), words[package != "common" :]
    if not words:
        raise UserError("which command? ood --help lists them")
    if words[0] in ("-h", "--help"):
        print(help_text(listed() if package == "common" else [*every.values()]))
        sys.exit(0)
    if words[0] == "--completion":
        from common.cli import completion  # another's library

        print(completion.script(listed(), words[1:]))
        sys.exit(0)
    if words[0] not in every:
        where = "command" if package == "common" else f"command of {package}"
        raise unknown(where, words[0], [*every, *(METHODS if package == "common" else ())])
    check_ours(every[words[0]])
    return every[words[0]], words[1:]


def check_ours(one: Known) -> None:
    """Raise UserError unless Python finds package and module where their files are: packages have short names, and others may bear them too.

    The package for itself: where this suite is installed to be edited, a module that another's package lacks is looked for in ours.
    """
    package = one.module.partition(".")[0]
    whole = _spec(package)
    if not all(
        found is not None and found.origin is not None and os.path.samefile(found.origin, file)
        for found, file in ((whole, HOME / package / "__init__.py"), (_spec(one.module), one.file))
    ):
        place = next(iter(whole.submodule_search_locations or ()), "elsewhere") if whole else "elsewhere"
        raise UserError(f"another package called {package} ({place}) comes before {HOME / package} on Python's path")


def _spec(module: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(module)
    except ImportError:
        return None


def main() -> None:
    """What the console script calls: the command runs in this process as `python -m` would run it."""
    asked: list[tuple[Known, list[str]]] = []
    command(lambda: asked.append(chosen(sys.argv[1:])))
    one, words = asked[0]
    commands.typed[one.module.removesuffix(".__main__")] = one.typed
    sys.argv = [one.typed, *words]
    runpy.run_module(one.module, run_name="__main__", alter_sys=True)
