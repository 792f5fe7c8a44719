"""What scores see: plain arrays, one row an image."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Head:
    """The linear classifier on the penultimate features."""

    weight: Float[np.ndarray, "classes channels"]
    bias: Float[np.ndarray, " classes"]

    @classmethod
    def of(cls, model: Any) -> "Head":
        return cls(model.head.weight.detach().cpu().numpy(), model.head.bias.detach().cpu().numpy())


@dataclass(frozen=True)
class Features:
    """One row an image, in the order of the set.

    `penultimate` is the feature map's mean over locations, `logits` the head's output on it. `extras` holds what single scores
    ask for by name: "block_norms" (images x blocks), "odin:T=1000,eps=0.0014" (images), ...
    """

    penultimate: Float[np.ndarray, "images channels"]
    logits: Float[np.ndarray, "images classes"]
    labels: Int[np.ndarray, " images"] | None = None
    extras: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that is there, by the name scores ask for."""
        labels = {} if self.labels is None else {"labels": self.labels}
        return {"penultimate": self.penultimate, "logits": self.logits, **labels, **self.extras}


BASIC = ("penultimate", "logits")
