"""Finds the image files that the arguments of a command name: files, folders and globs."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import NamedTuple

from app.core.types import IMAGE_SUFFIXES


class ImageFile(NamedTuple):
    """An image file, and its path below the folder or the glob that it was found by.

    Of a file that was named itself, the second is only its name.
    """

    path: Path
    relative: Path


def find_images(arguments: Sequence[str], out: Path | None = None) -> list[ImageFile]:
    """Find the images that arguments name, each once, in the order of the arguments.

    A folder stands for the files in it and its subfolders, and a glob for the files and folders
    that match it; `**` matches any number of folders. Of both, only files with the suffix of an
    image count, sorted by path; hidden files and folders do not, nor what is below an `out` inside
    the folder. A file that is named itself counts whatever its name, even if it does not exist.

    Args:
        arguments: paths and globs.
        out: the folder of the results.

    Raises:
        ValueError: a folder or a glob has no image.
        OSError: a folder cannot be read.
    """
    found: dict[Path, ImageFile] = {}
    for argument in arguments:
        images = list(_images_of(argument, out))
        if not images:
            what = "no image in this folder" if Path(argument).is_dir() else "no image matches"
            raise ValueError(f"{argument}: {what} (files with the suffix of an image are taken)")
        for image in images:
            found.setdefault(image.path, image)
    return list(found.values())


def _images_of(argument: str, out: Path | None) -> Iterator[ImageFile]:
    path = Path(argument)
    if path.is_dir():
        base, found = path, _below(path)
    elif has_magic(argument) and not path.exists():  # a file may have brackets in its name
        base, found = _fixed_part(path), sorted(set(_matches(argument)))
    else:
        yield ImageFile(path, Path(path.name))
        return
    results = _absolute(out) if out is not None and _is_below(out, _absolute(base)) else None
    for file in found:
        if results is None or not _is_below(file, results):
            yield ImageFile(file, file.relative_to(base))


def _matches(pattern: str) -> Iterator[Path]:
    for match in map(Path, glob(pattern, recursive=True)):
        if match.is_dir():
            yield from _below(match)
        elif is_image(match.name) and match.is_file():
            yield match


def _fixed_part(pattern: Path) -> Path:
    """The folders of a glob before the first one with a wildcard."""
    first = next(number for number, part in enumerate(pattern.parts) if has_magic(part))
    return Path(*pattern.parts[:first])


def _below(folder: Path) -> list[Path]:
    """The visible images in a folder and its subfolders, sorted by path."""
    found = []
    for at, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(at, name) for name in names if is_image(name)]
    return sorted(file for file in found if file.is_file())


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # unlike Path.absolute, without `..`


def _is_below(path: Path, folder: Path) -> bool:
    return folder in _absolute(path).parents


def _raise(error: OSError) -> None:
    raise error


def is_image(name: str) -> bool:
    """Whether a name is visible and has the suffix of an image."""
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES


def targets(images: Iterable[ImageFile], out: Path, suffix: str) -> Mapping[Path, Path]:
    """The path of the result of each image: below `out` as the image is below its folder.

    The suffix of the image is replaced, but kept if two images differ in nothing else:
    a/1.jpg and a/1.png become a/1.jpg.mask.png and a/1.png.mask.png.

    Args:
        images: the images.
        out: folder of the results.
        suffix: of the results, for example .mask.png.

    Raises:
        ValueError: two images would have the same result file.
    """
    images = list(images)
    short = Counter(image.relative.with_suffix("") for image in images)
    named: dict[Path, Path] = {}
    for image in images:
        stem = image.relative.with_suffix("")
        name = image.relative.name if short[stem] > 1 else stem.name
        target = out / image.relative.with_name(f"{name}{suffix}")
        if (other := named.setdefault(target, image.path)) != image.path:
            raise ValueError(
                f"{other} and {image.path} have the same name, and so would their results: "
                "name the folder above them instead of the files"
            )
    return {path: target for target, path in named.items()}
