"""Which device and which arithmetic a command uses."""

from pathlib import Path

import torch

from common.cli.errors import UserError


def resolve_precision(precision: str, device: torch.device) -> str:
    """bf16 where the device computes in it, else float32. The answer, not "auto", goes into the recipe of a run."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "float32"
    flags = cpu_facts()
    return "bf16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def cpu_facts() -> str:
    """What Linux says of the processor; "" elsewhere."""
    return Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""


def pick_device(name: str) -> torch.device:
    """A device by name; "auto" takes a GPU where there is one. Raises UserError for a device that is not there, or does not compute (meta)."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except Exception as error:  # torch raises many kinds
        raise UserError(f"no device {name!r} here: {[*str(error).splitlines(), type(error).__name__][0]}") from error
    return device
