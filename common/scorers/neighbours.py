"""Nearest neighbours by exhaustive search in float64, a tile at a time, on a GPU if there is one: arrays in, arrays out."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

SMALLEST = 1e-300  # keeps divisions by a length finite
TILE_BYTES = 64 * 2**20  # of the bank, or of its distances, whichever is more


def unit(rows: Float[np.ndarray, "rows channels"]) -> Float[np.ndarray, "rows channels"]:
    """Each row divided by its length; a row of zeros stays one. (x / norm + 1e-10, as some code has it, is something else.)"""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), SMALLEST)


def kth_distance(
    rows: Float[np.ndarray, "rows channels"], bank: Float[np.ndarray, "neighbours channels"], k: int, device: Any = None
) -> Float[np.ndarray, " rows"]:
    """Euclidean distance of each row to its k-th nearest (k <= neighbours) in `bank`, all scaled to length 1.

    `rows` is float64; `bank` may be memory-mapped and is read once. `device`: cuda where there is one, else cpu.
    """
    g = _on_device(unit(rows), device)
    lengths, nearest = (g**2).sum(1, keepdim=True), g.new_empty(len(g), 0)
    for part in _tiles(g, bank):
        # Scaled anew for every block of rows: next to the product that is nothing, and no float64 copy of the bank is kept.
        tile = _on_device(unit(bank[part].astype(np.float64)), g.device)
        squares = (lengths + (tile**2).sum(1)).addmm_(g, tile.T, alpha=-2)
        nearest = _best(nearest, squares, k, largest=False)
    return nearest.amax(1).clamp_min(0).sqrt().cpu().numpy()


def mean_similarity(
    rows: Float[np.ndarray, "rows channels"],
    bank: Float[np.ndarray, "neighbours channels"],
    weights: Float[np.ndarray, " neighbours"],
    k: int,
    device: Any = None,
) -> Float[np.ndarray, " rows"]:
    """Mean of the k largest (k <= neighbours) inner products of each row with the rows of `bank`, both of length 1, the latter times `weights`."""
    g = _on_device(unit(rows), device)
    best = g.new_empty(len(g), 0)
    for part in _tiles(g, bank):
        tile = _on_device(unit(bank[part].astype(np.float64)) * weights[part, None], g.device)
        best = _best(best, g @ tile.T, k, largest=True)
    return best.mean(1).cpu().numpy()


def _on_device(values: np.ndarray, device: Any) -> Any:
    import torch  # scores are importable without it

    return torch.from_numpy(values).to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _tiles(g: Any, bank: np.ndarray) -> Iterator[slice]:
    step = max(1, TILE_BYTES // (8 * max(bank.shape[1], len(g))))
    return (slice(start, start + step) for start in range(0, len(bank), step))


def _best(kept: Any, more: Any, k: int, largest: bool) -> Any:
    """The k best of each row so far."""
    import torch

    found = torch.cat([kept, more], dim=1)
    return found.topk(k, largest=largest, sorted=False).values if found.shape[1] > k else found
