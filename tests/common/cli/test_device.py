import pytest
import torch

from common.cli.device import pick_device, resolve_precision
from common.cli.errors import UserError


def test_auto_is_a_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")


def test_a_device_that_is_not_there_is_named():
    for name in ("abacus", "cuda:99", "cuda:99999999999999", "meta", ""):
        with pytest.raises(UserError, match=f"^no device '{name}' here: "):
            pick_device(name)


def test_a_precision_that_was_asked_for_stands_and_auto_follows_the_device(monkeypatch):
    assert [resolve_precision(name, torch.device("cpu")) for name in ("float32", "bf16")] == ["float32", "bf16"]
    for has, expected in ((True, "bf16"), (False, "float32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has: has)
        assert resolve_precision("auto", torch.device("cuda")) == expected


@pytest.mark.parametrize(
    ("flags", "expected"), [("fpu avx512_bf16", "bf16"), ("amx_bf16", "bf16"), ("avx2", "float32")]
)
def test_auto_on_a_cpu_reads_its_flags(flags, expected, monkeypatch):
    monkeypatch.setattr("common.cli.device.Path.exists", lambda self: True)
    monkeypatch.setattr("common.cli.device.Path.read_text", lambda self: flags)
    assert resolve_precision("auto", torch.device("cpu")) == expected
