"""From the value of `--data` to examples: the layout, unusable files, and the held-out set."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np

from models.registry import Task
from models.training.data import folders, oxford_pets
from models.training.data.examples import Data, Dataset
from models.training.data.files import LabeledFiles
from models.training.data.scenes import DrawnScenes
from models.training.scenes.scene import LABELS, UNSEEN_SEED
from models.training.scenes.shapes import KINDS

SCENES = "scenes"
DRAWN, DRAWN_HELD_OUT = 2_000, 200  # scenes; `scenes:1000` changes the first number
HELD_OUT_FRACTION = 0.15
WORKERS = 4  # threads that check files; the decoders release the GIL

Part = Literal["val", "train", "all"]
PARTS: Mapping[Part, str] = MappingProxyType(
    {"val": "held-out images", "train": "training images", "all": "all images"}
)
Watch = Callable[[int, int], None]  # receives the number of checked files and of all files


@dataclass(frozen=True)
class Examples:
    """Examples to measure, in one or two datasets."""

    labels: tuple[str, ...]
    datasets: tuple[Dataset, ...]
    about: str  # how they were chosen
    left_out: tuple[str, ...] = ()  # a line for each unusable file

    def __len__(self) -> int:
        return sum(map(len, self.datasets))


def natural_task(source: str) -> Task | None:
    """Return the only or most frequent task of the data; None for scenes, which fit both tasks."""
    if is_scenes(source):
        return None
    root = Path(source)
    return "segment" if oxford_pets.is_pets(root) or folders.has_masks(root) else "classify"


def open_data(
    source: str, task: Task, *, seed: int, watch: Watch = lambda done, total: None
) -> Data:
    """Open a folder of labeled images, of masks, of the Pets' layout, or the generated scenes.

    Each file is checked once; `left_out` lists the unusable files. If the folder does not define
    the split, a random fraction of each label is held out, by the seed.

    Raises:
        OSError: the folder does not exist.
        ValueError: the folder does not fit the task, or has fewer than two usable examples.
    """
    if is_scenes(source):
        return scenes(source, task, seed)
    found = found_in(existing(source), task)
    train, left_out = usable(found.train, watch)
    held_out = found.held_out
    if held_out is None:
        train, held_out = split(train, seed)
    else:
        held_out, more = usable(held_out, watch)
        left_out += more
    for part, purpose in ((train, "train on"), (held_out, "hold out")):
        if not len(part):
            raise ValueError(no_images(source, purpose, left_out))
    if missing := without_examples(train, found.labels):
        raise ValueError(f"{source} has no images of {', '.join(missing)} to train on")
    about = f"The folder `{Path(source).name}`: {len(train):,} training images and "
    about += f"{len(held_out):,} held-out images ({rule(found, seed)})."
    return Data(task, found.labels, train, held_out, about, left_out)


def open_split(
    source: str,
    task: Task,
    part: Part,
    *,
    seed: int,
    watch: Watch = lambda done, total: None,
) -> Examples:
    """Open one part of the data, or all of it, in order to measure; only its files are checked.

    The held-out and the training images are those of `open_data` with the same seed. All images
    may lack labels, and may be too few to be split.

    Raises:
        OSError: the folder does not exist.
        ValueError: the folder does not fit the task, or the part has no usable example.
    """
    if is_scenes(source):
        data = scenes(source, task, seed)
        return Examples(data.labels, chosen(part, data.train, data.held_out), PARTS[part])
    found = found_in(existing(source), task)
    if found.held_out is None:
        checked = [usable(found.train, watch)]
    else:
        checked = [usable(each, watch) for each in chosen(part, found.train, found.held_out)]
    datasets = tuple(dataset for dataset, _ in checked)
    left_out = tuple(line for _, lines in checked for line in lines)
    if found.held_out is None and part != "all":
        datasets = chosen(part, *split(datasets[0], seed))
    datasets = tuple(dataset for dataset in datasets if len(dataset))
    if not datasets:
        purpose = "measure" if part == "all" else "measure; --split all takes every image"
        raise ValueError(no_images(source, purpose, left_out))
    how = "" if part == "all" else f": {rule(found, seed)}"
    about = f"{PARTS[part]}{how}"
    return Examples(found.labels, datasets, about, left_out)


def data_labels(source: str, task: Task) -> tuple[str, ...]:
    """Return the labels of the data, without a look into its files; errors as in `open_split`."""
    if is_scenes(source):
        return KINDS if task == "classify" else LABELS
    return found_in(existing(source), task).labels


def chosen(part: Part, train: Dataset, held_out: Dataset) -> tuple[Dataset, ...]:
    """Return the datasets of the part."""
    return {"train": (train,), "val": (held_out,), "all": (train, held_out)}[part]


def existing(source: str) -> Path:
    """Return the folder; FileNotFoundError if it does not exist."""
    root = Path(source)
    if not root.is_dir():
        raise FileNotFoundError(2, "No such folder", source)
    return root


def rule(found: folders.Found, seed: int) -> str:
    """Say how the held-out examples are chosen."""
    if found.held_out is not None:
        return "the split of the folder"
    by_label = isinstance(found.train, LabeledFiles)  # as in split()
    share = "the images of each label, at least one" if by_label else "all images"
    return f"{HELD_OUT_FRACTION:.0%} of {share}, drawn with seed {seed}"


def no_images(source: str, purpose: str, left_out: tuple[str, ...]) -> str:
    """Say that the data has no usable images, with the first reason if there is one."""
    return f"{source} has no images to {purpose}" + "".join(f": {line}" for line in left_out[:1])


def is_scenes(source: str) -> bool:
    """Return whether the source is `scenes` or `scenes:COUNT`, and no folder of that name."""
    return source.partition(":")[0] == SCENES and not Path(source).is_dir()


def scenes(source: str, task: Task, seed: int) -> Data:
    """Return the generated scenes of the seed, and held-out scenes of the unseen seed."""
    _, _, count = source.partition(":")
    if count and not (count.isdecimal() and int(count)):
        raise ValueError(f"{source!r}: scenes: must be followed by a number, e.g. scenes:{DRAWN}")
    if seed == UNSEEN_SEED:
        raise ValueError(f"seed {UNSEEN_SEED} is kept for measuring the quality")
    train = DrawnScenes(task, seed, range(int(count or DRAWN)))
    held_out = DrawnScenes(task, UNSEEN_SEED, range(DRAWN_HELD_OUT))
    about = f"{len(train):,} generated scenes of seed {seed} for training, and "
    about += f"{len(held_out):,} held-out scenes of seed {UNSEEN_SEED} (`patchserve scenes`)."
    return Data(task, data_labels(source, task), train, held_out, about)


def found_in(root: Path, task: Task) -> folders.Found:
    """Return the folder's examples for the task; ValueError if the layout does not fit the task."""
    if oxford_pets.is_pets(root):
        return oxford_pets.pets(root, task)
    if folders.has_masks(root):
        if task != "segment":
            raise ValueError(f"{root} has images/ and masks/: its task is segment")
        return folders.masked(root)
    if task != "classify":
        raise ValueError(f"{root} has no images/ and masks/, which the task segment needs")
    return folders.labeled(root)


def usable(dataset: Dataset, watch: Watch) -> tuple[Dataset, tuple[str, ...]]:
    """Return the readable examples, and a line for each unreadable one."""
    problems: dict[int, str] = {}

    def check(index: int) -> None:
        try:
            dataset.check(index)
        except ValueError as error:
            problems[index] = str(error)

    count = len(dataset)
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for done, _ in enumerate(pool.map(check, range(count)), start=1):
                watch(done, count)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if not problems:
        return dataset, ()
    good = [index for index in range(count) if index not in problems]
    return dataset.take(good), tuple(problems[index] for index in sorted(problems))


def split(dataset: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """Return a training set and a held-out set, with the same fraction of each label.

    The only example of a label is not held out.
    """
    held: list[int] = []
    rng = np.random.default_rng(seed)
    for group in groups(dataset):
        count = min(max(1, round(HELD_OUT_FRACTION * len(group))), len(group) - 1)
        held += rng.permutation(group)[: max(count, 0)].tolist()
    kept = set(range(len(dataset))).difference(held)
    return dataset.take(sorted(kept)), dataset.take(sorted(held))


def without_examples(dataset: Dataset, labels: tuple[str, ...]) -> list[str]:
    """Return the labels without an image; none for masks, which are not read."""
    if not isinstance(dataset, LabeledFiles):
        return []
    present = {label for _, label in dataset.files}
    return [label for index, label in enumerate(labels) if index not in present]


def groups(dataset: Dataset) -> list[Sequence[int]]:
    """Return the indices of the examples by label; one group if examples have label maps."""
    if not isinstance(dataset, LabeledFiles):
        return [range(len(dataset))]
    by_label: dict[int, list[int]] = {}
    for index, (_, label) in enumerate(dataset.files):
        by_label.setdefault(label, []).append(index)
    return [by_label[label] for label in sorted(by_label)]
