"""The weight files of a checkpoint folder: safetensors or a pickle, whole or in shards.

No code in a file is executed: pickles are read with `weights_only=True`, and an index can only
name files of its own folder.
"""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor

from models.checkpoint.json_files import read_document
from models.errors import CheckpointError

SAFETENSORS = "model.safetensors"
WEIGHT_FILES = (  # in order of preference
    SAFETENSORS,
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
LFS_POINTER = b"version https://git-lfs."  # how the placeholder of a file in Git LFS begins


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read the tensors by their stored names, from the first of WEIGHT_FILES in the folder.

    The tensors may be memory-mapped files: copy the tensors before the folder changes.

    Raises:
        CheckpointError: there is no weight file, or it is damaged or unsafe.
    """
    path = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if path is None:
        raise CheckpointError(f"no weights found in {folder}: looked for {', '.join(WEIGHT_FILES)}")
    return read_shards(path) if path.suffix == ".json" else read_file(path)


def write_weights(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write one safetensors file with the format mark that the Hugging Face libraries expect."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # save_file would make the file readable by its owner only, but a container runs as another user
    (folder / SAFETENSORS).write_bytes(serialize(contiguous, metadata={"format": "pt"}))


def read_shards(index: Path) -> dict[str, Tensor]:
    """Read all shards that an index names. CheckpointError if a shard lacks one of its keys."""
    shard_of = read_document(index).get("weight_map")
    if not isinstance(shard_of, dict) or not all(isinstance(s, str) for s in shard_of.values()):
        raise CheckpointError(f"{index.name} has no weight_map from keys to file names")
    suffix = Path(index.stem.removesuffix(".index")).suffix  # .safetensors or .bin
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(shard_of.values())):
        tensors |= (content := read_file(shard_path(index, shard, suffix)))
        missing = [key for key, file in shard_of.items() if file == shard and key not in content]
        if missing:
            raise CheckpointError(
                f"{shard} lacks keys that {index.name} assigns to it: {', '.join(missing)}"
            )
    return tensors


def shard_path(index: Path, shard: str, suffix: str) -> Path:
    """Return the path of a shard. CheckpointError for a name that is not in the index's folder."""
    plain = PurePosixPath(shard).name == shard == PureWindowsPath(shard).name
    if not plain or not shard.endswith(suffix):
        raise CheckpointError(
            f"{index.name} names {shard!r}, which is not a {suffix} file in the same folder"
        )
    if not (path := index.parent / shard).is_file():
        raise CheckpointError(f"{index.name} names {shard}, which does not exist")
    return path


def read_file(path: Path) -> dict[str, Tensor]:
    """Read the tensors of one file. CheckpointError if it is damaged or holds other objects."""
    try:
        content = load_file(path) if path.suffix == ".safetensors" else read_pickle(path)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = (
            "it is a Git LFS pointer; run git lfs pull to get the file"
            if is_lfs_pointer(path)
            else error
        )
        raise CheckpointError(f"{path.name} cannot be read: {reason}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name} is not a state dict")
    others = [
        str(key)
        for key, value in content.items()
        if not (isinstance(key, str) and isinstance(value, Tensor))
    ]
    if others:
        raise CheckpointError(f"{path.name} has entries that are not tensors: {', '.join(others)}")
    return content


def read_pickle(path: Path) -> object:
    """Read the tensors of a torch.save file; memory-mapped if the file's format allows it."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def is_lfs_pointer(path: Path) -> bool:
    """Whether the file is the placeholder of a file that Git LFS has not fetched."""
    with path.open("rb") as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER
