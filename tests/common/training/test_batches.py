"""What the engine hands to an objective. Masks in a batch: tests/lbf/test_finetune.py, tests/dfb/test_finetune.py; several processes: test_distributed.py."""

import numpy as np
import torch
from PIL import Image

from common.data.folders import FolderImages
from common.data.transforms import Transform
from common.training.batches import Batches
from common.training.objective import Objective
from common.training.recipe import TrainRecipe

CPU = torch.device("cpu")


def test_two_views_of_a_streamed_set_are_two_crops(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(8):
        Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(tmp_path / f"{k}.png")
    files = tuple(sorted(tmp_path.iterdir()))
    streamed = FolderImages("mine", files, tuple(f.name for f in files), Transform(48), torch.arange(8), workers=0)

    class Two(Objective):
        views = 2

    recipe = TrainRecipe(crop="resized", flip=False, batch_size=4)
    batches = [list(Batches(streamed, Two(), recipe, 0, CPU).of_epoch(epoch, 0, 2)) for epoch in (0, 0, 1)]
    first = batches[0][0]
    assert first.images.shape == (2, 4, 3, 48, 48) and first.labels.tolist() == first.index.tolist()
    assert all(not torch.equal(*first.images[:, row]) for row in range(4))
    assert all(torch.equal(a.images, b.images) for a, b in zip(batches[0], batches[1]))
    later = torch.cat([batch.images for batch in batches[2]], 1), torch.cat([batch.index for batch in batches[2]])
    row = later[1].tolist().index(int(first.index[0]))
    assert not torch.equal(later[0][0, row], first.images[0, 0]), "another epoch, another crop"
