"""Image sets: one table, one way to load, fetch and verify them."""

from importlib import import_module
from typing import Any

_HOMES = {
    "specs": ("SPECS", "Spec", "canonical", "check_ood", "expand", "place"), "datasets": ("load",), "images": ("Images",), "folders": ("FolderImages",),
    "overlap": ("check_overlap",),
    "transforms": ("CIFAR", "DFB", "IMAGENET", "Transform"),
}  # fmt: skip
__all__ = sorted(name for names in _HOMES.values() for name in names)


def __getattr__(name: str) -> Any:
    """Looked up when first used: the table of sets can be read without torch."""
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
