"""Converted graphs on disk, so that a network is converted once and not at every start.

Knows nothing of how a graph is made. Whatever decides what a graph is goes into its name: weights,
configuration, image size, and the versions of all that converts. Old ones may be deleted freely.
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

GRAPH = "graph.xml"  # its weights lie beside it, as graph.bin

log = logging.getLogger(__name__)


def default_folder() -> Path:
    """patchserve/openvino in the user's folder for what can be made again (XDG_CACHE_HOME)."""
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not caches.is_absolute():  # as the XDG specification wants it
        caches = Path.home() / ".cache"
    return caches / "patchserve" / "openvino"


def key_of(network: Network, size: Size, normalization: Preprocessing | None) -> str:
    """The name of the graph of that network, for images of that size: 64 hexadecimal digits."""
    versions = (sources(), torch.__version__, import_openvino().get_version())
    facts = (*versions, type(network).__name__, network.config, size, normalization)
    digest = hashlib.sha256(repr(facts).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(raw(tensor))
    return digest.hexdigest()


def raw(tensor: Tensor) -> memoryview:
    """The tensor's bytes."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data


def sources() -> str:
    """A digest of the code that the graphs come from, which is this package's."""
    digest = hashlib.sha256()
    for file in sorted(Path(models.__path__[0]).rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def stored(folder: Path, key: str, make: Callable[[], Any]) -> Any:
    """The graph of that key, an openvino.Model: read from the folder, or made and kept there.

    Processes may do so at once. Where the folder cannot be written to, the graph is not kept.
    """
    file = folder / key / GRAPH
    if file.is_file():
        return import_openvino().Core().read_model(file)
    graph = make()
    try:
        keep(graph, file.parent)
    except OSError as error:
        log.warning("the graph of OpenVINO is not kept for the next start: %s", error)
    return graph


def keep(graph: Any, folder: Path) -> None:
    """Write the graph so that the folder is there whole or not at all. OSError when it cannot."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as draft:
        content = Path(draft) / folder.name
        content.mkdir()
        try:
            import_openvino().save_model(graph, content / GRAPH, compress_to_fp16=False)
        except RuntimeError as error:  # such as a full disk
            raise OSError(str(error)) from error
        try:
            content.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was first
                raise
            shutil.rmtree(content)
