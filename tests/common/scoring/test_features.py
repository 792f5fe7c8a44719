from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from common.backbones import build
from common.cli.errors import UserError
from common.data import shapes
from common.scorers import scorer
from common.scorers.arrays import Head
from common.scoring import cache as feature_cache
from common.scoring.cache import FeatureCache
from common.scoring.features import extract, jigsaw, odin

QUIET = {"progress": False}
ALL = ("block_norms", "jigsaw_block_norms", "channel_maxima", "odin:T=1000.0,eps=0.0014", "odin:T=2.0,eps=0.0")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = build("resnet8", 8)
    model.train()
    model(shapes.load("shapes", "train", limit=64).pixels.float() / 255)  # running statistics of real images
    return model.eval()


@pytest.fixture(scope="module")
def images():
    return shapes.load("shapes", "test", limit=30)


def test_one_row_an_image_and_logits_are_the_heads_answer(model, images):
    found = extract(model, images, (), **QUIET)
    head = Head.of(model)
    assert found.penultimate.shape == (30, 128) and np.array_equal(found.labels, images.labels.numpy())
    assert np.allclose(found.logits, found.penultimate @ head.weight.T + head.bias, atol=1e-5)
    with torch.no_grad():
        assert np.allclose(found.logits, model(images.pixels.float() / 255).numpy(), atol=1e-5)


def test_the_batch_size_changes_nothing(model, images):
    one, other = (extract(model, images, ALL, batch_size=size, **QUIET) for size in (30, 7))
    for name in ALL:
        assert np.allclose(one.extras[name], other.extras[name], atol=1e-4), name


def test_one_pass_serves_every_need_but_odin_and_jigsaw(model, images):
    calls = []
    hook = model.body.register_forward_hook(lambda *_: calls.append(1))
    extract(model, images, ("block_norms", "channel_maxima", "penultimate", "labels"), batch_size=30, **QUIET)
    assert len(calls) == 1
    extract(model, images, ALL, batch_size=30, **QUIET)
    hook.remove()
    assert (
        len(calls) == 1 + 1 + 1 + 1
    )  # the pass, from which ODIN takes its gradient; jigsaw; ODIN after its step. ODIN without a step: none


def test_block_norms_and_channel_maxima_are_those_of_the_scorers_reference(model, images):
    maps = []
    hooks = [
        block.register_forward_hook(lambda m, i, out: maps.append(out.detach().numpy())) for block in model.blocks()
    ]
    found = extract(model, images, ("block_norms", "channel_maxima"), batch_size=30, **QUIET)
    for hook in hooks:
        hook.remove()
    norms = np.stack([np.sqrt((np.maximum(z, 0) ** 2).sum(axis=(2, 3))).mean(axis=1) for z in maps], axis=1)
    assert np.allclose(found.extras["block_norms"], norms, rtol=1e-5)
    layers = [z.max(axis=(2, 3)) for z in maps] + [found.penultimate]
    split = [len(layers), *(layer.shape[1] for layer in layers)]
    assert np.allclose(
        found.extras["channel_maxima"], np.concatenate([np.tile(split, (30, 1)), *layers], axis=1), rtol=1e-5
    )


def test_jigsaw_moves_tiles_as_the_reference_does():
    image, fill = torch.arange(16.0).reshape(1, 1, 4, 4).expand(1, 3, 4, 4), torch.full((1, 3, 1, 1), -1.0)
    order = torch.tensor([[8, 1, 2, 3, 4, 5, 6, 7, 0]])
    assert jigsaw(image, order, fill)[0, 2].tolist() == [[10, 1, 2, -1], [4, 5, 6, -1], [8, 9, 0, -1], [-1, -1, -1, -1]]


def test_odin_without_a_step_is_the_largest_softmax_at_its_temperature(model, images):
    batch = images.pixels[:4].float() / 255
    with torch.no_grad():
        expected = F.softmax(model(batch).double() / 2, dim=1).amax(1)
    assert torch.allclose(odin(model, batch, 2.0, 0.0), expected, atol=1e-9)


def test_odins_step_is_eps_in_pixel_units_and_raises_the_predicted_class(model, images):
    batch, seen = images.pixels[:8].float() / 255, []
    hook = model.normalise.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].detach().clone()))
    after = odin(model, batch, 10.0, 0.002)
    hook.remove()
    step = (seen[-1] - batch).abs()
    assert step.max().item() == pytest.approx(0.002, rel=1e-3) and (step[step > 0] - 0.002).abs().max() < 1e-6
    assert (after > odin(model, batch, 10.0, 0.0)).all()


def test_an_unknown_need_is_named(model, images):
    with pytest.raises(UserError, match="unknown need 'colour'; known: penultimate, logits, labels, block_norms"):
        extract(model, images, ("colour",), **QUIET)


@pytest.mark.parametrize(
    ("name", "blocks"), [("regnety_002", 13), ("mobilenetv3_small_050", 12), ("convnext_atto", 12), ("inception_v3", 0)]
)
def test_blocks_of_a_timm_network_are_looked_into_or_refused_by_name(images, name, blocks):
    network = build(f"timm:{name}", 8)
    if blocks:
        found = extract(network, images.subset(torch.arange(2)), ("block_norms", "channel_maxima"), **QUIET)
        assert found.extras["block_norms"].shape == (2, blocks) and found.extras["channel_maxima"][0, 0] == blocks + 1
        return
    for need in ("block_norms", "channel_maxima"):
        with pytest.raises(
            UserError, match="featurenorm and masf look into residual blocks, .* known of timm:inception_v3"
        ):
            extract(network, images, (need,), **QUIET)


def test_the_cache_is_keyed_by_content_not_by_name(model, images, tmp_path):
    calls = []
    hook = model.body.register_forward_hook(lambda *_: calls.append(1))
    cache = FeatureCache(tmp_path)
    first = cache.get(model, images, (), **QUIET)
    again = cache.get(model, images, (), **QUIET)
    assert len(calls) == 1 and np.array_equal(first.logits, again.logits)
    cache.get(model, images, ("block_norms",), **QUIET)
    assert len(calls) == 2
    other = images.subset(torch.arange(29, -1, -1), name=images.name)
    assert np.allclose(cache.get(model, other, (), **QUIET).logits[::-1], first.logits, atol=1e-5) and len(calls) == 3
    with torch.no_grad():
        model.head.bias += 1
        assert not np.array_equal(cache.get(model, images, (), **QUIET).logits, first.logits)
        model.head.bias -= 1
    hook.remove()


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 0x40
    path.write_bytes(content)


def damages(folder, rng):
    """Ways to spoil a file of the cache: a bit anywhere, its end lost, without the digest as older ones are, another array's content."""
    logits, block_norms = folder / "logits.npy", folder / "block_norms.npy"
    for path in (logits, block_norms, folder / "penultimate.npy"):
        content = path.read_bytes()
        for at in rng.integers(len(content), size=4).tolist():
            yield path, partial(flip, path, at)
        for length in (0, 20, 100, len(content) - 32, len(content) - 1):
            yield path, partial(path.write_bytes, content[:length])
    yield logits, partial(logits.write_bytes, (folder / "penultimate.npy").read_bytes())


@pytest.mark.parametrize("large_bytes", [2**31, 0])
def test_a_damaged_array_of_the_cache_is_made_again_with_a_word(model, images, tmp_path, capsys, large_bytes):
    cache, few = FeatureCache(tmp_path, large_bytes), images.subset(torch.arange(6))
    whole = cache.get(model, few, ("block_norms",), **QUIET)
    whole = {
        "penultimate": whole.penultimate.copy(),
        "logits": whole.logits.copy(),
        "block_norms": whole.extras["block_norms"].copy(),
    }
    (folder,) = tmp_path.iterdir()
    for path, damage in list(damages(folder, np.random.default_rng(0))):
        damage()
        again = cache.get(model, few, ("block_norms",), **QUIET)
        assert capsys.readouterr().err == f"{path}: damaged, or of an older form; made again\n"
        for name, array in {"penultimate": again.penultimate, "logits": again.logits, **again.extras}.items():
            assert np.allclose(array, whole[name], rtol=1e-6), (path, name)
    cache.get(model, few, ("block_norms",), **QUIET)
    assert capsys.readouterr().err == ""


def test_an_array_of_another_network_is_made_again(model, images, tmp_path, capsys):
    import copy

    cache, other = FeatureCache(tmp_path), copy.deepcopy(model)
    with torch.no_grad():
        other.head.bias += 1
    mine = cache.get(model, images, (), **QUIET)
    (first,) = tmp_path.iterdir()
    cache.get(other, images, (), **QUIET)
    (second,) = (path for path in tmp_path.iterdir() if path != first)
    (first / "logits.npy").write_bytes((second / "logits.npy").read_bytes())
    assert np.array_equal(cache.get(model, images, (), **QUIET).logits, mine.logits)
    assert "logits.npy: damaged" in capsys.readouterr().err


def killed_pass(model, images, folder, at):
    """A pass into the cache that is killed in its batch `at`, of 7 images."""
    calls = []

    def count(*_):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt

    hook = model.normalise.register_forward_pre_hook(count)
    with pytest.raises(KeyboardInterrupt):
        FeatureCache(folder, large_bytes=0).get(model, images, (), batch_size=7, **QUIET)
    hook.remove()


@pytest.mark.parametrize(
    "pattern, at, passed",
    [
        ("*.rows.logits.npy", -1, 30),
        ("*.rows.logits.npy", 140, 30),
        ("*.rows.penultimate.npy", 60, 30),
        ("*.json", 1, 30),
        ("none", 0, 16),
    ],
)
def test_what_a_killed_pass_left_is_gone_on_with_only_if_it_is_whole(
    model, images, tmp_path, monkeypatch, pattern, at, passed
):
    monkeypatch.setattr(feature_cache, "STRIDE_BYTES", 1)
    whole = FeatureCache(None).get(model, images, (), batch_size=7, **QUIET)
    killed_pass(model, images, tmp_path, 3)
    for path in tmp_path.rglob(pattern):
        if at == -1:
            path.write_bytes(path.read_bytes()[:-1])
        else:
            flip(path, at)
    seen = []
    hook = model.normalise.register_forward_pre_hook(lambda _m, batch: seen.append(len(batch[0])))
    again = FeatureCache(tmp_path, large_bytes=0).get(model, images, (), batch_size=7, **QUIET)
    hook.remove()
    assert sum(seen) == passed
    assert np.array_equal(again.logits, whole.logits) and np.array_equal(again.penultimate, whole.penultimate)


def test_a_large_set_is_mapped_and_a_killed_pass_goes_on_from_its_last_safe_row(model, images, tmp_path, monkeypatch):
    needs = ("block_norms", "jigsaw_block_norms")
    whole = FeatureCache(tmp_path / "whole").get(model, images, needs, batch_size=7, **QUIET)
    monkeypatch.setattr(feature_cache, "STRIDE_BYTES", 1)
    seen = []

    def killed(batch, stop):
        seen.append(len(batch[0]))
        if len(seen) == stop:
            raise KeyboardInterrupt

    cache = FeatureCache(tmp_path, large_bytes=0)
    hook = model.normalise.register_forward_pre_hook(
        lambda _m, batch: killed(batch, 6)
    )  # two passes a batch: in the third, jigsawed
    with pytest.raises(KeyboardInterrupt):
        cache.get(model, images, needs, batch_size=7, **QUIET)
    hook.remove()
    seen.clear()
    hook = model.normalise.register_forward_pre_hook(lambda _m, batch: killed(batch, 0))
    resumed = cache.get(model, images, needs, batch_size=7, **QUIET)
    again = cache.get(model, images, needs, batch_size=7, **QUIET)
    hook.remove()
    assert (
        sum(seen) == 2 * (30 - 14) and isinstance(resumed.penultimate, np.memmap) and not resumed.logits.flags.writeable
    )
    for name in ("penultimate", "logits"):
        assert np.array_equal(getattr(resumed, name), getattr(whole, name)) and np.array_equal(
            getattr(again, name), getattr(whole, name)
        )
    for name in needs:
        assert np.array_equal(resumed.extras[name], whole.extras[name]), name
    assert not list(tmp_path.rglob("*.json"))


def test_scores_of_mapped_features_are_those_of_arrays_in_memory(model, images, tmp_path):
    arrays, mapped = (FeatureCache(tmp_path, large_bytes=limit).get(model, images, (), **QUIET) for limit in (2**31, 0))
    for name in ("mahalanobis", "rmd", "vim:D=8", "knn:k=3", "react", "dice", "klm", "line", "gen"):
        chosen = scorer(name)
        assert np.array_equal(chosen.fit(mapped, Head.of(model))(mapped), chosen.fit(arrays, Head.of(model))(arrays)), (
            name
        )
