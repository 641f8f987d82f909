"""The files of a checkpoint, read when they are needed: a folder, or a single file of weights."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from models.checkpoint.files import is_present
from models.checkpoint.json_files import read_document
from models.checkpoint.state_dict import network_tensors, refuse_quantization
from models.checkpoint.unusual_folders import advice, names_in, refuse_adapter, refuse_format
from models.checkpoint.weights import read_files, stored_bytes, weight_files
from models.errors import CheckpointError


class Stored:
    """What the files of a checkpoint hold. Each attribute raises CheckpointError for its files.

    Args:
        path: the folder, or a file of weights, which has no documents beside it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_file = path.is_file()

    @cached_property
    def document(self) -> Mapping[str, Any]:
        """The contents of config.json; empty for a file of weights."""
        if self.is_file:
            return {}
        refuse_adapter(self.path)
        path = self.path / "config.json"
        if not is_present(path):
            instead = advice(names_in(self.path), str(self.path))
            raise CheckpointError(
                f"config.json cannot be read: no such file in {self.path}{instead}"
            )
        return read_document(path)

    @cached_property
    def preprocessor(self) -> tuple[str, Mapping[str, Any]] | None:
        """The name and the contents of the file with the preprocessing, or None."""
        document: Any = None
        path = self.path / "processor_config.json"
        if not self.is_file and is_present(path):
            document = read_document(path).get("image_processor")  # older files do not have it
        if document is None:
            path = self.path / "preprocessor_config.json"
            if self.is_file or not is_present(path):
                return None
            document = read_document(path)
        if not isinstance(document, dict):
            raise CheckpointError(f"{path.name}: image_processor is not a JSON object")
        return path.name, document

    @cached_property
    def files(self) -> Mapping[Path, list[str]]:
        """The files with the weights, see `weight_files`."""
        if not self.is_file:
            return weight_files(self.path)
        refuse_format(self.path)
        return {self.path: []}

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """The tensors of the network by the names of its library; they may be memory-mapped."""
        refuse_quantization(self.document)
        return network_tensors(read_files(self.files))

    @property
    def size(self) -> int:
        """Bytes of all weight files."""
        return stored_bytes(self.files)
