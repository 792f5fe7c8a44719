"""Nearest neighbours by exhaustive search in float64, a tile at a time, on a GPU if there is one: arrays in, arrays out."""

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
    import torch  # scores are importable without it

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    g = torch.from_numpy(unit(rows)).to(device)
    lengths, nearest = (g**2).sum(1, keepdim=True), g.new_empty(len(g), 0)
    step = max(1, TILE_BYTES // (8 * max(bank.shape[1], len(g))))
    for start in range(0, len(bank), step):
        # Scaled anew for every block of rows: next to the product that is nothing, and no float64 copy of the bank is kept.
        tile = torch.from_numpy(unit(bank[start : start + step].astype(np.float64))).to(device)
        squares = torch.cat([nearest, torch.addmm(lengths + (tile**2).sum(1), g, tile.T, alpha=-2)], dim=1)
        nearest = squares.topk(k, largest=False, sorted=False).values if squares.shape[1] > k else squares
    return nearest.amax(1).clamp_min(0).sqrt().cpu().numpy()
