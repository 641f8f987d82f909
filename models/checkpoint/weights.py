"""The weight files of a checkpoint folder: safetensors or a pickle of tensors, whole or in shards.

Knows nothing of what the tensors are for. No code in a file is ever run: a pickle is read with
`weights_only=True`, and an index can only name files of its own folder.
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
NAMES = (
    SAFETENSORS,
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors by their stored names, from the first of NAMES that the folder has.

    The tensors may be windows into the files: copy what is to outlive a change of the folder.
    CheckpointError when there is no such file, or one is damaged or not safe to read.
    """
    path = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    if path is None:
        raise CheckpointError(f"no weights found: looked for {', '.join(NAMES)}")
    return read_shards(path) if path.suffix == ".json" else read_file(path)


def write_weights(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write one safetensors file, marked as PyTorch's, as the Hugging Face libraries expect."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # not save_file: it makes a file that only its owner can read, in a container nobody
    (folder / SAFETENSORS).write_bytes(serialize(contiguous, metadata={"format": "pt"}))


def read_shards(index: Path) -> dict[str, Tensor]:
    """All tensors of the shards that an index names; each key must be where the index says."""
    shard_of = read_document(index).get("weight_map")
    if not isinstance(shard_of, dict) or not all(isinstance(s, str) for s in shard_of.values()):
        raise CheckpointError(f"{index.name} has no weight_map of keys to file names")
    suffix = Path(index.stem.removesuffix(".index")).suffix  # .safetensors or .bin
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(shard_of.values())):
        tensors |= (content := read_file(shard_path(index, shard, suffix)))
        absent = [key for key, file in shard_of.items() if file == shard and key not in content]
        if absent:
            raise CheckpointError(f"{shard} lacks what {index.name} promises: {', '.join(absent)}")
    return tensors


def shard_path(index: Path, shard: str, suffix: str) -> Path:
    """The shard beside its index; CheckpointError for a name that could lead anywhere else."""
    plain = PurePosixPath(shard).name == shard == PureWindowsPath(shard).name
    if not plain or not shard.endswith(suffix):
        raise CheckpointError(f"{index.name} names {shard!r}, which is no {suffix} file beside it")
    if not (path := index.parent / shard).is_file():
        raise CheckpointError(f"{index.name} names {shard}, which is missing")
    return path


def read_file(path: Path) -> dict[str, Tensor]:
    """The tensors of one file."""
    try:
        content = load_file(path) if path.suffix == ".safetensors" else read_pickle(path)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = "it is a Git LFS pointer, not the file itself" if is_pointer(path) else error
        raise CheckpointError(f"{path.name} cannot be read: {reason}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name} holds no state dict")
    odd = [
        str(key)
        for key, value in content.items()
        if not (isinstance(key, str) and isinstance(value, Tensor))
    ]
    if odd:
        raise CheckpointError(f"{path.name} holds more than tensors: {', '.join(odd)}")
    return content


def read_pickle(path: Path) -> object:
    """What torch.save wrote, tensors only; mapped from the file where its format allows that."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def is_pointer(path: Path) -> bool:
    """Whether Git LFS left its placeholder here."""
    with path.open("rb") as file:
        return file.read(24) == b"version https://git-lfs."
