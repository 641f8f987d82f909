"""The weight files of a checkpoint folder: safetensors or a pickle, whole or in shards.

No code in a file is executed: pickles are read with `weights_only=True`, and an index can only
name files of its own folder. Memory and time are in proportion to the size of the files.
"""

import logging
import pickle
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

import torch
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor

from models.checkpoint.files import is_present
from models.checkpoint.json_files import read_document
from models.checkpoint.pickles import HOW_TO_SAVE, check_pickle, is_zip
from models.checkpoint.state_dict import table_of
from models.checkpoint.unusual_folders import SAFETENSORS, WEIGHT_FILES, names_in, only_weights
from models.errors import CheckpointError

logger = logging.getLogger(__name__)

LFS_POINTER = b"version https://git-lfs."  # how the placeholder of a file in Git LFS begins


def weight_files(folder: Path) -> dict[Path, list[str]]:
    """Return the files with the weights, each with the keys that an index assigns to it.

    They are the first one of WEIGHT_FILES in the folder, or its shards; without it, the only
    other file of weights.

    Raises:
        CheckpointError: there is no weight file, or more than one of other names, or an index is
            damaged or unsafe.
    """
    path = next((folder / name for name in WEIGHT_FILES if is_present(folder / name)), None)
    if path is None:
        path = folder / only_weights(names_in(folder), str(folder))
        is_present(path)  # raises if it is a pipe or a device
        logger.info("the weights are read from %s, the only file of weights", path.name)
    return shards(path) if path.suffix == ".json" else {path: []}


def read_files(files: Mapping[Path, Sequence[str]]) -> dict[str, Tensor]:
    """Read the tensors by their stored names.

    The tensors may be memory-mapped files: copy the tensors before the folder changes.

    Args:
        files: from `weight_files`.

    Raises:
        CheckpointError: a file is damaged or unsafe, or lacks a key.
    """
    tensors: dict[str, Tensor] = {}
    for path, keys in files.items():
        tensors |= (content := read_file(path))
        if missing := [key for key in keys if key not in content]:
            raise CheckpointError(
                f"{path.name} lacks keys that its index assigns to it: {', '.join(missing)}"
            )
    return tensors


def stored_bytes(files: Iterable[Path]) -> int:
    """Return the bytes of all weight files."""
    return sum(path.stat().st_size for path in files)


def write_weights(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write one safetensors file with the format mark that the Hugging Face libraries expect."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # save_file would make the file readable by its owner only, but a container runs as another user
    (folder / SAFETENSORS).write_bytes(serialize(contiguous, metadata={"format": "pt"}))


def shards(index: Path) -> dict[Path, list[str]]:
    """Return the files that an index names, each with its keys."""
    shard_of = read_document(index).get("weight_map")
    if not isinstance(shard_of, dict) or not all(isinstance(s, str) for s in shard_of.values()):
        raise CheckpointError(f"{index.name} has no weight_map from keys to file names")
    suffix = Path(index.stem.removesuffix(".index")).suffix  # .safetensors or .bin
    keys: dict[str, list[str]] = {shard: [] for shard in sorted(shard_of.values())}
    for key, shard in shard_of.items():
        keys[shard].append(key)
    return {shard_path(index, shard, suffix): keys[shard] for shard in keys}


def shard_path(index: Path, shard: str, suffix: str) -> Path:
    """Return the path of a shard. CheckpointError for a name that is not in the index's folder."""
    plain = PurePosixPath(shard).name == shard == PureWindowsPath(shard).name
    if not plain or not shard.endswith(suffix):
        raise CheckpointError(
            f"{index.name} names {shard!r}, which is not a {suffix} file in the same folder"
        )
    if not is_present(path := index.parent / shard):
        raise CheckpointError(f"{index.name} names {shard}, which does not exist")
    return path


def read_file(path: Path) -> dict[str, Tensor]:
    """Read the tensors of one file. CheckpointError if it is damaged or holds other objects."""
    try:
        content = load_file(path) if path.suffix == ".safetensors" else read_pickle(path)
    except Exception as error:  # of any type, for example an IndexError of a damaged pickle
        reason = (
            "it is a Git LFS pointer; run git lfs pull to get the file"
            if is_lfs_pointer(path)
            else error
        )
        raise CheckpointError(f"{path.name} cannot be read: {reason}") from error
    return table_of(content, path.name)


def read_pickle(path: Path) -> object:
    """Read the tensors of a torch.save file; memory-mapped if the file's format allows it."""
    check_pickle(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip(path))
    except OSError:
        raise
    except Exception as error:  # of any type if it is damaged; torch advises to read all objects
        raise pickle.UnpicklingError(
            f"it is damaged, or contains more than tensors; {HOW_TO_SAVE}"
        ) from error


def is_lfs_pointer(path: Path) -> bool:
    """Whether the file is the placeholder of a file that Git LFS has not fetched."""
    try:
        with path.open("rb") as file:
            return file.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:  # the reason is already known
        return False
