"""The error for a checkpoint that cannot be loaded or saved."""

MAX_MESSAGE = 2000  # characters: names and values in a message come from files


class CheckpointError(ValueError):
    """The checkpoint is missing, damaged or of an unsupported kind; the message says why."""

    def __init__(self, message: str) -> None:
        super().__init__(message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]} ...")
