"""The layout of the Oxford-IIIT Pet data set (Parkhi et al., "Cats and Dogs", CVPR 2012).

Images are in images/, lists and trimaps in annotations/.
"""

from pathlib import Path

import numpy as np

from models.registry import Task
from models.training.data.examples import LabelMap
from models.training.data.files import LabeledFiles, MaskedFiles, read_label_map
from models.training.data.folders import Found

LABELS = ("pet", "background", "border")  # the trimaps' values 1, 2, 3
TRAIN, HELD_OUT = "trainval.txt", "test.txt"


def is_pets(root: Path) -> bool:
    """Return whether the folder has this layout."""
    return (root / "annotations" / "trimaps").is_dir() and (root / "images").is_dir()


def pets(root: Path, task: Task) -> Found:
    """Return the trimaps as label maps to segment, or the breeds as labels to classify.

    trainval.txt and test.txt define the split, if both exist; otherwise every image with a trimap
    is an example. The breed is the file's name up to its number.

    Raises:
        ValueError: a listed image does not exist.
    """
    annotations = root / "annotations"
    split = (annotations / TRAIN).is_file() and (annotations / HELD_OUT).is_file()
    if split:
        names = [listed(annotations / TRAIN), listed(annotations / HELD_OUT)]
    else:
        trimaps = (annotations / "trimaps").glob("*.png")
        names = [sorted(path.stem for path in trimaps if not path.name.startswith("."))]
    breeds = tuple(sorted({breed(name) for part in names for name in part}))
    datasets = [
        MaskedFiles(root, trimapped(root, part), read_trimap, len(LABELS))
        if task == "segment"
        else LabeledFiles(
            root, tuple((image_path(root, name), breeds.index(breed(name))) for name in part)
        )
        for part in names
    ]
    labels = LABELS if task == "segment" else breeds
    return Found(labels, datasets[0], datasets[1] if split else None)


def listed(path: Path) -> list[str]:
    """Return the names in a list: the first word of each line, without comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]


def breed(name: str) -> str:
    """Return the name up to its number: yorkshire_terrier for yorkshire_terrier_12."""
    return name.rpartition("_")[0] or name


def trimapped(root: Path, names: list[str]) -> tuple[tuple[Path, Path], ...]:
    """Return the paths of the images and of their trimaps."""
    trimaps = root / "annotations" / "trimaps"
    return tuple((image_path(root, name), trimaps / f"{name}.png") for name in names)


def image_path(root: Path, name: str) -> Path:
    """Return the path of the image of that name, with any of the suffixes."""
    for suffix in (".jpg", ".jpeg", ".png"):
        if (path := root / "images" / f"{name}{suffix}").is_file():
            return path
    raise ValueError(f"{root / 'images'} has no image {name}.jpg")


def read_trimap(path: Path) -> LabelMap:
    """Return labels 0, 1, 2 for the values 1, 2, 3; ValueError for any other value."""
    trimap = read_label_map(path)
    if not np.isin(trimap, (1, 2, 3)).all():
        raise ValueError(f"{path} is not a trimap: its values are not 1, 2 and 3")
    return trimap - 1
