"""Image sets: one table, one way to load, fetch and verify them."""

from common.data.datasets import SPECS, Spec, check_ood, load
from common.data.folders import FolderImages
from common.data.images import Images
from common.data.transforms import CIFAR, DFB, IMAGENET, Transform

__all__ = ["CIFAR", "DFB", "IMAGENET", "SPECS", "FolderImages", "Images", "Spec", "Transform", "check_ood", "load"]
