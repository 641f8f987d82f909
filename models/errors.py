"""The one error for every checkpoint that cannot be served.

Knows nothing of who raises it.
"""


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or not of a kind served here; says which and why."""
