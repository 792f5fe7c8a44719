"""One seed a run; every use of randomness derives its own from it, so that changing one use does not shift the others.

Nothing is carried from step to step: the seed of (run seed, use, position) is a hash. A run that was killed goes on without any saved
generator, and draws what it would have drawn.
"""

import contextlib
import hashlib
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
