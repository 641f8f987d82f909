"""Folders of pictures: a folder for each label, or pictures and masks of the same name.

Does not know how a picture is read, nor what is held out.
"""

import json
from pathlib import Path
from typing import NamedTuple

from models.training.data.examples import IGNORED, MOST_LABELS, Dataset
from models.training.data.files import LabelledFiles, MaskedFiles, read_label_map

HELD_OUT = ("val", "valid", "validation", "test")  # in this order: the first that is there


class Found(NamedTuple):
    """The examples of a folder; `held_out` is None where the folder does not say which to hold."""

    labels: tuple[str, ...]
    train: Dataset
    held_out: Dataset | None


def labelled(root: Path) -> Found:
    """A folder with a subfolder for each label, maybe below train/ and val/.

    The labels are the subfolders' names, sorted; every file of a subfolder, at any depth, is an
    example, but for hidden ones. ValueError for less than two labels, or an unknown one in val/.
    """
    train, held_out = parts(root)
    labels = tuple(path.name for path in subfolders(train))
    if len(labels) < 2:
        raise ValueError(
            f"{train} has {len(labels)} subfolders: of a folder with one for each label at least 2"
        )
    if held_out is not None:
        strange = [path.name for path in subfolders(held_out) if path.name not in labels]
        if strange:
            raise ValueError(f"{held_out} has labels that {train} has not: {', '.join(strange)}")
    return Found(
        labels,
        by_label(root, train, labels),
        None if held_out is None else by_label(root, held_out, labels),
    )


def by_label(root: Path, folder: Path, labels: tuple[str, ...]) -> LabelledFiles:
    """Every file below the labels' folders, label by label, sorted."""
    return LabelledFiles(
        root,
        tuple(
            (path, index) for index, label in enumerate(labels) for path in visible(folder / label)
        ),
    )


def has_masks(root: Path) -> bool:
    """Whether it is a folder of images/ and masks/, maybe below train/."""
    train, _ = parts(root)
    return (train / "images").is_dir() and (train / "masks").is_dir()


def masked(root: Path) -> Found:
    """A folder of images/ and masks/, maybe below train/ and val/, and its list of labels.

    A mask is a picture of the same name (its suffix aside) and size, whose values are indices into
    the labels, or 255 for what is of none. ValueError for a picture without a mask, and as in
    `label_list`.
    """
    labels = label_list(root)
    train, held_out = parts(root)
    return Found(
        labels,
        with_masks(root, train, len(labels)),
        None if held_out is None else with_masks(root, held_out, len(labels)),
    )


def with_masks(root: Path, folder: Path, num_labels: int) -> MaskedFiles:
    """The pictures of images/, each with its namesake in masks/."""
    masks = {path.stem: path for path in visible(folder / "masks")}
    pictures = visible(folder / "images")
    if lonely := [path.name for path in pictures if path.stem not in masks]:
        more = f" and {len(lonely) - 1} others" if len(lonely) > 1 else ""
        raise ValueError(f"{folder / 'masks'} has no mask for {lonely[0]}{more}")
    files = tuple((path, masks[path.stem]) for path in pictures)
    return MaskedFiles(root, files, read_label_map, num_labels)


def label_list(root: Path) -> tuple[str, ...]:
    """The names in labels.txt, one a line, or labels.json, a list; by index.

    ValueError when there is neither, or when they are not 2 to 255 different names.
    """
    if (path := root / "labels.txt").is_file():
        names = path.read_text(encoding="utf-8").split("\n")
        names = [name.strip() for name in names if name.strip()]
    elif (path := root / "labels.json").is_file():
        names = json.loads(path.read_text(encoding="utf-8"))
    else:
        raise ValueError(f"{root} has neither labels.txt nor labels.json to name the masks' values")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path} is no list of names")
    if not 2 <= len(set(names)) == len(names) <= MOST_LABELS:
        raise ValueError(f"{path} has {len(names)} names: not 2 to {IGNORED} different ones")
    return tuple(names)


def parts(root: Path) -> tuple[Path, Path | None]:
    """The folder to train on and the one to hold out, if it is told apart."""
    if not (root / "train").is_dir():
        return root, None
    held_out = (root / name for name in HELD_OUT if (root / name).is_dir())
    return root / "train", next(held_out, None)


def subfolders(folder: Path) -> list[Path]:
    """Those that are not hidden, sorted by name."""
    found = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted(found)


def visible(folder: Path) -> list[Path]:
    """The files at any depth that are not hidden, sorted; none where there is no such folder."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
