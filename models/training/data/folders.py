"""Folder layouts: one folder per label, or images and masks of the same name."""

import json
from pathlib import Path
from typing import NamedTuple

from models.training.data.examples import MOST_LABELS, Dataset
from models.training.data.files import LabeledFiles, MaskedFiles, read_label_map

HELD_OUT = ("val", "valid", "validation", "test")  # the first of these that exists is used


class Found(NamedTuple):
    """The examples of a folder; `held_out` is None if the folder does not define the split."""

    labels: tuple[str, ...]
    train: Dataset
    held_out: Dataset | None


def labeled(root: Path) -> Found:
    """Return the examples of a folder with a subfolder per label, optionally in train/ and val/.

    The labels are the sorted names of the subfolders. Every file at any depth of a subfolder is an
    example, except hidden files.

    Raises:
        ValueError: fewer than two labels, or a label of val/ that train/ does not have.
    """
    train, held_out = parts(root)
    labels = tuple(path.name for path in subfolders(train))
    if len(labels) < 2:
        raise ValueError(
            f"{train} has {len(labels)} subfolders; at least 2 are required, one per label"
        )
    if held_out is not None:
        unknown = [path.name for path in subfolders(held_out) if path.name not in labels]
        if unknown:
            raise ValueError(
                f"{held_out} has labels that {train} does not have: {', '.join(unknown)}"
            )
    return Found(
        labels,
        by_label(root, train, labels),
        None if held_out is None else by_label(root, held_out, labels),
    )


def by_label(root: Path, folder: Path, labels: tuple[str, ...]) -> LabeledFiles:
    """Return all files in the folders of the labels, sorted within each label."""
    return LabeledFiles(
        root,
        tuple(
            (path, index) for index, label in enumerate(labels) for path in visible(folder / label)
        ),
    )


def has_masks(root: Path) -> bool:
    """Return whether the folder has images/ and masks/, optionally in train/."""
    train, _ = parts(root)
    return (train / "images").is_dir() and (train / "masks").is_dir()


def masked(root: Path) -> Found:
    """Return the examples of a folder with images/ and masks/, optionally in train/ and val/.

    A mask is an image with the same size and, except for the suffix, the same path below masks/ as
    its image below images/. Its values are indices into the list of labels, or 255 for pixels
    without a label.

    Raises:
        ValueError: an image without a mask, or as in `label_list`.
    """
    labels = label_list(root)
    train, held_out = parts(root)
    return Found(
        labels,
        with_masks(root, train, len(labels)),
        None if held_out is None else with_masks(root, held_out, len(labels)),
    )


def with_masks(root: Path, folder: Path, num_labels: int) -> MaskedFiles:
    """Return the images of images/, each with the mask of the same path, except for the suffix."""
    images, masks = folder / "images", folder / "masks"
    found = {path.relative_to(masks).with_suffix(""): path for path in visible(masks)}
    wanted = [(path, path.relative_to(images).with_suffix("")) for path in visible(images)]
    if missing := [path for path, key in wanted if key not in found]:
        name = missing[0].relative_to(images).as_posix()
        more = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise ValueError(f"{masks} has no mask for {name}{more}")
    files = tuple((path, found[key]) for path, key in wanted)
    return MaskedFiles(root, files, read_label_map, num_labels)


def label_list(root: Path) -> tuple[str, ...]:
    """Return the labels by index: the lines of labels.txt, or the list in labels.json.

    Raises:
        ValueError: neither file exists, or there are not 2 to 255 different names.
    """
    if (path := root / "labels.txt").is_file():
        names = path.read_text(encoding="utf-8").split("\n")
        names = [name.strip() for name in names if name.strip()]
    elif (path := root / "labels.json").is_file():
        names = json.loads(path.read_text(encoding="utf-8"))
    else:
        raise ValueError(f"{root} has neither labels.txt nor labels.json to name the masks' values")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path} is not a list of names")
    if not 2 <= len(set(names)) == len(names) <= MOST_LABELS:
        raise ValueError(
            f"{path} has {len(names)} names; it needs 2 to {MOST_LABELS} different ones"
        )
    return tuple(names)


def parts(root: Path) -> tuple[Path, Path | None]:
    """Return the folder to train on, and the held-out folder if there is one."""
    if not (root / "train").is_dir():
        return root, None
    held_out = (root / name for name in HELD_OUT if (root / name).is_dir())
    return root / "train", next(held_out, None)


def subfolders(folder: Path) -> list[Path]:
    """Return the subfolders that are not hidden, sorted by name."""
    found = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted(found)


def visible(folder: Path) -> list[Path]:
    """Return the files at any depth that are not hidden, sorted; none if the folder is missing."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
