"""Plain classification."""

import torch.nn.functional as F
from torch import Tensor

from common.backbones.classifier import Classifier
from common.training.distributed import over_batch
from common.training.objective import Batch, Clock, Objective, accuracy


class CrossEntropy(Objective):
    """Plain classification (LBF Eq. 2)."""

    def forward(self, model: Classifier, batch: Batch, clock: Clock) -> tuple[Tensor, dict[str, Tensor]]:
        logits = model(batch.flat)
        loss = over_batch(F.cross_entropy(logits, batch.labels), len(logits))
        return loss, {"ce": loss.detach(), "train_accuracy": accuracy(logits, batch.labels)}
