"""Bodies that see an image under four turns."""

import pytest
import torch
from torch import nn

from common.backbones import build
from common.backbones.rotated import Rotated, turned
from common.checkpoint import load, save
from common.cli.errors import UserError

IMAGE = torch.tensor([[0.1, 0.2], [0.4, 0.3]]).expand(1, 3, 2, 2)  # clockwise from the upper left: 0.1, 0.2, 0.3, 0.4


class UpperLeft(nn.Module):
    def forward(self, images):
        return images[:, :1, :1, :1]


def test_turns_are_against_the_clock_and_one_after_the_other():
    assert Rotated(UpperLeft())(IMAGE).flatten().tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert torch.equal(turned(IMAGE, 1)[0, 0], torch.tensor([[0.2, 0.3], [0.1, 0.4]]))


def test_maps_are_turned_back_to_where_the_image_shows_it():
    images = torch.rand(2, 3, 6, 4)  # not square
    found = Rotated(nn.Identity())(images)
    assert torch.equal(found, images.repeat(1, 4, 1, 1))


def test_one_network_of_it_is_built_by_name_scored_and_read_again(tmp_path):
    model = build("rotated:resnet8", 5, image_size=48).eval()
    assert model.channels == 4 * 128 and model.name == "rotated:resnet8" and model.blocks() == [model.body]
    images = torch.rand(2, 3, 48, 48)
    maps = model.feature_map(images)
    once = model.body.body(model.normalise(torch.rot90(images, 3, (2, 3))))
    assert torch.allclose(maps[:, 3 * 128 :], torch.rot90(once, -3, (2, 3)), atol=1e-5)
    assert torch.allclose(model.local_logits(maps).mean((2, 3)), model(images), atol=1e-5)
    save(tmp_path / "it.pt", model, recipe={})
    assert torch.equal(load(tmp_path / "it.pt")[0](images), model(images))
    with pytest.raises(UserError, match="weights mine.pt are of one body, not of rotated:resnet8"):
        build("rotated:resnet8", 5, weights="mine.pt")
    with pytest.raises(UserError, match="unknown backbone 'nothing'"):
        build("rotated:nothing", 5)
