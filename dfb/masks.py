"""Pseudo-masks: which pixels of a training image are foreground (DFB Eq. 1, 2)."""

from jaxtyping import Bool, Float
from torch import Tensor

from common.errors import UserError


def pseudo_mask(attention: Float[Tensor, "batch rows cols"], theta: float, *, strict: bool = False) -> Bool[Tensor, "batch rows cols"]:
    """True = foreground: where the attention, in [0, 1], reaches theta (Eq. 2). Ties count as foreground, as Eq. 2 has >=.

    `strict` is the released code's >. Raises UserError for a theta outside (0, 1).
    """
    if not 0 < theta < 1:
        raise UserError(f"theta must be in (0, 1), got {theta}")
    return attention > theta if strict else attention >= theta
