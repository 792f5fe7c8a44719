"""Weights that came from elsewhere fit whole, under whatever names, or are refused in one line that says what did not fit."""

import argparse

import numpy as np
import pytest
import torch
from google_bit import google_file
from torch import nn

from common.backbones import build
from common.backbones.weights import BIT
from common.cli.errors import UserError


@pytest.fixture(scope="module")
def small():
    """A resnet8 to take weights from."""
    torch.manual_seed(2)
    return build("resnet8", 7)


@pytest.fixture(scope="module")
def resnet18():
    """Another's resnet18 for 32 pixels: its state dict, with torchvision's names."""
    from torchvision import models

    torch.manual_seed(3)
    net = models.resnet18(num_classes=10)
    net.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    return net.state_dict()


def stored(path, content):
    torch.save(content, path)
    return path


def same(model, state):
    mine = model.body.state_dict()
    return all(torch.equal(mine[name], tensor) for name, tensor in state.items() if not name.startswith("fc."))


def refusal(name, path):
    with pytest.raises(UserError) as error:
        build(name, 3, weights=path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value).removeprefix(str(path)).strip()


def test_googles_bit_file_is_read(tmp_path):
    import timm

    torch.manual_seed(1)
    net = timm.create_model(BIT, num_classes=0)
    for name, tensor in net.state_dict().items():
        if "norm" in name:
            tensor.uniform_(0.5, 1.5)
    google_file(tmp_path / "bit.npz", net)
    model = build("bit-r50x1", 3, weights=tmp_path / "bit.npz")
    for name, tensor in net.state_dict().items():
        assert torch.equal(model.body.net.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    "key", ["", "net", "state_dict", "model", "model_state_dict", "weights", "anything", "model.state_dict"]
)
@pytest.mark.parametrize("prefix", ["", "module.", "module.encoder.", "_orig_mod.module.", "body."])
def test_weights_are_found_under_any_key_and_behind_any_wrapper(tmp_path, small, key, prefix):
    state = {prefix + name: tensor for name, tensor in small.body.state_dict().items()}
    for word in filter(None, reversed(key.split("."))):
        state = {
            word: state,
            "epoch": 3,
            "best": np.float64(93.1),
            "args": argparse.Namespace(lr=0.1),
            "optimizer": {"state": {0: {"m": torch.ones(3)}}},
        }
    assert same(build("resnet8", 3, weights=stored(tmp_path / "w.pth.tar", state)), small.body.state_dict())


def test_a_head_is_left_out_with_a_word(tmp_path, small, capsys):
    state = small.body.state_dict() | {"fc.weight": torch.ones(7, 128), "projector.0.bias": torch.ones(2)}
    assert same(build("resnet8", 3, weights=stored(tmp_path / "w.pt", state)), small.body.state_dict())
    assert capsys.readouterr().err == f"{tmp_path / 'w.pt'}: not of the body, left out: fc, projector\n"


def test_a_head_of_as_many_outputs_is_kept_with_a_word(tmp_path, small, capsys):
    torch.manual_seed(5)
    weight, bias = torch.randn(3, 128), torch.randn(3)
    state = {f"module.{name}": t for name, t in small.body.state_dict().items()}
    path = stored(tmp_path / "w.pt", {"net": state | {"module.linear.weight": weight, "module.linear.bias": bias}})
    model = build("resnet8", 3, weights=path)
    assert torch.equal(model.head.weight, weight) and torch.equal(model.head.bias, bias)
    assert capsys.readouterr().err == f"{path} (net): its head linear, of 3 outputs too, is kept\n"
    two = {"fc.weight": weight, "fc.bias": bias, "rotation.weight": weight + 1, "rotation.bias": bias}
    model = build("resnet8", 3, weights=stored(tmp_path / "w.pt", state | two))  # which of them cannot be known
    assert not any(torch.equal(model.head.weight, other) for other in (weight, weight + 1))
    assert capsys.readouterr().err.endswith("not of the body, left out: fc, rotation\n")


def test_a_checkpoint_of_ours_is_a_file_of_weights_too(tmp_path, small):
    from common.checkpoint import save

    save(tmp_path / "c.pt", small, recipe={})
    assert same(build("resnet8", 3, weights=tmp_path / "c.pt"), small.body.state_dict())


def test_resnets_with_other_names_are_read(tmp_path, resnet18):
    shortcut = {name.replace("downsample", "shortcut").replace("fc.", "linear."): t for name, t in resnet18.items()}
    for state in (resnet18, shortcut, {f"module.{name}": t for name, t in shortcut.items()}):
        assert same(build("resnet18", 3, weights=stored(tmp_path / "w.pth", {"net": state, "acc": 93.1})), resnet18)


def test_wide_resnets_with_the_names_of_their_public_code_are_read(tmp_path):
    torch.manual_seed(4)
    source = build("wrn28-10", 3).body.state_dict()
    theirs = {}
    for name, tensor in source.items():
        name = name.replace("shortcut", "convShortcut").replace("bn.", "bn1.") if name.count(".") else name
        block, _, rest = name.partition(".")
        theirs[f"{block}.layer.{rest}" if block.startswith("block") else name] = tensor
    assert "block1.layer.0.convShortcut.weight" in theirs and "bn1.weight" in theirs
    assert same(build("wrn28-10", 3, weights=stored(tmp_path / "w.pt", theirs)), source)


def test_safetensors_are_read_and_half_precision_and_old_files_without_counters(tmp_path, small):
    from safetensors.torch import save_file

    state = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in small.body.state_dict().items()
    }
    rounded = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    save_file(state, tmp_path / "w.safetensors")
    assert same(build("resnet8", 3, weights=tmp_path / "w.safetensors"), rounded)
    old = {name: tensor for name, tensor in state.items() if "num_batches" not in name}
    assert same(build("resnet8", 3, weights=stored(tmp_path / "w.pt", old)), {name: rounded[name] for name in old})
    (tmp_path / "w.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:-9])
    assert refusal("resnet8", tmp_path / "w.safetensors").startswith(
        "is not a file of weights that can be read safely: "
    )


def test_what_does_not_fit_is_named(tmp_path, small, resnet18):
    path, state = tmp_path / "w.pt", small.body.state_dict()

    def said(name, content):
        return refusal(name, stored(path, content))

    assert "does not fit resnet18: 100 tensors missing, the first is conv1.weight" in said("resnet18", state)
    beside = "expected conv1.weight 64 x 3 x 3 x 3, bn1.weight 64, bn1.bias 64, ...; found stem.0.weight 32 x 3 x 3 x 3, stem.1.weight 32, "
    assert beside in said("resnet18", state)
    wide = resnet18 | {"conv1.weight": torch.zeros(64, 3, 7, 7)}
    assert said("resnet18", wide) == "does not fit resnet18: conv1.weight is 64 x 3 x 7 x 7 there, 64 x 3 x 3 x 3 here"
    deeper = resnet18 | {"layer1.2.conv1.weight": torch.zeros(64, 64, 3, 3)}
    assert (
        said("resnet18", deeper)
        == "does not fit resnet18, which has no place for 1 of its tensors, the first is layer1.2.conv1.weight; found layer1.2.conv1.weight "
        "64 x 64 x 3 x 3; expected layer1.1.bn2.running_mean 64, layer1.1.bn2.running_var 64, layer1.1.bn2.num_batches_tracked one number"
    )
    assert "layer1.bn2.bias holds values that are NaN" in said(
        "resnet8", state | {"layer1.bn2.bias": torch.full((32,), torch.nan)}
    )
    assert "is torch.int64 there, torch.float32 here" in said(
        "resnet8", state | {"layer1.bn2.bias": torch.zeros(32).long()}
    )
    two = {"model": state, "ema": {name: tensor + 1 for name, tensor in state.items()}}
    assert said("resnet8", two) == "holds weights of resnet8 under model and ema; keep one of them in the file"
    twice = state | {f"module.{name}": tensor + 1 for name, tensor in state.items()}
    doubled = "holds more than one tensor for stem.0.weight of resnet8, one is "
    assert said("resnet8", twice) == doubled + "module.stem.0.weight"
    twice = {f"{front}.{name}": tensor for front in ("backbone", "encoder") for name, tensor in state.items()}
    assert said("resnet8", twice) == doubled + "backbone.stem.0.weight"
    for nothing in ([1, 2], {"lr": 0.1}, torch.ones(3), None):
        assert said("resnet8", nothing) == "holds no tensors by name; expected the state_dict of resnet8"
    assert "it holds a torch.nn.modules.linear.Linear, which is not opened" in said("resnet8", nn.Linear(2, 2))


def test_missing_damaged_or_unsafe_weights_are_named(tmp_path, small):
    with pytest.raises(UserError, match="no weights at .*gone.pt"):
        build("resnet8", 3, weights=tmp_path / "gone.pt")
    assert refusal("resnet8", tmp_path).startswith("is a folder; expected a file of weights")
    for content in (b"not a checkpoint", b"", b"PK"):
        (tmp_path / "junk.pt").write_bytes(content)
        assert refusal("resnet8", tmp_path / "junk.pt").startswith("is not a file of weights that can be read safely")
    path = stored(tmp_path / "w.pt", small.body.state_dict())
    content = bytearray(path.read_bytes())
    content[content.index(small.body.layer3.conv2.weight.detach().numpy().tobytes()[:400]) + 3] ^= 0x40
    path.write_bytes(content)
    assert refusal("resnet8", path) == "is damaged: the checksums of the archive do not hold"
    np.savez(tmp_path / "w.npz", a=np.zeros(3))
    assert "Google's .npz form fits bit-r50x1" in refusal("resnet8", tmp_path / "w.npz")
    assert "does not fit bit-r50x1" in refusal("bit-r50x1", tmp_path / "w.npz")
    (tmp_path / "w.npz").write_bytes((tmp_path / "w.npz").read_bytes()[:-30])
    assert refusal("bit-r50x1", tmp_path / "w.npz").startswith("is not weights in Google's .npz form")


def test_a_hub_that_has_none_or_cannot_be_reached_is_one_line(monkeypatch):
    with pytest.raises(UserError, match="no hub has weights for resnet8; give a file"):
        build("resnet8", 3, weights="hub")
    with pytest.raises(UserError, match="unknown timm network 'resnet10t.nothing'"):
        build("timm:resnet10t.nothing", 3)
    import timm

    def unreachable(*_, pretrained=False, **__):
        if pretrained:
            raise OSError("no route to host")
        return nn.Sequential()

    monkeypatch.setattr(timm, "create_model", unreachable)
    from common.backbones.weights import hub_network

    with pytest.raises(
        UserError,
        match=r"weights of timm:resnet10t cannot be fetched \(no route to host\); without internet give a file",
    ):
        hub_network("timm:resnet10t", head=False)
