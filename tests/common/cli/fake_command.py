"""A command that writes, for tests of steps: OUT holds VALUE and the inputs' text; each time it works it adds its name to --log."""

import argparse
import time
from pathlib import Path

from common.cli.errors import command
from common.cli.files import sha256, write_atomically
from common.cli.steps import add_step_arguments, making


def main() -> None:
    made = argparse.ArgumentParser()
    made.add_argument("inputs", nargs="*", type=Path)
    made.add_argument("--of", type=Path, nargs="*", default=[], help="folders of runs, as inputs")
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--also", type=Path, nargs="*", default=[])
    made.add_argument("--run", action="store_true", help="--out is the folder of a run")
    made.add_argument("--shared", action="store_true")
    made.add_argument("--value", default="")
    made.add_argument("--note", help="no part of the identity")
    made.add_argument("--log", type=Path, required=True)
    made.add_argument("--until", type=Path, help="work until this file is there")
    add_step_arguments(made)
    given = made.parse_args()
    out = given.out / "checkpoint.pt" if given.run else given.out
    files = [*given.inputs, *(folder / "checkpoint.pt" for folder in given.of)]
    places = {"run": given.out if given.run else None, "shared": given.shared}
    with making([out, *given.also], files, expect=given.expect, wait_s=given.wait, **places) as step:
        identity = {"command": "fake", "recipe": {"value": given.value}, "inputs": [sha256(path) for path in files]}
        if step.is_done(identity):
            return
        with open(given.log, "a") as log:
            log.write(f"{given.out.stem}\n")
        while given.until and not given.until.exists():
            time.sleep(0.02)
        text = "".join([given.value, *(path.read_text() for path in files)])
        before = out.read_text() if given.shared and out.exists() else ""
        for path in (out, *given.also):
            write_atomically(path, lambda part: part.write_text(before + text))
        step.say(f"made {text}")


if __name__ == "__main__":
    command(main)
