"""The error for a checkpoint that cannot be loaded or saved."""


class CheckpointError(ValueError):
    """The checkpoint is missing, damaged or of an unsupported kind; the message says why."""
