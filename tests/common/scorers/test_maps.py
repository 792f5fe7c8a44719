import numpy as np
import pytest
import torch

from common.backbones import build
from common.cli.errors import UserError
from common.data import shapes
from common.scorers import SCORERS, maps, scorer
from common.scorers.arrays import Features
from common.scorers.maps import FEWEST, norm_ratio
from common.scoring.features import extract
from common.training.seeds import generator


def block_norms(maps: list[np.ndarray]) -> np.ndarray:
    """The extra "block_norms", images x blocks, from each block's images x channels x rows x cols."""
    return np.stack([np.sqrt((np.maximum(z, 0) ** 2).sum(axis=(2, 3))).mean(axis=1) for z in maps], axis=1)


def jigsawed(image: np.ndarray, order: list[int], fill: np.ndarray) -> np.ndarray:
    """What "jigsaw_block_norms" looks at: `image` (channels x rows x cols) with its 3 x 3 tiles in `order`; the rest is `fill`."""
    r, c = image.shape[1] // 3, image.shape[2] // 3
    out = np.broadcast_to(fill, image.shape).copy()
    for to, source in enumerate(order):
        (i, j), (k, l) = divmod(to, 3), divmod(source, 3)  # noqa: E741
        out[:, i * r : (i + 1) * r, j * c : (j + 1) * c] = image[:, k * r : (k + 1) * r, l * c : (l + 1) * c]
    return out


def channel_maxima(maps: list[np.ndarray], penultimate: np.ndarray) -> np.ndarray:
    """The extra "channel_maxima", images x (1 + layers + channels of all layers)."""
    layers = [z.max(axis=(2, 3)) for z in maps] + [penultimate]
    split = np.array([len(layers)] + [layer.shape[1] for layer in layers])
    return np.concatenate([np.tile(split, (len(penultimate), 1)), *layers], axis=1).astype(np.float32)


Z = np.array([[[[3.0, 0], [0, 4]], [[-9, 0], [0, 1]]]])


def test_the_oracles_give_the_worked_values():
    assert block_norms([Z, 2 * Z]).tolist() == [[3, 6]]
    assert channel_maxima([Z], np.array([[0.5]])).tolist() == [[2, 2, 1, 4, 1, 0.5]]
    moved = jigsawed(np.arange(16.0).reshape(1, 4, 4), [8, 1, 2, 3, 4, 5, 6, 7, 0], np.full((1, 1, 1), -1.0))
    assert moved[0].tolist() == [[10, 1, 2, -1], [4, 5, 6, -1], [8, 9, 0, -1], [-1, -1, -1, -1]]


def test_the_extras_of_a_pass_are_the_oracles():
    """What `extract` puts into a set's features, by hand from hooked maps; the tiles' order is drawn per row."""
    torch.manual_seed(0)
    model, images = build("resnet8", 8).eval(), shapes.load("shapes", "test", limit=5)
    found = extract(model, images, ("block_norms", "jigsaw_block_norms", "channel_maxima"), progress=False)

    def maps_of(pixels: torch.Tensor) -> list[np.ndarray]:
        maps = []
        keep = lambda module, inputs, out: maps.append(out.numpy().copy())  # noqa: E731
        hooks = [block.register_forward_hook(keep) for block in model.blocks()]
        with torch.no_grad():
            model(pixels)
        for hook in hooks:
            hook.remove()
        return maps

    pixels = images.pixels.float() / 255
    orders = [torch.randperm(9, generator=generator(0, "jigsaw", row)).tolist() for row in range(5)]
    fill = model.normalise.mean[0].numpy()
    shuffled = np.stack([jigsawed(image, order, fill) for image, order in zip(pixels.numpy(), orders)])
    maps = maps_of(pixels)
    np.testing.assert_allclose(found.extras["block_norms"], block_norms(maps), rtol=1e-5)
    np.testing.assert_allclose(found.extras["channel_maxima"], channel_maxima(maps, found.penultimate), rtol=1e-5)
    expected = block_norms(maps_of(torch.from_numpy(shuffled)))
    np.testing.assert_allclose(found.extras["jigsaw_block_norms"], expected, rtol=1e-5)


def test_the_block_is_chosen_by_the_mean_of_ratios():
    norms, jigsaw = np.array([[1.0, 10], [9, 10]]), np.array([[0.1, 4], [9, 4]])
    np.testing.assert_allclose(norm_ratio(norms, jigsaw), [5.5, 2.5])  # the ratio of means would choose the other
    train = Features(np.zeros((2, 1)), np.zeros((2, 1)), None, {"block_norms": norms, "jigsaw_block_norms": jigsaw})
    test = Features(np.zeros((1, 1)), np.zeros((1, 1)), None, {"block_norms": np.array([[7.0, 8]])})
    assert SCORERS["featurenorm"].fit(train)(test) == [7]
    assert scorer("featurenorm:block=1").fit()(test) == [8]
    with pytest.raises(UserError, match="FeatureNorm: block must be below the network's 2 blocks, got 2"):
        scorer("featurenorm:block=2").fit()(test)


def test_a_block_silent_on_jigsaws_does_not_win_by_division():
    np.testing.assert_array_equal(norm_ratio(np.array([[5.0, 3]]), np.array([[0.0, 2]])), [0, 1.5])


def with_maxima(values, widths, logits=None, labels=None) -> Features:
    values = np.array(values, dtype=np.float64)
    rows = np.concatenate([np.tile([len(widths), *widths], (len(values), 1)), values], axis=1)
    return Features(
        np.zeros((len(values), 1)),
        np.zeros((len(values), 2)) if logits is None else logits,
        labels,
        {"channel_maxima": rows},
    )


TOY = with_maxima([[1, 5, 2, 1], [2, 4, 4, 2], [3, 3, 1, 3], [4, 2, 3, 4]], [2, 2])
TOY_TEST = with_maxima([[5, 3.5, 2.5, 0]], [2, 2])


def test_masf_gives_the_worked_values():
    assert scorer("masf:classes=none,folds=one").fit(TOY)(TOY_TEST) == pytest.approx([-4.240527], abs=5e-7)
    assert scorer("masf:classes=none,folds=one,output=p").fit(TOY)(TOY_TEST) == pytest.approx([0.2])


def normal(images: int, seed: int, shift: float = 0.0) -> Features:
    rng, labels = np.random.default_rng(seed), np.arange(images) % 2
    values = rng.normal(shift, 1, (images, 5)) @ np.array(np.triu(np.ones((5, 5)))) + 3 * labels[:, None]
    return with_maxima(values, [3, 2], np.eye(2)[labels], labels)


@pytest.mark.parametrize("classes", ["predicted", "none"])
def test_masf_p_values_of_held_out_images_are_not_too_small(classes):
    p = scorer(f"masf-p:classes={classes}").fit(normal(2000, 1))(normal(2000, 2))
    for a in (0.05, 0.2, 0.5):
        assert (p <= a).mean() <= a + 3 * np.sqrt(a * (1 - a) / 2000) + 3 * np.sqrt(
            a * (1 - a) / 500
        )  # test and calibration sample


def test_masf_does_not_depend_on_the_scale_of_a_channel():
    def bent(given: Features) -> Features:
        values = given.extras["channel_maxima"].copy()
        values[:, 3] = np.exp(values[:, 3])
        values[:, 6] = values[:, 6] ** 3
        return Features(given.penultimate, given.logits, given.labels, {"channel_maxima": values})

    train, test = normal(100, 1), normal(40, 2)
    for classes in ("predicted", "max", "none"):
        chosen = scorer(f"masf:classes={classes}")
        np.testing.assert_array_equal(chosen.fit(bent(train))(bent(test)), chosen.fit(train)(test))


def test_masf_output_p_orders_as_the_statistic_does():
    train, test = normal(400, 1), normal(60, 2, shift=0.7)
    statistic, p = scorer("masf").fit(train)(test), scorer("masf-p:classes=none").fit(train)(test)
    plain = scorer("masf:classes=none").fit(train)(test)
    assert (np.diff(p[np.argsort(plain)]) >= 0).all()
    assert not np.array_equal(statistic, plain)


def test_masf_levels_tie_where_their_fractions_do():
    # Of two channels: one share of 1/7 alone, or two of 2/7, are the same Simes value 1/7; of three layers the product of shares ignores order.
    null = np.arange(1.0, 7)[:, None].repeat(3, axis=1)
    a, b = maps._simes(np.array([[0.5, 3, 3], [1.5, 1.5, 3]]), null[:, :3], np.array([2, 1]), own=False)[:, 0]
    assert a == b
    shares = np.array([[1, 2, 3.0], [3, 1, 2], [2, 3, 1], [1, 1, 6]])
    products, denominator = maps._fisher(shares, null, own=True)
    assert products.tolist() == [6, 6, 6, 6] and denominator == 6**3


def test_masf_judges_a_class_with_few_images_by_all_of_them():
    train = normal(60, 1)
    few = np.r_[np.arange(0, 60, 2), np.arange(1, 2 * FEWEST - 2, 2)]  # one image of class 1 too few
    train = with_maxima(train.extras["channel_maxima"][few, 3:], [3, 2], train.logits[few], train.labels[few])
    test = normal(20, 2)
    with pytest.warns(UserWarning, match="MaSF: 1 of 2 classes have fewer than 8 training images"):
        mine, pooled = (scorer(f"masf:classes={c}").fit(train)(test) for c in ("predicted", "none"))
    np.testing.assert_array_equal(mine[1::2], pooled[1::2])
    assert (mine[::2] != pooled[::2]).any()


def test_masf_refuses_rows_it_cannot_split_and_a_single_image():
    bad = Features(
        np.zeros((2, 1)), np.zeros((2, 2)), None, {"channel_maxima": np.array([[2.0, 1, 1, 5], [2, 1, 1, 6]])}
    )
    with pytest.raises(
        UserError, match="channel_maxima: each row must begin with the number of layers and their widths, got"
    ):
        scorer("masf:classes=none").fit(bad)
    with pytest.raises(UserError, match="MaSF needs at least two training images, got 1"):
        scorer("masf:classes=none").fit(TOY_TEST)


def test_masf_counts_are_the_same_by_pairs_and_by_search(monkeypatch):
    rng = np.random.default_rng(0)
    values, reference = (
        rng.integers(0, 6, (15, 7)).astype(float),
        np.sort(rng.integers(0, 6, (40, 7)).astype(float), axis=0),
    )  # many ties
    by_pairs = maps._counts(values, reference)
    monkeypatch.setattr(maps, "FEW_PAIRS", 0)
    by_search = maps._counts(values, reference)
    for one, other in zip(by_pairs, by_search):
        assert np.array_equal(one, other)
    assert np.array_equal(by_search[0][:, 0], [(reference[:, 0] <= v).sum() for v in values[:, 0]])
