"""SIGINT, SIGTERM and SIGHUP: raised where a command stands, or, while it must not be broken off, noted until it may be."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

IN_WORKERS = {signal.SIGINT: signal.SIG_IGN, signal.SIGHUP: signal.SIG_IGN, signal.SIGTERM: signal.SIG_DFL}
_noted: list["Interrupted"] | None = None  # while `held`, what has come


class Interrupted(KeyboardInterrupt):
    """A signal that ends the command. `where` it stands is said by whoever knows, the innermost first."""

    def __init__(self, number: int):
        super().__init__()
        self.signal, self.where = signal.Signals(number), ""


def _hear(number: int, _) -> None:
    if _noted is None or _noted:  # a second one does not wait
        raise Interrupted(number)
    _noted.append(Interrupted(number))


@contextmanager
def heard() -> Iterator[None]:
    """Signals are raised as Interrupted meanwhile. One that is ignored (nohup, a shell's background) stays so."""
    ours = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: handler for number in IN_WORKERS if (handler := signal.getsignal(number)) in ours}
    if threading.current_thread() is not threading.main_thread():
        before = {}  # Python lets no other set them
    for number in before:
        signal.signal(number, _hear)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def held() -> Iterator[list[Interrupted]]:
    """A first signal is put into the list that this yields, to be looked at when the work can be broken off; it is raised at the end, at the latest."""
    global _noted
    _noted = noted = []
    try:
        yield noted
    finally:
        _noted = None
    if noted:
        raise noted[0]


def _leave_to_the_parent() -> None:
    """A data worker hears the terminal too, but it is its parent that ends it."""
    for number, handler in IN_WORKERS.items():
        if signal.getsignal(number) is _hear:
            signal.signal(number, handler)


os.register_at_fork(after_in_child=_leave_to_the_parent)
