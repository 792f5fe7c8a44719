"""Networks by name, with their libraries' preparation of images."""

import pytest
import timm
import torch
from torchvision import models

from common.cli.errors import UserError
from common.scoring.named import is_name, named_network, rebuild


def test_a_timm_network_has_the_files_weights_and_its_own_preparation(tmp_path):
    theirs = timm.create_model("resnet10t", num_classes=5)
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in theirs.state_dict().items()}}, tmp_path / "w.pth"
    )
    found = named_network(f"timm:resnet10t@{tmp_path}/w.pth", 5)
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in found.net.state_dict().items())
    cfg = theirs.default_cfg
    assert found.name == "timm:resnet10t" and found.stats == (cfg["mean"], cfg["std"])
    facts = {"size_px": 176, "rule": "resize-crop", "resize_px": int(176 / cfg["crop_pct"]), "interpolation": "bicubic"}
    assert found.transform.facts() == facts


def test_a_torchvision_network_too(tmp_path):
    theirs = models.mobilenet_v3_small(num_classes=5)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    found = named_network(f"torchvision:mobilenet_v3_small@{tmp_path}/w.pth", 5)
    assert torch.equal(found.net.classifier[3].weight, theirs.classifier[3].weight)
    assert found.stats[0] == (0.485, 0.456, 0.406) and found.transform.facts()["resize_px"] == 256


def test_what_is_not_there_or_does_not_fit_is_refused(tmp_path):
    torch.save(timm.create_model("resnet10t", num_classes=4).state_dict(), tmp_path / "w.pth")
    refused = {
        f"timm:resnet10t@{tmp_path}/w.pth": "fc.(weight is 4 x 512|bias is 4) there, 5 ",
        f"timm:resnet10t@{tmp_path}/none.pth": "no weights at",
        "timm:resnet99@x": "unknown timm network 'resnet99'",
        "torchvision:resnet99@x": "unknown torchvision network 'resnet99'",
        "torchvision:inception_v3@x": "its switch transform_input is not in its weights",
    }
    for name, said in refused.items():
        with pytest.raises(UserError, match=said):
            named_network(name, 5)
    assert (
        is_name("timm:x") and is_name("torchvision:x@y") and not is_name("runs/checkpoint.pt") and not is_name("timm")
    )
    assert rebuild("timm:resnet10t", 7).num_classes == 7
