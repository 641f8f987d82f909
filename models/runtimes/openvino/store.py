"""A cache of converted models on disk, so that a service converts its network only once.

A model's key covers everything that determines the model: weights, configuration, image size, and
the versions of the converting software. Old entries may be deleted at any time.
"""

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import models
from models.preprocessing import Preprocessing, Size
from models.registry import Network
from models.runtimes.openvino.package import import_openvino

MODEL_FILE = "graph.xml"  # OpenVINO writes the weights beside it, to graph.bin

logger = logging.getLogger(__name__)


def default_folder() -> Path:
    """Return patchserve/openvino in the user's cache folder (XDG_CACHE_HOME)."""
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not caches.is_absolute():  # the XDG specification ignores relative paths
        caches = Path.home() / ".cache"
    return caches / "patchserve" / "openvino"


def cache_key(network: Network, size: Size, normalization: Preprocessing | None) -> str:
    """Return the key of a network's model for one image size: 64 hexadecimal digits."""
    versions = (source_digest(), torch.__version__, import_openvino().get_version())
    facts = (*versions, type(network).__name__, network.config, size, normalization)
    digest = hashlib.sha256(repr(facts).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(bytes_of(tensor))
    return digest.hexdigest()


def bytes_of(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor's values."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data


def source_digest() -> str:
    """Return a digest of the source code of the package `models`."""
    digest = hashlib.sha256()
    for file in sorted(Path(models.__path__[0]).rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def cached(folder: Path, key: str, convert: Callable[[], Any]) -> Any:
    """Return the openvino.Model of a key: read from the folder, or converted and written to it.

    Several processes may do this at once. A damaged entry is replaced. If the folder is not
    writable, a warning is logged and the model is not cached.
    """
    entry = folder / key
    if (model := read(entry)) is not None:
        return model
    model = convert()
    try:
        write(model, entry)
    except OSError as error:
        logger.warning("the OpenVINO model is not cached for the next start: %s", error)
    return model


def read(entry: Path) -> Any | None:
    """Read the model of an entry; None if there is no entry, or it was damaged and is removed."""
    if not entry.is_dir():
        return None
    try:
        return import_openvino().Core().read_model(entry / MODEL_FILE)
    except RuntimeError as error:  # for example a file is missing or too short
        logger.warning("a cached OpenVINO model is damaged and converted again: %s", error)
        shutil.rmtree(entry, ignore_errors=True)
        return None


def write(model: Any, folder: Path) -> None:
    """Write the model to a new folder atomically. OSError if the folder cannot be written."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as draft:
        content = Path(draft) / folder.name
        content.mkdir()
        try:
            import_openvino().save_model(model, content / MODEL_FILE, compress_to_fp16=False)
        except RuntimeError as error:  # for example a full disk
            raise OSError(str(error)) from error
        try:
            content.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was first
                raise
