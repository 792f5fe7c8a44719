"""From a network and images to features, and from features to rows."""
