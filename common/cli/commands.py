"""What commands share from their first line on: a parser in the suite's look, and the step (common.cli.steps) that their flags ask for."""

import argparse
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from common.cli.flags import formatter
from common.cli.steps import Step, add_step_arguments, making

typed: dict[str, str] = {}  # module -> how it was typed, where not as `python -m MODULE` (common.cli.ood)


def prog(module: str) -> str:
    """What usage and errors call a command."""
    return typed.get(module, f"python -m {module}")


def parser(name: str, about: str | None, *shared: Callable[[argparse.ArgumentParser], None]) -> argparse.ArgumentParser:
    """`python -m NAME`, with the flags of a step and those that `shared` adds."""
    made = argparse.ArgumentParser(prog=prog(name), description=about, formatter_class=formatter)
    for add in (*shared, add_step_arguments):
        add(made)
    return made


def step_of(
    arguments: argparse.Namespace, outputs: Iterable[Path], inputs: Iterable[Path | None], **how: Any
) -> AbstractContextManager[Step]:
    """`making`, told what --expect and --wait say. An input that is None was not given."""
    given = [path for path in inputs if path]
    return making(outputs, given, expect=arguments.expect, wait_s=arguments.wait, **how)
