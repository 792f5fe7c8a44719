"""DFB: disentangled foreground and background features (ACM MM 2024, arXiv 2303.08727). docs/dfb.md is the guide."""
