"""Checks a file of torch.save before it is loaded: nothing in it may expand, and it holds tensors.

The zip format has a pickle and the bytes of each tensor, all stored without compression. The format
before it is five pickles and then the bytes of all tensors.
"""

import pickletools
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import IO
from zipfile import ZIP_STORED, BadZipFile, ZipFile

ZIP_MAGIC = b"PK\x03\x04"  # by which torch.load recognizes the zip format
OLD_PICKLES = 5  # before the bytes of the tensors
MAX_PICKLE_BYTES = 2**22  # a ViT-H has 0.1 MB
HOW_TO_SAVE = 'save the tensors alone: torch.save(model.state_dict(), "model.pth")'
TORCHSCRIPT = re.compile(r".*/(constants\.pkl|code/.*)")  # members of an archive of torch.jit.save
NAMES = re.compile(  # what the pickle of a state dict imports; all else may build other objects
    r"collections OrderedDict|torch \w+|torch\.storage \w*Storage|torch\.nn\.parameter Parameter"
    r"|torch\._utils _rebuild_(tensor(_v[23])?|parameter)"
)


def is_zip(path: Path) -> bool:
    """Whether torch.load will read the file as a zip archive."""
    with path.open("rb") as file:
        return file.read(len(ZIP_MAGIC)) == ZIP_MAGIC


def check_pickle(path: Path) -> None:
    """Check that a file of torch.save is uncompressed and contains nothing but tensors.

    Raises:
        UnpicklingError: it is compressed, too large, or contains something else.
    """
    if is_zip(path):
        check_names(zipped_pickle(path), 1)
        return
    with path.open("rb") as file:
        check_names(file, OLD_PICKLES)


def zipped_pickle(path: Path) -> IO[bytes]:
    """Return the pickle of a zip archive, after a check of all members."""
    try:
        with ZipFile(path) as archive:
            members = archive.infolist()
            if any(TORCHSCRIPT.fullmatch(member.filename) for member in members):
                raise UnpicklingError(
                    "it is TorchScript, a program, which is never run; save its tensors alone: "
                    'torch.save(torch.jit.load("model.pt").state_dict(), "model.pth")'
                )
            if any(member.compress_type != ZIP_STORED for member in members):
                raise UnpicklingError("it is compressed, which torch.save never does")
            pickles = [each for each in members if each.filename.endswith(".pkl")]
            if sum(each.file_size for each in pickles) > MAX_PICKLE_BYTES:
                raise UnpicklingError(f"its pickle has more than {MAX_PICKLE_BYTES} bytes")
            names = [each for each in pickles if each.filename.endswith("/data.pkl")]
            if len(names) != 1:
                raise UnpicklingError("it does not have exactly one data.pkl")
            return BytesIO(archive.read(names[0]))
    except (BadZipFile, NotImplementedError) as error:
        raise UnpicklingError(str(error)) from error


def check_names(file: IO[bytes], count: int) -> None:
    """Check the first pickles of a file: their length, and what they import."""
    try:
        for name in (name for _ in range(count) for name in names_of(file)):
            if not NAMES.fullmatch(name):
                raise UnpicklingError(objects(name.replace(" ", ".")))
    except ValueError as error:
        raise UnpicklingError(f"it is not a pickle: {error}") from error


def objects(what: str) -> str:
    """Say why a pickle with other objects than tensors is never read, and what to do."""
    return f"it contains {what}, not only tensors, and to read objects can run code; {HOW_TO_SAVE}"


def names_of(file: IO[bytes]) -> Iterator[str]:
    """Yield what a pickle imports, as "module name"; the file is then at the next pickle.

    Raises:
        ValueError: this is not a pickle.
        UnpicklingError: the file position exceeds MAX_PICKLE_BYTES, or an import is computed.
    """
    for opcode, argument, position in pickletools.genops(file):
        if position is not None and position > MAX_PICKLE_BYTES:
            raise UnpicklingError(f"its pickle has more than {MAX_PICKLE_BYTES} bytes")
        if opcode.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
            raise UnpicklingError(objects("objects"))
        if opcode.name == "GLOBAL":
            yield str(argument)
