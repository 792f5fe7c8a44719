"""One seed a run; every use of randomness derives its own from it, so that changing one use does not shift the others.

Nothing is carried from step to step: the seed of (run seed, use, position) is a hash. A run that was killed goes on without any saved
generator, and draws what it would have drawn.
"""

import contextlib
import hashlib
import sys
from collections.abc import Iterator

import torch


def derive(seed: int, use: str, position: int = 0) -> int:
    """A 63-bit seed for one use ("initialisation", "order", "augmentation", ...) at one position (an epoch, a step)."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{use}/{position}".encode()).digest()[:8], "big") >> 1


def generator(seed: int, use: str, position: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(derive(seed, use, position))


@contextlib.contextmanager
def seeded(seed: int, use: str) -> Iterator[None]:
    """For what can be given no generator (torch's layers draw their first weights themselves); the global one is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, use))
        yield


def threads_of(device: torch.device, before: list[int], name: object) -> list[int]:
    """The numbers of threads that a run has had, one after the other. What a run that goes on (`before` is not empty) cannot promise is said on stderr:
    sums are rounded in another order by another number of threads, and on a GPU in any order."""
    now = torch.get_num_threads()
    if before and device.type != "cpu":
        print(
            f"{name}: on {device.type} a run that goes on need not end with the bits of an undisturbed one",
            file=sys.stderr,
        )
    elif before and before[-1] != now:
        said = (
            f"trained with {before[-1]} threads so far, now with {now}; it ends with other bits than an undisturbed run"
        )
        print(f"{name}: {said} (OMP_NUM_THREADS={before[-1]} for the same)", file=sys.stderr)
    return before if before[-1:] == [now] else [*before, now]
