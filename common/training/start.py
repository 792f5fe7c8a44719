"""What a network normalises by that no checkpoint is given for."""

import torch

from common.backbones.classifier import CIFAR10_STATS, CIFAR100_STATS, HALF_STATS, IMAGENET_STATS, Stats

STATS: dict[str, Stats] = {
    "cifar10": CIFAR10_STATS, "cifar100": CIFAR100_STATS, "shapes": HALF_STATS,
    "imagenet100": IMAGENET_STATS, "imagenet100-mcm": IMAGENET_STATS, "imagenet1k": IMAGENET_STATS,
}  # fmt: skip


def stats_of(images) -> Stats:
    """Those that are customary for the set, else its own."""
    return STATS.get(images.name.split(":")[0]) or measured_stats(images)


def measured_stats(images) -> Stats:
    """Mean and standard deviation per channel over (at most 10,000 of) the training images, in [0, 1]."""
    total, squares, count = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64), 0
    for pixels in images.batches(500):
        values = pixels.cpu().double() / 255
        total, squares = total + values.sum((0, 2, 3)), squares + values.square().sum((0, 2, 3))
        count += values.numel() // 3
        if count >= 10_000 * values.shape[-1] * values.shape[-2]:
            break
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(1e-8).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())
