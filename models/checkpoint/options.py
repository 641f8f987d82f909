"""What a user says about a checkpoint when loading it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LoadOptions:
    """What the files of a checkpoint do not say, and whether anything may be assumed.

    Attributes:
        arch: the architecture of a file of weights, as its library names it.
        labels_file: a file with a label for each output of the network, one a line in UTF-8. It
            wins over all labels of the checkpoint.
        strict: refuse a checkpoint whose files leave something open, instead of assuming it.
    """

    arch: str = ""
    labels_file: Path | None = None
    strict: bool = False


DEFAULT_OPTIONS = LoadOptions()
