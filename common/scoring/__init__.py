"""From a network and images to features, and from features to rows."""

from common.scoring.features import extract

__all__ = ["extract"]
