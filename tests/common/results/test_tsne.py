import numpy as np
import pytest

from common.cli.errors import UserError
from common.results import tsne
from common.results.tsne import Group, embed, nearest, side_by_side, unit

RNG = np.random.default_rng(0)


def cloud(at: float, count: int) -> np.ndarray:
    return at + RNG.normal(size=(count, 4))


def test_neighbours_say_which_group_a_cloud_lies_in_whatever_the_groups_sizes():
    here, there = cloud(0, 40), cloud(50, 200)
    assert nearest(cloud(0, 20), here, there) == 1.0 and nearest(cloud(50, 20), here, there) == 0.0
    assert 0.4 < nearest(cloud(0, 200), cloud(0, 300), cloud(0, 300)) < 0.6


def test_vectors_of_length_one_and_the_zero_vector():
    assert np.allclose(unit(np.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0, 0]])


def test_an_embedding_keeps_the_groups_and_their_order_and_needs_enough_vectors():
    groups = [Group("a", cloud(0, 60), "k"), Group("b", cloud(30, 40), "k")]
    points = embed(groups)
    assert [len(part) for part in points] == [60, 40]
    assert np.linalg.norm(points[0].mean(0) - points[1].mean(0)) > points[0].std(), "two far clouds are two islands"
    assert all(np.array_equal(a, b) for a, b in zip(points, embed(groups)))
    with pytest.raises(UserError, match="at least 92 vectors, got 60"):
        embed(groups[:1])


def test_panels_stand_side_by_side_each_embedded_by_itself_under_one_legend(monkeypatch):
    seen = []
    monkeypatch.setattr(
        tsne, "embed", lambda groups: seen.append(len(groups)) or [group.vectors[:, :2] for group in groups]
    )
    near, far = Group("near", cloud(0, 5), "k"), Group("far", cloud(9, 3), "r", "x")
    figure = side_by_side([("one", [near]), ("both", [near, far])])
    assert [axis.get_title() for axis in figure.axes] == ["one", "both"] and seen == [1, 2]
    points = [[group.get_offsets().tolist() for group in axis.collections] for axis in figure.axes]
    assert points == [[near.vectors[:, :2].tolist()], [near.vectors[:, :2].tolist(), far.vectors[:, :2].tolist()]]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts] == ["near (5)"]
