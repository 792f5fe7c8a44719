"""How a command ends: bad input, a disk that refuses, a signal are a single line on stderr and an exit code; only a fault of ours is a traceback."""

import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress

from common.cli.files import naming
from common.cli.signals import Interrupted, heard


class UserError(ValueError):
    """Input that a person can mend. Its text names the value and what was expected."""


def unknown(kind: str, got: str, known: Iterable[str]) -> UserError:
    """The error for a name that is in no table: it lists the names that are."""
    return UserError(f"unknown {kind} {got!r}; known: {', '.join(known)}")


def _one_line(message: Warning | str, category: type[Warning], *where: object) -> str:
    return f"{'warning' if category is UserWarning else category.__name__}: {message}\n"


def command(main: Callable[[], None], *, alone: bool = False) -> None:
    """Run a command's `main`, and end as `ending` says. `alone`: its work is one process's; of those that torchrun starts the first does it,
    and the others end at once."""
    warnings.formatwarning = _one_line
    rank, count = 0, 1
    try:
        rank, count = group()
        if alone and rank:
            return
        if alone:
            os.environ["WORLD_SIZE"], count = "1", 1
        _refuse_empty_words(sys.argv)
        with heard():
            try:
                main()
            finally:
                with naming("standard output"):
                    sys.stdout.flush()  # here, where it can be told that nobody reads it or that there is no room
    except BaseException as error:
        if (end := ending(error, count)) is None:
            raise
        text, code = end
        if rank and isinstance(error, UserError):
            # Where the first process has found it too, its message is enough: torchrun ends this one meanwhile
            time.sleep(2)
        if text and not (rank and isinstance(error, KeyboardInterrupt)):
            with suppress(OSError):
                print(f"error: {f'process {rank}: ' if rank else ''}{text}", file=sys.stderr, flush=True)
        _drop_what_cannot_be_printed()
        sys.exit(code)


def _refuse_empty_words(words: list[str]) -> None:
    """A variable of a script that was never set must not mean "not given". Of `--flag=--` argparse would make a list."""
    for before, word in zip(words, words[1:]):
        flag, sign, value = word.partition("=")
        if not word or (flag.startswith("--") and sign and value in ("", "--")):
            where = flag if word else before if before.startswith("--") else f"a word behind {before!r}"
            raise UserError(f"{where} must be something, got {value!r}")


def ending(error: BaseException, processes: int = 1) -> tuple[str, int] | None:
    """The line ("" for none) and the exit code that an error ends a command with; None for a fault of ours."""
    text = str(error)
    match error:
        case UserError():
            return text, 2
        case BrokenPipeError():  # `| head` has seen enough
            return "", 128 + signal.SIGPIPE
        case OSError():
            cause, path = error.strerror or text, error.filename2 or error.filename
            cause = cause[:1].lower() + cause[1:]
            return cause if path is None else f"{os.fsdecode(path)}: {cause}", 2
        case Interrupted():
            return f"stopped by {error.signal.name}{error.where}; type the same command again", 128 + error.signal
        case KeyboardInterrupt():
            return "", 128 + signal.SIGINT
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text:
        return f"out of memory{f' ({text.splitlines()[0]})' if text else ''}; try smaller batches or images", 2
    if (
        processes > 1
        and isinstance(error, RuntimeError)
        and any(word in text for word in ("onnection", "gloo", "NCCL"))
    ):
        return f"another process is gone; torchrun stops or restarts all ({text.splitlines()[0]})", 1
    return None


def _drop_what_cannot_be_printed() -> None:
    """What nobody took would be tried again, and complained about, when Python ends."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            try:
                stream.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def group() -> tuple[int, int]:
    """This process's rank and how many torchrun has started, by what it leaves in the environment; (0, 1) without it.

    Raises UserError for a WORLD_SIZE left over from elsewhere: this process would wait for fellows that do not exist.
    """
    count, rank = os.environ.get("WORLD_SIZE") or "1", os.environ.get("RANK", "")
    if count == "1":
        return 0, 1  # a RANK without a group says nothing
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing or not (count.isdecimal() and rank.isdecimal() and int(rank) < int(count)):
        said = f"without {', '.join(missing)}" if missing else f"with RANK={rank}"
        raise UserError(
            f"WORLD_SIZE={count} is set in the environment {said}: start with torchrun, or unset WORLD_SIZE"
        )
    return int(rank), int(count)
