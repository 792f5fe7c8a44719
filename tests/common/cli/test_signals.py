"""Signals end a command where it stands, and held ones where it says."""

import os
import signal
import subprocess
import sys

import pytest

from common.cli import signals
from common.cli.signals import Interrupted, heard, held


@pytest.mark.parametrize("number", signals.IN_WORKERS)
def test_a_signal_is_raised_and_what_stood_before_stands_again(number):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as stop, heard():
        os.kill(os.getpid(), number)
    assert stop.value.signal == number and signal.getsignal(number) == before


def test_a_held_signal_is_noted_and_a_second_does_not_wait():
    done = []
    with pytest.raises(Interrupted), heard(), held() as stops:
        os.kill(os.getpid(), signal.SIGTERM)
        done.append([stop.signal for stop in stops])
    with pytest.raises(Interrupted), heard(), held():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        done.append("too far")
    assert done == [[signal.SIGTERM]]


def test_who_looks_at_a_held_signal_may_drop_it():
    with heard(), held() as stops:
        os.kill(os.getpid(), signal.SIGINT)
        stops.clear()


def test_what_is_ignored_stays_so_as_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with heard():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


WORKER = """
import os, signal, sys, time
from common.cli.signals import heard
with heard():
    if not (worker := os.fork()):
        os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGHUP)
        print("alive", flush=True)
        os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)
    print(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]))
"""


def test_a_data_worker_leaves_the_terminals_signals_to_its_parent():
    done = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == (f"alive\n{-signal.SIGTERM}\n", "")
