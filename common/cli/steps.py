"""A command is a step: it knows whether what it writes is there, whole and made of these inputs by this recipe, and then does nothing.

    with making([out / "norms.png", out / "norms.json"], [checkpoint], expect=arguments.expect, wait_s=arguments.wait) as step:
        ...                                                    # inputs are there: read them
        if step.is_done({"command": "lbf.figures", "version": 1, "weights": digest, "limit": limit}):
            return                                             # has printed what the command printed when it made them
        ...                                                    # write, each file atomically
        step.say(table)                                        # printed, and kept

*Identity* is plain values that decide the content: command and its version (raised when its numbers change), recipe, seed, digests of data and weights; not
names, paths, device or time. Identity, lock and stamp (common.cli.stamps) belong to the set of outputs. Who finds the lock held by the same identity waits
for it; by another, is refused. What is stale is made again, but a run (hours of training) is moved aside first and never deleted.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from common.cli.errors import UserError, group
from common.cli.files import free_name, naming, sweep, write_json
from common.cli.locks import Lock, holder, lock_path, named
from common.cli.outputs import check_outputs
from common.cli.recipes import digest, ranged
from common.cli.signals import Interrupted
from common.cli.stamps import differences, digests, holds, is_current, line_key, read_stamp, relative, stamp_path

POLL_S = 0.2
ROUND_S = 60.0  # how long the first process waits before it shows the others that it lives
ASIDE = ".aside.json"  # in a run that was moved aside: the name it had and the one it has


def add_step_arguments(parser: argparse.ArgumentParser) -> None:
    """--expect and --wait, for `making`; every command that writes has them."""
    steps = parser.add_argument_group("steps", "what scripts add to run commands side by side: docs/tables.md")
    said = "an input counts as there only if the line of that key made it, from inputs as they are now; repeatable"
    steps.add_argument("--expect", action="append", default=[], type=_expectation, metavar="PATH=KEY", help=said)
    default = f"60, under Slurm 600, now {_patience_s()}; without --expect 0"
    said = f"seconds an input may be missing while nobody makes it [{default}]"
    steps.add_argument("--wait", type=ranged(float, low=0), default=None, metavar="S", help=said)


def _expectation(words: str) -> tuple[Path, str]:
    path, _, key = words.rpartition("=")
    if not path or not key:
        raise argparse.ArgumentTypeError(f"must be PATH=KEY, got {words!r}")
    return Path(path), key


class Step:
    """One set of outputs: found done, or this process's to make. Made by `making`."""

    def __init__(
        self, outputs: list[Path], inputs: list[Path], run: Path | None, shared: bool, together: Callable | None
    ):
        self.outputs, self.inputs, self.run, self.shared = outputs, inputs, run, shared
        self.first = together is None or group()[0] == 0
        if self.first:
            check_outputs(outputs, inputs)
        self._together = together or (lambda value: value)
        self._line, self._heard, self._said = line_key(), set(), []
        self._identity: dict[str, Any] | None = None  # once these outputs are ours to make
        self._others: list[dict[str, Any]] = []  # makers of other rows of the same file
        self._read: dict[str, str] = {}  # digests of the inputs when they were read
        if outputs:
            self.name = run or outputs[0]
            self.folder, self.stamp, self.lock = outputs[0].parent, stamp_path(outputs[0]), Lock(lock_path(self.name))
            # Another command may write one of the others beside its own; the folder of a run has one lock for all that is in it.
            self._locks = [
                (self.lock, self.name),
                *((Lock(lock_path(path)), path) for path in outputs[1:] if run is None),
            ]
        self.stands = (
            False  # whether all outputs were there as some command had made them, when they became ours to make
        )
        self._undo: list[Callable[[], None]] = []  # of what was made before there was an output

    def before(self) -> dict[str, Any]:
        """The identity of what stands there, {} where nothing does: for values that are resolved once ("auto") and then read from the run."""
        made = read_stamp(self.stamp).get("made") if self.outputs and self.first else None
        return self._together(made[0]["words"] if made else {})

    def adopt(self, identity: dict[str, Any]) -> None:
        """What stands there without a stamp was made, or begun, with this identity by other evidence: it is gone on with, not moved aside."""
        if self.first and self.lock.take() and not self.stamp.exists():
            write_json(self.stamp, self._stamp(identity, dict.fromkeys(relative(self.outputs, self.folder))))

    def is_done(self, identity: dict[str, Any]) -> bool:
        """Whether the outputs are there as this identity makes them; then what the command said is printed again. Else they are ours to make.

        Raises UserError where a living process is making them with another identity.
        """
        if not self.outputs:
            return False
        identity = json.loads(json.dumps(identity))  # as it is read again: tuples as lists
        done = self._until(lambda: self._claim(identity, digest(identity)))
        if done and self.first:
            print(f"{self.name}: done already", file=sys.stderr)
            print(*self._said, sep="\n", end="\n" if self._said else "")
        self._identity = None if done else identity
        return done

    def say(self, text: str) -> None:
        """Print a part of the result, and keep it for whoever asks when it is done."""
        with naming("standard output"):
            print(text, flush=True)
        self._said.append(text)

    def forget_others(self) -> None:
        """Of a file written row by row: rows that other commands had asked for were replaced, so those are done no longer."""
        self._others = []

    def _until(self, attempt: Callable[[], Any]) -> Any:
        """What the first process's attempt gives, once that is not None, in all processes."""
        while True:
            found, end = None, time.monotonic() + ROUND_S
            while self.first and (found := attempt()) is None and time.monotonic() < end:
                time.sleep(POLL_S)
            if (found := self._together(found)) is not None:
                return found

    def _wait_for(self, who: dict[str, Any], what: Path) -> None:
        """None, which is "not yet"; says once for whom."""
        if (text := f"waiting for {what}: {named(who)} is making it") not in self._heard:
            self._heard.add(text)
            print(text, file=sys.stderr)

    def _announce(self) -> bool | None:
        """Take the lock, if it is free, before any wait: who waits for our outputs must see that somebody is at it."""
        if self.lock.take():
            self.lock.note(line=self._line)
            return True
        who = holder(self.lock.path)
        # Another line may mean another identity, or the same: to be seen once our inputs are there.
        return True if who and who.get("line") != self._line else self._wait_for(who, self.name) if who else None

    def _inputs_there(self, wanted: list[tuple[Path, str | None]], wait_s: float) -> Callable[[], bool | None]:
        """An attempt for `_until`: each input once it is ready, in order."""
        since, announced = time.monotonic(), not self.outputs

        def attempt() -> bool | None:
            nonlocal since, announced
            if not (announced := announced or self._announce()):
                return None
            while wanted:
                path, key = wanted[0]
                ready = is_current(path, key) if key else path.exists()
                who = None if ready and key else maker_of(path, key)
                if who is not None:
                    since = time.monotonic()
                    return self._wait_for(who, path)
                if not ready and time.monotonic() - since <= wait_s:
                    return None
                if not ready and key:
                    raise UserError(f"{path} is not there as this line expects it (key {key}), and nobody is making it")
                since = time.monotonic()
                del wanted[0]  # a missing one without a key is named by its reader
            return True

        return attempt

    def _claim(self, identity: dict[str, Any], ours: str) -> bool | None:
        """Whether the outputs are done, once the lock is ours; None: not yet."""
        for lock, path in self._locks:
            if not lock.take():
                self.release()  # two that need each other's must not both wait with one in hand
                return self._wait_for_its_holder(lock, path, identity, ours)
            lock.note(line=self._line, identity=ours, words=identity)
        for folder in {path.parent for path in self.outputs}:
            sweep(folder)
        self._read = digests(self.inputs, self.folder)
        stamp = read_stamp(self.stamp) or {"outputs": {}, "made": []}
        whole = holds(stamp["outputs"], self.folder) and {*relative(self.outputs, self.folder)} <= {*stamp["outputs"]}
        same = next((maker for maker in stamp["made"] if maker["identity"] == ours), None)
        if whole and same:
            same |= {"lines": sorted({*same["lines"], self._line}), "inputs": self._read}
            write_json(self.stamp, stamp)
            self._said = [same["said"]] if same["said"] else []
            return True
        unfinished = same and None in stamp["outputs"].values()  # killed: whoever asks next goes on with it
        if self.run and not unfinished and self.outputs[0].exists() and not self._move_aside():
            return None
        self.stands, self._others = whole, stamp["made"] if whole and self.shared else []
        if not self._others:
            self._undo = [] if self.stamp.exists() else [self.stamp.unlink]
            self._undo += [] if self.folder.exists() else [self.folder.rmdir]
            write_json(self.stamp, self._stamp(identity, dict.fromkeys(relative(self.outputs, self.folder))))
        return False

    def _wait_for_its_holder(self, lock: Lock, path: Path, identity: dict[str, Any], ours: str) -> None:
        """None, which is "not yet". Raises UserError where it is held by another identity."""
        who = holder(lock.path)
        if who and not self.shared and who.get("identity") not in (None, ours):
            differing = ", ".join(differences(identity, who["words"]))
            raise UserError(f"{path}: {named(who)} is making it otherwise ({differing}); wait, or write elsewhere")
        return self._wait_for(who, path) if who else None

    def release(self) -> None:
        for lock, _ in reversed(self._locks if self.outputs else ()):  # the first takes away the folders it made
            lock.release()

    def give_up(self) -> None:
        """Where a command ends before there is an output, nothing says that one was begun."""
        if not any(os.path.lexists(path) for path in self.outputs):
            with suppress(OSError):
                for undo in self._undo:
                    undo()

    def _move_aside(self) -> bool:
        """The run under its next free name, RUN.1, RUN.2, ...; not while a living process writes in it."""
        if inside := [str(path) for path in self.inputs if self.run in path.parents]:
            needed = ", ".join(inside)
            raise UserError(f"{self.run} holds another run and {needed}, which this one needs; write elsewhere")
        if Path.cwd().is_relative_to(self.run.resolve()):
            raise UserError(f"{self.run} holds another run, and is the current folder; write elsewhere")
        for lock in self.run.rglob(".*.lock"):
            if (who := holder(lock)) and "identity" in who:
                self._wait_for(who, lock.parent)
                return False
        aside = free_name(self.run)
        write_json(self.run / ASIDE, {"was": self.run.name, "is": aside.name})
        self.run.rename(aside)
        print(f"{self.run}: another run stood here; it is now {aside}", file=sys.stderr)
        return True

    def _stamp(self, identity: dict[str, Any], outputs: dict[str, str | None]) -> dict[str, Any]:
        maker = {
            "identity": digest(identity), "words": identity, "lines": [self._line], "inputs": self._read, "said": "\n".join(self._said),
        }  # fmt: skip
        others = [other for other in self._others if holds(other["inputs"], self.folder) or not other["inputs"]]
        return {"outputs": outputs, "made": [maker, *others]}

    def finish(self) -> None:
        """Stamp what was made. Raises UserError where an output is missing."""
        if self._identity is None or not self.first:
            return
        if lost := [str(path) for path in self.outputs if not path.exists()]:
            raise UserError(f"{', '.join(lost)} was to be made, and is not there")
        write_json(self.stamp, self._stamp(self._identity, digests(self.outputs, self.folder)))


def maker_of(path: Path, key: str | None) -> dict[str, Any] | None:
    """The living process that makes a file, or the run it lies in, or, by the line of that key, something in a folder."""
    path = Path(os.path.abspath(path))
    for lock in (lock_path(path), lock_path(path.parent)):
        if (who := holder(lock)) is not None:
            return who
    inside = (holder(lock) for lock in path.glob(".*.lock")) if key else ()
    return next((who for who in inside if who and who.get("line") == key), None)


@contextmanager
def making(
    outputs: Iterable[Path],
    inputs: Iterable[Path] = (),
    *,
    expect: Iterable[tuple[Path, str]] = (),
    wait_s: float | None = None,
    run: Path | None = None,
    shared: bool = False,
    together: Callable[[Any], Any] | None = None,
) -> Iterator[Step]:
    """Take the lock on `outputs` and wait for `inputs` and what is expected; on leaving, stamp what was made. Without outputs it waits, and no more.

    `run`: the folder that is moved aside whole rather than overwritten. `shared`: the output is written row by row, by several identities one after the
    other. `together`: under torchrun, rank 0's value in all processes (common.training.distributed.of_main); rank 0 alone locks, looks and stamps.
    Raises UserError for an expected input that nobody has been making for `wait_s` seconds, and where an output is not there in the end.
    """
    expect, inputs = list(expect), [Path(path) for path in inputs]
    wait_s = float(wait_s if wait_s is not None else _patience_s() if expect else 0)
    plain = [path for path in inputs if not any(path == there or there in path.parents for there, _ in expect)]
    if run is not None and (real := Path(os.path.realpath(run))) != Path(os.path.abspath(run)):
        run = real  # behind a link: that stays, and what it leads to is moved and made
    if run is not None and not Path(os.path.abspath(run)).name:
        raise UserError(f"{run} cannot be the folder of a run: it has no name of its own")
    step = Step([Path(path) for path in outputs], inputs, run, shared, together)
    try:
        step._until(step._inputs_there([*expect, *((path, None) for path in plain)], wait_s))
        yield step
        step.finish()
    except BaseException as error:
        if isinstance(error, Interrupted):
            error.where = error.where or (f" before {step.name} was finished" if step.outputs else "")
        step.give_up()
        raise
    finally:
        step.release()


def _patience_s() -> int:
    return 600 if "SLURM_JOB_ID" in os.environ else 60
