"""One way to refuse bad input: a single line on stderr, exit code 2, no traceback."""

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable


class UserError(ValueError):
    """Input that a person can mend. Its text names the value and what was expected."""


def unknown(kind: str, got: str, known: Iterable[str]) -> UserError:
    """The error for a name that is in no table: it lists the names that are."""
    return UserError(f"unknown {kind} {got!r}; known: {', '.join(known)}")


def _one_line(message: Warning | str, category: type[Warning], *where: object) -> str:
    return f"{'warning' if category is UserWarning else category.__name__}: {message}\n"


def command(main: Callable[[], None], *, alone: bool = False) -> None:
    """Run a command's `main`; a UserError becomes one line on stderr and exit code 2, a lost fellow process one line and exit code 1.

    `alone`: its work is one process's; of those that torchrun starts the first does it, and the others end at once.
    """
    warnings.formatwarning = _one_line
    if alone and os.environ.get("RANK", "0") != "0":
        return
    if alone:
        os.environ["WORLD_SIZE"] = "1"
    try:
        main()
    except UserError as error:
        # Under torchrun the process that found the fault says so, and takes the others down
        rank = os.environ.get("RANK", "0")
        if rank != "0":
            # Where the first process has found it too, its message is enough: torchrun ends this one meanwhile
            time.sleep(2)
        print(f"error: {'' if rank == '0' else f'process {rank}: '}{error}", file=sys.stderr, flush=True)
        sys.exit(2)
    except RuntimeError as error:
        text = str(error)
        if os.environ.get("WORLD_SIZE", "1") == "1" or not any(word in text for word in ("onnection", "gloo", "NCCL")):
            raise
        print(
            f"error: process {os.environ.get('RANK', '0')}: another process is gone; torchrun stops or restarts all ({text.splitlines()[0]})",
            file=sys.stderr,
            flush=True,
        )
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
