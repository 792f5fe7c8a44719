"""Beside pytorch-ood 0.4: equal where it is right; where it is not, who is right and why. Its scores are larger for OOD, so signs turn."""

import numpy as np
import pytest
from scipy.stats import rankdata

from common.metrics import fpr_at_tpr
from common.scorers import SCORERS, scorer
from common.scorers.arrays import Features, Head

torch = pytest.importorskip("torch")
detector = pytest.importorskip("pytorch_ood.detector")

RNG = np.random.default_rng(0)
CLASSES, CHANNELS = 5, 20
CENTRES = np.abs(RNG.normal(0, 2, (CLASSES, CHANNELS)))
HEAD = Head(0.3 * (CENTRES - CENTRES.mean(axis=0)), RNG.normal(size=CLASSES))


def clouds(images: int, seed: int, scale: float = 1.0) -> Features:
    rng, labels = np.random.default_rng(seed), np.arange(images) % CLASSES
    h = np.maximum(CENTRES[labels] + rng.normal(size=(images, CHANNELS)), 0) * scale
    return Features(h, h @ HEAD.weight.T + HEAD.bias, labels)


TRAIN, TEST = clouds(400, 1), clouds(60, 2)


def tensor(values) -> "torch.Tensor":
    return torch.tensor(np.asarray(values))


def linear(dtype=torch.float64):
    head = torch.nn.Linear(CHANNELS, CLASSES, dtype=dtype)
    head.weight.data, head.bias.data = tensor(HEAD.weight).to(dtype), tensor(HEAD.bias).to(dtype)
    return head


def after_pooling(maps):
    return linear()(maps.flatten(1))


def maps(given: Features):
    return tensor(given.penultimate)[:, :, None, None]


def ours(name: str, train: Features = TRAIN, test: Features = TEST, head: Head = HEAD) -> np.ndarray:
    return scorer(name).fit(train, head)(test)


def theirs(fitted, test: Features = TEST) -> np.ndarray:
    return -fitted.predict_features(tensor(test.penultimate)).detach().numpy().astype(np.float64)


def fitted(kind, train: Features = TRAIN, **options):
    return kind(**options).fit_features(tensor(train.penultimate), tensor(train.labels))


def gaussian(kind, train: Features = TRAIN, test: Features = TEST) -> np.ndarray:
    """They fit in float32 only."""
    peer = kind(encoder=None).fit_features(tensor(train.penultimate).float(), tensor(train.labels))
    return -peer.predict_features(tensor(test.penultimate).float()).numpy().astype(np.float64)


def react():
    peer = detector.ReAct(backbone=None, head=after_pooling)
    return -peer.fit_feature_maps(maps(TRAIN), tensor(TRAIN.labels)).predict_feature_maps(maps(TEST)).detach().numpy()


def shaped(kind, **options):
    return lambda: -kind(backbone=None, head=after_pooling, **options).predict_feature_maps(maps(TEST)).detach().numpy()


def dice():  # works in float32
    return theirs(fitted(detector.DICE, encoder=None, w=tensor(HEAD.weight), b=tensor(HEAD.bias), p=0.9))


def on_logits(peer):
    return lambda: -peer.predict_logits(tensor(TEST.logits)).numpy()


def gradnorm():
    peer = detector.GradNorm(linear(), param_filter=lambda n: n == "weight").to("cpu")
    return -peer.predict(tensor(TEST.penultimate)).numpy()


def fdbd():
    return theirs(detector.fDBD(None, linear(torch.float32)).fit_features(tensor(TRAIN.penultimate)))


def nnguide():
    """It keeps its bank in float32, and wants the images so too."""
    peer = detector.NNGuide(encoder=None, head=linear(torch.float32))
    peer.fit_features(tensor(TRAIN.penultimate), tensor(TRAIN.labels))
    return -peer.predict_features(tensor(TEST.penultimate).float()).numpy().astype(np.float64)


EQUAL = {  # name: their scores, relative tolerance
    "msp": (on_logits(detector.MaxSoftmax(None)), 1e-12),
    "maxlogit": (on_logits(detector.MaxLogit(None)), 0),
    "energy": (on_logits(detector.EnergyBased(None)), 1e-12),
    "energy:T=2": (on_logits(detector.EnergyBased(None, t=2)), 1e-12),
    "react": (react, 1e-12),
    "dice": (dice, 1e-5),
    "ash-s:percentile=65": (shaped(detector.ASH, variant="ash-s"), 1e-12),
    "ash-b:percentile=65": (shaped(detector.ASH, variant="ash-b"), 1e-12),
    "ash-p:percentile=65": (shaped(detector.ASH, variant="ash-p"), 1e-12),
    "scale:percentile=65": (shaped(detector.SCALE), 1e-12),
    "she": (lambda: theirs(fitted(detector.SHE, encoder=None, head=linear())), 1e-12),
    "klm": (lambda: on_logits(detector.KLMatching(None).fit_logits(tensor(TRAIN.logits)))(), 1e-5),
    "knn": (lambda: theirs(fitted(detector.KNN, encoder=None)), 1e-9),
    "vim": (
        lambda: theirs(fitted(detector.ViM, encoder=None, d=CHANNELS // 2, w=tensor(HEAD.weight), b=tensor(HEAD.bias))),
        1e-4,
    ),
    "gradnorm": (gradnorm, 1e-9),
    "nnguide": (nnguide, 1e-5),
    "nci:alpha=0.01": (
        lambda: theirs(fitted(detector.NCI, encoder=None, head=linear(torch.float32), alpha=0.01)),
        1e-5,
    ),
    "fdbd": (fdbd, 1e-4),
}


@pytest.mark.parametrize("name", EQUAL)
def test_scores_equal_theirs(name):
    peer, tolerance = EQUAL[name]
    np.testing.assert_allclose(peer(), ours(name), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "kind"), [("mahalanobis", detector.Mahalanobis), ("rmd", detector.RMD)])
def test_gaussian_scores_rank_alike_where_nothing_is_ill_conditioned(name, kind):
    got = gaussian(kind)
    np.testing.assert_array_equal(rankdata(got), rankdata(ours(name)))


def test_vim_equals_a_plain_float64_reference():
    u = -np.linalg.pinv(HEAD.weight) @ HEAD.bias
    X = TRAIN.penultimate - u
    R = np.linalg.svd(X)[2][CHANNELS // 2 :].T
    alpha = TRAIN.logits.max(axis=1).mean() / np.linalg.norm(X @ R, axis=1).mean()
    expected = np.log(np.exp(TEST.logits).sum(axis=1)) - alpha * np.linalg.norm((TEST.penultimate - u) @ R, axis=1)
    np.testing.assert_allclose(ours("vim"), expected, rtol=1e-6)


# --- disagreements that stand in 0.4 ---


@pytest.mark.parametrize(("name", "kind"), [("mahalanobis", detector.Mahalanobis), ("rmd", detector.RMD)])
def test_the_unit_of_the_features_must_not_change_a_ranking(name, kind):
    """They add 1e-6 I whatever the unit: with small features the ridge outweighs the covariance. Ours leaves out empty directions, relatively."""
    train, test = clouds(400, 1, scale=1e-5), clouds(60, 2, scale=1e-5)
    got = rankdata(gaussian(kind, train, test))
    assert not np.array_equal(got, rankdata(gaussian(kind)))
    np.testing.assert_array_equal(rankdata(ours(name, train, test)), rankdata(ours(name)))


def test_dead_units_must_not_swamp_a_distance():
    """With that ridge a unit that was dead in training weighs 1e6: a hair of activity there outweighs everything else."""

    def padded(given: Features, value: float) -> Features:
        return Features(np.c_[given.penultimate, np.full(len(given), value)], given.logits, given.labels)

    train, test = padded(TRAIN, 0), padded(TEST, 0.1)
    swamped = gaussian(detector.Mahalanobis, train, test)
    clean = gaussian(detector.Mahalanobis)
    assert (swamped < 1000 * clean).all()
    np.testing.assert_allclose(scorer("mahalanobis").fit(train)(test), ours("mahalanobis"), rtol=1e-9)


def test_vim_with_too_many_dimensions_must_be_refused():
    """They halve D without asking, and with D = C the score is plain energy."""
    options = {"encoder": None, "w": tensor(HEAD.weight), "b": tensor(HEAD.bias)}
    assert fitted(detector.ViM, d=CHANNELS + 5, **options).d == CHANNELS // 2
    with pytest.raises(Exception, match=f"D must be below the {CHANNELS} channels of the features, got {CHANNELS + 5}"):
        ours(f"vim:D={CHANNELS + 5}")


def test_gen_must_not_clamp_what_its_exponent_makes_visible():
    """They clamp p to [1e-7, 1 - 1e-7]: with gamma = 0.1 that is 0.2 of 1, and two sure images tie that differ by ten orders."""
    sure = np.array([[20.0, 0], [40, 0]])
    tied = detector.GEN.score(tensor(sure)).numpy()
    assert tied[0] == tied[1]
    low, high = SCORERS["gen"].fit()(Features(np.zeros((2, 1)), sure))
    assert [low, high] == pytest.approx([-2 * np.exp(-2), -2 * np.exp(-4)], rel=1e-6) and low < high
    modest = np.random.default_rng(3).normal(size=(20, 4))  # away from the clamp: their mean is our sum over K
    np.testing.assert_allclose(
        SCORERS["gen"].fit()(Features(modest, modest)), -4 * detector.GEN.score(tensor(modest)).numpy(), rtol=1e-12
    )


def test_she_must_not_fail_for_a_class_that_is_never_right():
    wrong = Features(
        TRAIN.penultimate, TRAIN.logits, np.where(TRAIN.logits.argmax(axis=1) == 2, 3, np.arange(400) % 2 * 2)
    )
    with pytest.raises((ValueError, AssertionError)):
        fitted(detector.SHE, wrong, encoder=None, head=linear())
    with pytest.warns(UserWarning, match="no correctly classified"):
        assert np.isfinite(ours("she", wrong)).all()


def test_a_percentile_is_never_a_fraction():
    """Their 0.65 is the original's 65. Ours takes only the original's form and says so."""
    assert detector.ASH(backbone=None, head=None).percentile == 0.65
    with pytest.raises(Exception, match="percentile must be in 0..100, not a fraction, got 0.65"):
        scorer("ash-b:percentile=0.65")


def test_their_fpr95_has_ood_as_the_positive_class():
    metrics = pytest.importorskip("pytorch_ood.metrics")
    id_, ood = np.array([1, 1, *range(3, 26)], float), np.array([0, 0.5, 1, 1, 1, 2, 2, 4, 10, 15])
    record = metrics.OODMetrics()
    record.update(tensor(-np.r_[id_, ood]), tensor(np.r_[np.ones(25), -np.ones(10)]))
    assert record.compute()["FPR95TPR"] == pytest.approx(fpr_at_tpr(id_, ood, variant="ood-positive"), abs=1e-6)
    assert fpr_at_tpr(id_, ood) == 0.8 != pytest.approx(0.6)


# --- disagreements of earlier releases, mended in 0.4: ours must hold them too ---


def test_kl_matching_groups_by_prediction_and_takes_the_nearest_prototype():
    shuffled = Features(TRAIN.penultimate, TRAIN.logits, RNG.permutation(TRAIN.labels))
    np.testing.assert_array_equal(ours("klm", shuffled), ours("klm"))


def test_rmd_divides_both_covariances_alike():
    one = Features(TRAIN.penultimate, TRAIN.logits, np.zeros(400, int))
    np.testing.assert_allclose(gaussian(detector.RMD, one), 0, atol=1e-6)
    np.testing.assert_allclose(ours("rmd", one), 0, atol=1e-9)


def network(channels: int = 3):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(channels, 6, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
                               torch.nn.Linear(6, 4)).double()  # fmt: skip


def odin_extra(model, images, T: float, eps: float):
    """The reference in ODIN's docstring."""
    x = images.clone().requires_grad_()
    f = model(x) / T
    loss = torch.nn.functional.cross_entropy(f, f.argmax(1), reduction="sum")
    step = eps * torch.autograd.grad(loss, x)[0].sign()
    return torch.softmax(model(x - step).double() / T, dim=1).max(dim=1).values.detach().numpy()


@pytest.mark.parametrize(("T", "eps"), [(1000.0, 0.0014), (10.0, 0.0), (2.0, 0.01)])
def test_odin_equals_theirs(T, eps):
    model, images = network(), torch.rand(7, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    peer = -detector.ODIN(model, eps=eps, temperature=T).predict(images).numpy()
    chosen = scorer(f"odin:T={T},eps={eps}")
    with torch.no_grad():
        logits = model(images).numpy()
    extras = {chosen.needs[0]: odin_extra(model, images, T, eps)} if eps else {}
    np.testing.assert_allclose(chosen.fit()(Features(logits, logits, None, extras)), peer, rtol=1e-6)
