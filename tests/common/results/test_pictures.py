import torch

from common.results import pictures
from common.results.style import plt


def test_a_picture_has_its_pixels_and_no_ticks_and_an_outline_where_there_is_one():
    figure, (one, two, three) = plt.subplots(1, 3)
    image = torch.rand(3, 4, 5)
    pictures.show(one, image)
    assert (one.images[0].get_array() == image.permute(1, 2, 0).numpy()).all()
    assert len(one.get_xticks()) == len(one.get_yticks()) == 0
    half = torch.zeros(4, 5, dtype=torch.bool)
    half[:2] = True
    for axis, mask in ((one, half), (two, torch.ones_like(half)), (three, torch.zeros_like(half))):
        pictures.outline(axis, mask, "white", 1.5)
    assert [len(axis.collections) for axis in figure.axes] == [1, 0, 0]
