"""Training of any network, from scratch or from a checkpoint."""
