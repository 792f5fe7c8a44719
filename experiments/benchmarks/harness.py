"""What every benchmark shares: kinds of work timed in turn, the peak memory of a fresh process, one report.

Kinds run A, B, C, A, B, C, ..., so that a machine that slows down slows all of them, and ratios are taken within a round. Importing this file
puts the checkout on the path: `python experiments/benchmarks/NAME.py` works from any folder.
"""

import argparse
import multiprocessing
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from common.cli import flags
from common.cli.errors import UserError

STATUS = Path("/proc/self/status")
Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # header, lines


def parser(script: str, about: str | None, *, rounds: int = 0, device: bool = True) -> argparse.ArgumentParser:
    """The parser of a benchmark with the flags that they share; `rounds` is the default of --rounds, 0: no such flag."""
    prog = f"python experiments/benchmarks/{Path(script).name}"
    made = argparse.ArgumentParser(prog=prog, description=about, formatter_class=flags.formatter)
    if rounds:
        text = f"timed runs of each kind, in turn [{rounds}]"
        made.add_argument("--rounds", type=int, default=rounds, metavar="N", help=text)
    if device:
        flags.add_device_argument(made)
    else:
        made.add_argument("--quiet", action="store_true", help="no lines on progress")
    return made


def at_least(low: int, **values: int) -> None:
    """Raises UserError for the first value below `low`."""
    for name, value in values.items():
        if value < low:
            raise UserError(f"{name.replace('_', '-')} must be >= {low}, got {value}")


def pick_device(name: str) -> Any:
    """The torch.device of that name, with cuDNN choosing its algorithms by trial as in training."""
    import torch

    from common.cli import device

    torch.backends.cudnn.benchmark = (picked := device.pick_device(name)).type == "cuda"
    return picked


def synchroniser(device: Any) -> Callable[[], None]:
    """Waits for what was queued on a GPU; on a CPU nothing is ever queued."""
    import torch

    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)


def timed(
    work: Callable[[], Any], settle: Callable[[], None], clock: Callable[[], float] = time.perf_counter
) -> tuple[float, Any]:
    """Seconds and result of one call; `settle` waits for the device before each reading of the clock."""
    settle()
    started = clock()
    result = work()
    settle()
    return clock() - started, result


@dataclass(frozen=True)
class Rounds:
    """What the timed rounds gave; entry i of every kind belongs to round i."""

    seconds: dict[str, np.ndarray]
    results: dict[str, list[Any]]

    def rates(self) -> dict[str, np.ndarray]:
        """Items a second, where a kind's result is the number of items it worked on."""
        return {kind: np.array(self.results[kind]) / seconds for kind, seconds in self.seconds.items()}


def in_turn(
    kinds: Mapping[str, Callable[[], Any]],
    rounds: int,
    *,
    before: Callable[[], Any] = lambda: None,
    settle: Callable[[], None] = lambda: None,
    progress: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> Rounds:
    """Time every kind once a round, after one round of warm-up that is not counted; `before` runs ahead of each, untimed."""
    seconds, results = {kind: [] for kind in kinds}, {kind: [] for kind in kinds}
    for number in range(rounds + 1):
        for kind, work in kinds.items():
            before()
            took, result = timed(work, settle, clock)
            if number:
                seconds[kind].append(took)
                results[kind].append(result)
            if progress:
                print(f"{f'round {number}/{rounds}' if number else 'warm-up'}, {kind}: {took:.4g} s", file=sys.stderr)
    return Rounds({kind: np.array(found) for kind, found in seconds.items()}, results)


def ratios(measured: Mapping[str, Sequence[float]], base: str) -> dict[str, np.ndarray]:
    """Each round's value of a kind over the base's value of the same round."""
    return {kind: np.asarray(values) / np.asarray(measured[base]) for kind, values in measured.items()}


def beside(
    measured: Mapping[str, Sequence[float]], base: str, *, decimals: int = 2, scale: float = 1
) -> list[list[str]]:
    """Lines of a table: kind, median times `scale`, median of the rounds' ratios to `base`, their range."""
    return [
        [kind, f"{scale * np.median(measured[kind]):.{decimals}f}", f"{np.median(ratio):.3f}", extent(ratio, 3)]
        for kind, ratio in ratios(measured, base).items()
    ]


def extent(values: Sequence[float], decimals: int) -> str:
    return f"{min(values):.{decimals}f} to {max(values):.{decimals}f}"


@dataclass(frozen=True)
class Apart:
    """One run in a process of its own: its result, and memory in bytes as it began and at its highest (NaN where it cannot be read)."""

    result: Any
    before: float
    peak: float

    @property
    def grown(self) -> float:
        return self.peak - self.before


def apart(
    prepare: Callable[..., Callable[[], Any]], *given: Any, device: str = "cpu", anonymous: bool = False
) -> Apart | None:
    """`prepare(*given)()` in a fresh process; what `prepare` does is not measured.

    None where the process ended before its answer; a UserError there is raised here. Memory is the GPU's, as torch allocates it, where
    `device` is one; else the process's resident size, or with `anonymous` (Linux) that without the pages of mapped files, which can be
    dropped whenever others need them. `prepare` is a function of a module.
    """
    context = multiprocessing.get_context("spawn")  # a forked child would begin with this process's memory
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(theirs, prepare, given, device, anonymous))
    child.start()
    theirs.close()
    try:
        found = ours.recv()
    except EOFError:  # an error, or ended from outside, which is what running out of memory looks like
        found = None
    finally:
        child.join()
    if isinstance(found, UserError):
        raise found
    return found


def _answer(pipe: Any, prepare: Callable[..., Callable[[], Any]], given: tuple, device: str, anonymous: bool) -> None:
    try:
        work = prepare(*given)
        with _gpu_memory(device) if device.startswith("cuda") else _sampled() if anonymous else _resident() as memory:
            result = work()
    except UserError as error:
        pipe.send(error)
    else:
        pipe.send(Apart(result, *memory))


@contextmanager
def _gpu_memory(device: str) -> Iterator[list[float]]:
    import torch

    torch.cuda.reset_peak_memory_stats(device)
    yield (memory := [torch.cuda.memory_allocated(device)])
    memory.append(torch.cuda.max_memory_allocated(device))


@contextmanager
def _resident() -> Iterator[list[float]]:
    """Linux: the kernel's own high-water mark, lowered first to what is resident now. Elsewhere the highest so far, before and after."""
    if not STATUS.exists():
        yield (memory := [_highest()])
        memory.append(_highest())
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass  # where that is forbidden, the mark is the highest since the process began
    yield (memory := [_status("VmRSS")])
    memory.append(_status("VmHWM"))


def _highest() -> float:
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


@contextmanager
def _sampled() -> Iterator[list[float]]:
    """Anonymous memory has no high-water mark: looked at every 5 ms."""
    done, memory = threading.Event(), [_status("RssAnon")] * 2

    def watch() -> None:
        while not done.wait(0.005):
            memory[1] = max(memory[1], _status("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield memory
    finally:
        done.set()
        watcher.join()


def _status(field: str) -> float:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024.0


def report(setting: str, device: Any, *tables: Table) -> None:
    """Print what was measured on what, then each table."""
    from common.cli import provenance
    from common.results.tables import markdown

    print(f"{setting}\n{provenance.hardware(device)}; {provenance.versions()}; commit {provenance.commit()}")
    for header, lines in tables:
        print("\n" + markdown(header, lines))
