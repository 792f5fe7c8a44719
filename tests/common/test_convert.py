"""common.convert: anybody's classifier as a finished checkpoint, whose logits are the source network's own, or one line that says what does not fit."""

import json
import random
import re

import pytest
import timm
import torch
from google_bit import google_file
from torch import nn
from torchvision import models

from common import convert, evaluate
from common.backbones.classifier import PUBLIC_CIFAR_STATS
from common.backbones.weights import BIT
from common.checkpoint import load_finished
from dfb import masks
from lbf import finetune

NAMES = ("a", "b", "c", "d", "e")
GIVEN = ["--classes", *NAMES, "--id", "cifar10"]
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
STATS = ["--mean", *MEAN, "--std", *STD]


def lively(net: nn.Module) -> nn.Module:
    """Norms that are not the identity, in eval mode."""
    for tensor in net.state_dict().values():
        if tensor.is_floating_point() and tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5)
    return net.eval()


def kuangliu(outputs: int = 5) -> nn.Module:
    """A ResNet-18 for 32 px: kuangliu's and OpenOOD's are torchvision's with another stem."""
    torch.manual_seed(1)
    net = models.resnet18(num_classes=outputs)
    net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    return lively(net)


def theirs(net: nn.Module, **words: str) -> dict[str, torch.Tensor]:
    """The state dict with parts called otherwise."""
    state = net.state_dict()
    for ours, other in words.items():
        state = {name.replace(ours, other): tensor for name, tensor in state.items()}
    return state


def stored(path, content):
    torch.save(content, path)
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def converted(typed, out):
    """converted(file, backbone, *words) -> (network, facts, what was printed)"""

    def run(file, backbone, *words):
        said = typed(convert, file, "--backbone", backbone, "--out", out, *words)
        assert said.code == 0, said.err
        return *load_finished(out / "checkpoint.pt"), said.out

    return run


def equal(model, net, side: int, stats=(MEAN, STD)) -> bool:
    """Whether the logits are the source network's own on normalised images, to 1e-5."""
    images = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(2))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in stats)
    with torch.no_grad():
        expected, ours = net((images - mean) / std), model(images)
    return bool((ours - expected).abs().max() <= 1e-5 * expected.abs().max().clamp_min(1)) and expected.std() > 1e-3


CALLED = ({}, {"downsample": "shortcut"}, {"downsample": "shortcut", "fc.": "linear."})
KEYS = ("", "state_dict", "net", "model", "model_state_dict", "ema")


@pytest.mark.parametrize(("key", "words"), [(key, CALLED[i % 3]) for i, key in enumerate(KEYS)])
def test_public_cifar_files_give_the_networks_own_logits(tmp_path, converted, words, key):
    net, fronts = kuangliu(), ["module.", "_orig_mod.", "model.", "backbone.", "encoder.", "body.", "net."]
    random.Random(len(key) + len(words)).shuffle(fronts)
    state = {"".join(fronts[:3]) + name: tensor for name, tensor in theirs(net, **words).items()}
    content = {key: state, "epoch": 3, "optimizer": {"state": {}}} if key else state
    model, facts, said = converted(stored(tmp_path / "w.pth", content), "resnet18", *GIVEN, *STATS)
    assert equal(model, net, 32) and facts["classes"] == list(NAMES) and facts["id_set"] == "cifar10"
    assert f"renamed: 120 ({''.join(fronts[:3])}conv1.weight -> conv1.weight" in said
    assert f"head: {'linear' if 'fc.' in words else 'fc'}, 5 x 512" in said and "(--mean, --std)" in said


@pytest.mark.parametrize(("backbone", "make", "side"), [
    ("torchvision:resnet18", lambda: models.resnet18(num_classes=5), 64),
    ("torchvision:mobilenet_v2", lambda: models.mobilenet_v2(num_classes=5), 64),
    ("torchvision:densenet121", lambda: models.densenet121(num_classes=5), 64),
    ("torchvision:mnasnet0_5", lambda: models.mnasnet0_5(num_classes=5), 64),
    ("timm:resnet10t", lambda: timm.create_model("resnet10t", num_classes=5), 64),
    ("timm:regnetx_002", lambda: timm.create_model("regnetx_002", num_classes=5), 64),
])  # fmt: skip
def test_a_librarys_network_gives_its_own_logits(tmp_path, converted, backbone, make, side):
    from safetensors.torch import save_file

    torch.manual_seed(3)
    net = lively(make())
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    model, facts, said = converted(tmp_path / "w.safetensors", backbone, *GIVEN, "--image-size", side)
    usual = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert equal(model, net, side, usual) and f"usual for {backbone}" in said and facts["transform"]["size_px"] == side


def test_half_precision_lightning_and_what_is_unused(tmp_path, converted):
    net = kuangliu().half().float()
    half = {f"model.{name}": t.half() if t.is_floating_point() else t for name, t in net.state_dict().items()}
    content = {
        "state_dict": half | {"loss.weight": torch.ones(5)}, "pytorch-lightning_version": "2.1.0", "callbacks": {"EarlyStopping{}": {"best": 1.0}},
        "hyper_parameters": {"lr": 0.1}, "optimizer_states": [],
    }  # fmt: skip
    model, _, said = converted(stored(tmp_path / "w.ckpt", content), "resnet18", *GIVEN, *STATS)
    assert equal(model, net, 32) and "unused: 1 (loss.weight)" in said and model.head.weight.dtype == torch.float32


def test_googles_file_gives_its_head_too(tmp_path, converted):
    torch.manual_seed(4)
    net = lively(timm.create_model(BIT, num_classes=5))
    google_file(tmp_path / "bit.npz", net, head=net.head.fc)
    model, facts, _ = converted(tmp_path / "bit.npz", "bit-r50x1", *GIVEN, "--image-size", 64)
    assert equal(model, net, 64, ((0.5,) * 3, (0.5,) * 3)) and facts["start"] == "bit.npz"


def test_what_normalises_comes_from_flags_file_network_or_set_in_this_order(tmp_path, converted):
    net, path = kuangliu(), tmp_path / "w.pt"
    inside = {
        "normalize.mean": torch.tensor(MEAN).view(1, 3, 1, 1),
        "normalize.std": torch.tensor(STD).view(1, 3, 1, 1),
    }
    model, _, said = converted(stored(path, net.state_dict() | inside), "resnet18", *GIVEN)
    assert equal(model, net, 32) and "(the file)" in said
    public = [*(f"{v}" for v in PUBLIC_CIFAR_STATS[0]), "--std", *(f"{v}" for v in PUBLIC_CIFAR_STATS[1])]
    assert equal(converted(path, "resnet18", *GIVEN, "--mean", *public)[0], net, 32, PUBLIC_CIFAR_STATS)
    assert "usual for cifar10, a guess" in converted(stored(path, net.state_dict()), "resnet18", *GIVEN)[2]


def test_ones_own_checkpoint_is_converted_and_then_every_command_takes_it(tmp_path, converted, typed, out, finished):
    model, facts, said = converted(finished("mine.pt"), "resnet8")
    source, _ = load_finished(tmp_path / "mine.pt")
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), source.state_dict().values()))
    assert facts["id_set"] == "shapes" and "all its tensors kept" in said
    again = typed(convert, tmp_path / "mine.pt", "--backbone", "resnet8", "--out", out)
    assert "done already" in again.err and again.out == said
    few = ["--limit", 16, "--quiet"]
    assert typed(evaluate, out / "checkpoint.pt", "--scorers", "msp", *few).code == 0
    short = ["--epochs", 1, "--batch-size", 16, *few]
    assert typed(finetune, out / "checkpoint.pt", *short, "--out", tmp_path / "lbf").code == 0
    assert typed(masks, out / "checkpoint.pt", "--limit", 16, "--quiet", "--out", tmp_path / "masks").code == 0
    recipe = json.loads((tmp_path / "lbf/recipe.json").read_text())["recipe"]
    assert (
        recipe["epochs"] == 1
        and load_finished(tmp_path / "lbf/checkpoint.pt")[1]["start_recipe"]["converted_from"] == "mine.pt"
    )


def refused(typed, out, file, backbone, *words):
    said = typed(convert, file, "--backbone", backbone, "--out", out, *words)
    assert said.code == 2 and said.err.count("\n") == 1 and said.out == "", said
    assert not (out / "checkpoint.pt").exists()
    return said.err.removeprefix("error: ").strip()


def test_what_does_not_fit_is_one_line_with_names_and_shapes(tmp_path, typed, out):
    path, state = tmp_path / "w.pt", kuangliu().state_dict()
    go = lambda content, backbone, *words: refused(typed, out, stored(path, content), backbone, *(words or GIVEN))  # noqa: E731
    said = go(state, "resnet34")
    assert (
        "tensors missing" in said
        and "expected layer1.2.conv1.weight 64 x 64 x 3 x 3" in said
        and "found fc.weight 5 x 512" in said
    )
    assert "has no head that fits: expected a weight of 10 x 512" in go(
        state, "resnet18", "--classes", *"abcdefghij", "--id", "cifar10"
    )
    assert "beside the body it has fc.weight 5 x 512, fc.bias 5" in go(
        state, "resnet18", "--classes", "x,y", "--id", "cifar10"
    )
    two = state | {"linear.weight": state["fc.weight"] + 1, "linear.bias": state["fc.bias"]}
    assert "2 layers that could be its head: fc, linear; choose one with --head" in go(two, "resnet18")
    both = {"model": state, "ema": {name: tensor + 1 for name, tensor in state.items()}}
    assert "holds weights of resnet18 under model and ema" in go(both, "resnet18")
    assert "has nothing under --key mean; there are model, ema" in go(both, "resnet18", *GIVEN, "--key", "mean")
    assert typed(convert, path, "--backbone", "resnet18", *GIVEN, "--key", "ema", "--out", tmp_path / "ema").code == 0


@pytest.mark.parametrize(("words", "said"), [
    (("--classes", *NAMES), "--id SET must name the in-distribution set"),
    (("--id", "cifar10"), "--classes must name what the outputs"),
    (("--classes", "a", "a", "b", "--id", "cifar10"), "names 'a' twice"),
    (("--classes", "cifar", "--id", "cifar10"), "--classes cifar is no set and no file"),
    (("--classes", *NAMES, "--id", "cifar11"), "unknown data set 'cifar11'"),
    (("--classes", *NAMES, "--id", "isun"), "--id isun has no classes"),
    (("--classes", *NAMES, "--id", "shapes-noise"), "--id shapes-noise has no classes"),
    (("--classes", *NAMES, "--id", "shapes:zork=1"), "unknown dial of shapes 'zork'"),
    ((*GIVEN, "--mean", 1, 1, 1), "--mean and --std go together"),
    ((*GIVEN, "--mean", 1, 1, 1, "--std", 1, 1, 0), "--std must be above 0"),
    (("--classes", *NAMES, "--id", "folder:here"), "nothing says what .* normalises by: give --mean"),
])  # fmt: skip
def test_flags_that_cannot_be_are_named(tmp_path, typed, out, words, said):
    assert re.search(said, refused(typed, out, stored(tmp_path / "w.pt", kuangliu().state_dict()), "resnet18", *words))


class Trained(nn.Module):
    pass


def test_unsafe_missing_and_other_networks_are_one_line(tmp_path, typed, out, finished):
    said = refused(typed, out, stored(tmp_path / "w.pt", {"model": Trained()}), "resnet18", *GIVEN)
    assert "Trained, which is not opened" in said and "save the tensors without it" in said
    assert "gone.pt: no such file" in refused(typed, out, tmp_path / "gone.pt", "resnet18", *GIVEN)
    net = timm.create_model("convnext_atto", num_classes=5)
    said = refused(
        typed, out, stored(tmp_path / "w.pt", net.state_dict()), "timm:convnext_atto", *GIVEN, "--image-size", "64"
    )
    assert "does more between its feature map and its head than take the mean" in said
    assert "names its classes" in refused(typed, out, finished("m.pt"), "resnet8", *GIVEN)
    assert "is a checkpoint of resnet8, not of resnet18" in refused(typed, out, finished("m.pt"), "resnet18", *GIVEN)
    assert "has a background class" in refused(typed, out, finished("b.pt", 9, extra_classes=1), "resnet8")


def test_a_hub_out_of_reach_is_one_line(typed, out, monkeypatch):
    create = timm.create_model

    def unreachable(*words, pretrained=False, **how):
        if pretrained:
            raise OSError("no route to host")
        return create(*words, **how)

    monkeypatch.setattr(timm, "create_model", unreachable)
    assert "cannot be fetched (no route to host)" in refused(typed, out, "hub", "timm:resnet10t", *GIVEN)
