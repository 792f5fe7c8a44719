"""Commands as `python -m MODULE WORDS` runs them, each in a process forked from this one, which has imported torch and the rest once."""

import importlib
import os
import runpy
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from common.cli import provenance

HEAVY = (
    "timm", "torchvision", "matplotlib.pyplot", "sklearn.metrics", "sklearn.manifold", "scipy.stats", "scipy.io", "scipy.optimize", "cv2",
    "common.convert", "common.detect", "common.evaluate", "common.pretrain", "common.report", "common.data.verify", "common.data.shrink", "dfb.evaluate", "dfb.figures",
    "dfb.finetune", "dfb.masks", "dfb.temperature", "lbf.figures", "lbf.finetune", "lbf.selection", "lbf.tsne",
)  # fmt: skip


class Said(NamedTuple):
    """How a command ended. `code` is negative for the signal that ended it, None where it was stopped for it took too long."""

    code: int | None
    out: str
    err: str
    seconds: float


def prepare() -> None:
    """Import what any command may need; nothing is computed here, so that no thread has begun when a process is forked."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MPLBACKEND", "Agg")
    for name in HEAVY:
        importlib.import_module(name)
    provenance.commit()  # one for all, though the checkout may change meanwhile


def begin(words: Sequence[object], folder: Path, said: Path) -> int:
    """Start a command in `folder` and return its process; what it says goes to the files SAID.out and SAID.err."""
    sys.stdout.flush(), sys.stderr.flush()
    if pid := os.fork():
        return pid
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        for number, path in ((0, os.devnull), (1, f"{said}.out"), (2, f"{said}.err")):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
        sys.stdin, sys.stdout, sys.stderr = (
            open(number, mode, closefd=False) for number, mode in ((0, "r"), (1, "w"), (2, "w"))
        )
        code = _run(words)
    finally:
        os._exit(code)


def _run(words: Sequence[object]) -> int:
    sys.argv = [str(word) for word in words]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'.*' found in sys.modules", RuntimeWarning)
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1 if stop.code else 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush(), sys.stderr.flush()
    return code


def typed(words: Sequence[object], folder: Path, limit_s: float = 60.0) -> Said:
    """A command from its begin to its end, stopped when it has run for `limit_s`; `words` begin with the module."""
    said, started = folder / ".said", time.monotonic()
    pid, status, is_late = begin(words, folder, said), None, False
    while status is None:
        done, found = os.waitpid(pid, os.WNOHANG)
        if done:
            status = found
        elif time.monotonic() - started > limit_s:
            is_late = True
            os.kill(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
        else:
            time.sleep(0.002)
    seconds = time.monotonic() - started
    texts = [Path(f"{said}.{kind}").read_text(errors="replace") for kind in ("out", "err")]
    return Said(None if is_late else os.waitstatus_to_exitcode(status), *texts, seconds)
