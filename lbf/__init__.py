"""LBF: local background features for out-of-distribution detection (arXiv 2510.12259)."""
