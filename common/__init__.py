"""What both methods use: data sets, networks, features, scores, metrics and training."""
