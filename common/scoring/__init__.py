"""From a network and images to features, and from features to rows."""

from common.scoring.detector import Detector
from common.scoring.features import extract

__all__ = ["Detector", "extract"]
