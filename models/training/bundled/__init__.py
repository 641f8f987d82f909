"""Training and evaluation of the two bundled checkpoints."""
