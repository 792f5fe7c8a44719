"""A classifier: normalise, body, mean over locations, one linear head."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Stats = tuple[tuple[float, float, float], tuple[float, float, float]]


CIFAR10_STATS: Stats = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


# What much public code for CIFAR divides by: the mean of the deviations within single images, not the deviation of all pixels
PUBLIC_CIFAR_STATS: Stats = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


CIFAR100_STATS: Stats = ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))


IMAGENET_STATS: Stats = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


HALF_STATS: Stats = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # BiT, and the generated benchmark


class Normalise(nn.Module):
    """(image - mean) / std per channel; mean and std are buffers, so a checkpoint is complete."""

    def __init__(self, stats: Stats = HALF_STATS):
        super().__init__()
        self.register_buffer("mean", torch.tensor(stats[0]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(stats[1]).view(1, 3, 1, 1))

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        return (images - self.mean) / self.std


class Headed(nn.Module):
    """A network that ends in a linear layer, `head`."""

    head: nn.Linear

    @property
    def classes(self) -> int:
        return self.head.out_features

    @property
    def channels(self) -> int:
        return self.head.in_features


class Classifier(Headed):
    """Normalise, body, mean over locations, head."""

    def __init__(
        self, name: str, body: nn.Module, channels: int, classes: int, blocks: Callable[[nn.Module], list[nn.Module]]
    ):
        super().__init__()
        self.name = name
        self.normalise = Normalise()
        self.body = body
        self.head = nn.Linear(channels, classes)
        self.bf16 = False  # run the body in bfloat16 (autocast); head, norms and losses stay in float32
        self.output_stride: int | None = None  # pixels per location, where it is not the network's own
        self._blocks = blocks

    def blocks(self) -> list[nn.Module]:
        """Every residual block, from the input on (FeatureNorm and MaSF read their outputs)."""
        return self._blocks(self.body)

    def feature_map(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels rows cols"]:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            return self.body(self.normalise(images)).to(images.dtype)

    @staticmethod
    def pool(feature_map: Float[Tensor, "batch channels rows cols"]) -> Float[Tensor, "batch channels"]:
        return feature_map.mean(dim=(2, 3))

    def local_logits(
        self, feature_map: Float[Tensor, "batch channels rows cols"]
    ) -> Float[Tensor, "batch classes rows cols"]:
        """The head on every location, bias included (LBF Eq. 4 before the softmax)."""
        return F.conv2d(feature_map, self.head.weight[:, :, None, None], self.head.bias)

    def penultimate(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels"]:
        return self.pool(self.feature_map(images))

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch classes"]:
        return self.head(self.penultimate(images))
