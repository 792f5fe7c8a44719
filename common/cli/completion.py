"""Completion of `ood` in a shell, by shtab: a script that is made once and knows every command and flag."""

import argparse
import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

from common.cli.errors import UserError

SHELLS = ("bash", "zsh", "tcsh")


class _Made(Exception):
    """Carries a parser out of the command that made it."""


def script(every: Iterable[Any], words: list[str]) -> str:
    """The script for the shell that `words` names; `every`: the commands (common.cli.ood). Raises UserError for another shell, and without shtab."""
    if words[1:] or words[:1] not in [[shell] for shell in SHELLS]:
        raise UserError(f"--completion needs a shell: {', '.join(SHELLS)}, got {' '.join(words) or 'none'}")
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise UserError("completion needs shtab: pip install shtab") from error
    whole = argparse.ArgumentParser(prog="ood")
    groups = {"ood": whole.add_subparsers()}
    for one in every:
        *path, name = one.typed.split()
        group = " ".join(path)
        if group not in groups:
            groups[group] = groups["ood"].add_parser(path[-1], help=f"commands of {path[-1]}").add_subparsers()
        made = parser_of(one.module)
        for action in made._actions:
            if not action.choices and (
                action.type is Path or action.metavar in ("FILE", "PATH") or action.nargs in ("+", "*")
            ):
                action.complete = shtab.FILE
        groups[group].add_parser(name, parents=[made], add_help=False, help=one.about.replace("%", "%%"))
    return shtab.complete(whole, words[0])


def parser_of(module: str) -> argparse.ArgumentParser:
    """The parser that a command reads its words with."""

    def caught(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        raise _Made(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", caught), mock.patch("sys.argv", [module]):
        try:
            importlib.import_module(module).main()
        except _Made as made:
            return made.args[0]
    raise AssertionError(f"{module} reads no words")
