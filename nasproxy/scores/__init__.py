"""Every number that ranks candidates: the proxy, its baselines, scores that need no training, full training."""
