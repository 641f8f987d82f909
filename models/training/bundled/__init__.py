"""The two bundled checkpoints: how they are trained and evaluated."""
