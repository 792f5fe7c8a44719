"""Masks refined by the image itself: an extension, of which neither DFB's paper nor its code has anything. Off by default.

GrabCut (Rother, Kolmogorov and Blake 2004, as OpenCV has it) from the class map as seed: where the attention is high a pixel is surely object,
where it is low surely background, and between them mixtures of colours and the image's edges decide. It may fail: `refine` keeps the mask
that it was given, and says so, where mask or its complement is empty or too small for a mixture, where the image has one colour alone, and
where all or nothing would come out.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

REFINEMENTS = ("none", "grabcut")
COMPONENTS = 5  # colours of a mixture in OpenCV's GrabCut: fewer pixels than that make none


def refine(
    images: UInt8[Tensor, "batch 3 height width"],
    attention: Float[Tensor, "batch height width"],
    masks: Bool[Tensor, "batch height width"],
    sure: tuple[float, float],
    iterations: int,
) -> tuple[Bool[Tensor, "batch height width"], Bool[Tensor, " batch"]]:
    """(refined masks, True = foreground; where the mask was kept as it was). `sure`: attention below the first is background, from the
    second on object; between them `masks` says what is more likely. Each image by itself: neither batch, threads nor processes matter.
    """
    each = zip(images.permute(0, 2, 3, 1).cpu().numpy(), attention.cpu().numpy(), masks.cpu().numpy(), strict=True)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # OpenCV works outside Python's lock
        found = list(pool.map(lambda one: grabcut(*one, sure, iterations), each))
    kept = torch.tensor([one is None for one in found], dtype=torch.bool)
    refined = masks.cpu().clone()
    for row, one in enumerate(found):
        if one is not None:
            refined[row] = torch.from_numpy(one)
    return refined, kept


def grabcut(
    image: UInt8[np.ndarray, "height width 3"],
    attention: Float[np.ndarray, "height width"],
    mask: Bool[np.ndarray, "height width"],
    sure: tuple[float, float],
    iterations: int,
) -> Bool[np.ndarray, "height width"] | None:
    """The refined mask, or None where there is nothing to refine by."""
    import cv2  # needed here only

    if min(mask.sum(), (~mask).sum()) < COMPONENTS or (image == image[0, 0]).all():
        return None
    state = np.where(mask, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    state[mask & (attention >= sure[1])], state[~mask & (attention < sure[0])] = cv2.GC_FGD, cv2.GC_BGD
    cv2.setRNGSeed(0)  # the mixtures start at drawn colours; of this thread alone
    cv2.grabCut(
        np.ascontiguousarray(image),
        state,
        None,
        np.zeros((1, 65)),
        np.zeros((1, 65)),
        iterations,
        cv2.GC_INIT_WITH_MASK,
    )
    found = np.isin(state, (cv2.GC_FGD, cv2.GC_PR_FGD))
    return found if found.any() and not found.all() else None
