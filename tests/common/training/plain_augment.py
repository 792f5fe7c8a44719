"""The augmentation as it was first written, for one process: it draws and applies in one go. The twin that draw-then-apply is held against."""

import torch

from common.training import augment as A


def augment(images, how, generator):
    batch, (height, width) = len(images), images.shape[2:]
    floats = images.float() / 255
    if how.crop == "pad":
        dy, dx = torch.randint(0, 2 * how.pad_px + 1, (2, batch), generator=generator)
        floats = A.crop_pad(floats, dy, dx, how.pad_px, how.crop_padding)
    elif how.crop == "window":
        dy, dx = (torch.randint(0, n - how.window_px + 1, (batch,), generator=generator) for n in (height, width))
        floats = A.cut(floats, dy, dx, (how.window_px, how.window_px))
    elif how.crop == "resized":
        floats = A.resized_crop(floats, A.draw_boxes(batch, height, width, how.area_low, generator))
    if how.flip:
        floats = A.flip(floats, torch.rand(batch, generator=generator) < 0.5)
    if how.jitter:
        spread = torch.tensor(how.jitter_strength) * (2 * torch.rand(batch, 4, generator=generator) - 1)
        factors = torch.tensor([1.0, 1, 1, 0]) + spread
        chosen = torch.rand(batch, generator=generator) < how.jitter_probability
        rank = torch.randperm(batch, generator=generator)
        floats = torch.where(chosen[:, None, None, None], color_jitter(floats, factors, rank), floats)
    return floats


def color_jitter(images, factors, rank):
    """Image rank[r] gets the r-th of the 24 orders, in turn."""
    out = images.clone()
    for r, i in enumerate(rank.tolist()):
        for op in A.ORDERS[r % 24]:
            out[i] = A.OPERATIONS[op](out[i : i + 1], factors[i : i + 1, op])[0]
    return out
