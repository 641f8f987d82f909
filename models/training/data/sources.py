"""From what `--data` says to examples: which layout it is, what is unusable, what is held out.

Does not know how examples are read, nor what they are for.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from models.registry import Task
from models.training.data import folders, oxford_pets
from models.training.data.examples import Data, Dataset
from models.training.data.files import LabelledFiles
from models.training.data.scenes import DrawnScenes
from models.training.scenes.scene import LABELS, UNSEEN_SEED
from models.training.scenes.shapes import KINDS

SCENES = "scenes"
DRAWN, DRAWN_HELD_OUT = 2_000, 200  # scenes, unless `scenes:1000` says another number
HELD_OUT_PART = 0.15
WORKERS = 4  # threads that check files; the decoders run at the same time

Watch = Callable[[int, int], None]  # hears how many files are checked, and of how many


def natural_task(source: str) -> Task | None:
    """What the data can only be for, or is most often; None for scenes, which serve both."""
    if is_scenes(source):
        return None
    root = Path(source)
    return "segment" if oxford_pets.is_pets(root) or folders.has_masks(root) else "classify"


def open_data(
    source: str, task: Task, *, seed: int, watch: Watch = lambda done, total: None
) -> Data:
    """Open a folder of labelled pictures, of masks, of the Pets' layout, or draw scenes.

    Each file is looked at once; those that cannot be used are told in `left_out`. Where the folder
    does not say what to hold out, a part of each label is, drawn by the seed. OSError for a folder
    that is not there; ValueError for one that is not of the task, or has not two examples.
    """
    if is_scenes(source):
        return scenes(source, task, seed)
    root = Path(source)
    if not root.is_dir():
        raise FileNotFoundError(2, "No such folder", source)
    found = found_in(root, task)
    train, left_out = usable(found.train, watch)
    held_out = found.held_out
    if held_out is None:
        train, held_out = split(train, seed)
        how = f"{HELD_OUT_PART:.0%} of them, drawn by seed {seed}, held out"
    else:
        held_out, more = usable(held_out, watch)
        left_out, how = left_out + more, "held out as the folder says"
    for part, name in ((train, "learn from"), (held_out, "hold out")):
        if not len(part):
            reasons = "; ".join(left_out[:1])
            raise ValueError(f"{source} has no pictures to {name}{': ' * bool(reasons)}{reasons}")
    if bare := without_examples(train, found.labels):
        raise ValueError(f"{source} has no pictures to learn {', '.join(bare)} from")
    about = f"The folder `{root.name}`: {len(train):,} pictures to learn from and "
    about += f"{len(held_out):,} to measure on ({how})."
    return Data(task, found.labels, train, held_out, about, left_out)


def is_scenes(source: str) -> bool:
    """Whether the source is `scenes` or `scenes:COUNT`, and not a folder of that name."""
    return source.partition(":")[0] == SCENES and not Path(source).is_dir()


def scenes(source: str, task: Task, seed: int) -> Data:
    """The generated scenes of the seed, and the first unseen ones to measure on."""
    _, _, count = source.partition(":")
    if count and not (count.isdecimal() and int(count)):
        raise ValueError(f"{source!r}: after scenes: comes how many, e.g. scenes:{DRAWN}")
    if seed == UNSEEN_SEED:
        raise ValueError(f"seed {UNSEEN_SEED} is kept for measuring the quality")
    train = DrawnScenes(task, seed, range(int(count or DRAWN)))
    held_out = DrawnScenes(task, UNSEEN_SEED, range(DRAWN_HELD_OUT))
    about = f"{len(train):,} generated scenes of seed {seed} to learn from, and "
    about += f"{len(held_out):,} of seed {UNSEEN_SEED} to measure on (`patchserve scenes`)."
    return Data(task, KINDS if task == "classify" else LABELS, train, held_out, about)


def found_in(root: Path, task: Task) -> folders.Found:
    """What the folder holds for the task; ValueError for pictures without masks to segment."""
    if oxford_pets.is_pets(root):
        return oxford_pets.pets(root, task)
    if folders.has_masks(root):
        if task != "segment":
            raise ValueError(f"{root} has images/ and masks/: it is for the task segment")
        return folders.masked(root)
    if task != "classify":
        raise ValueError(f"{root} has no images/ and masks/ to learn the task segment from")
    return folders.labelled(root)


def usable(dataset: Dataset, watch: Watch) -> tuple[Dataset, tuple[str, ...]]:
    """The examples that can be read, and a line for each other one."""
    problems: dict[int, str] = {}

    def look(index: int) -> None:
        try:
            dataset.check(index)
        except ValueError as error:
            problems[index] = str(error)

    count = len(dataset)
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for done, _ in enumerate(pool.map(look, range(count)), start=1):
                watch(done, count)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if not problems:
        return dataset, ()
    good = [index for index in range(count) if index not in problems]
    return dataset.take(good), tuple(problems[index] for index in sorted(problems))


def split(dataset: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """A part to learn from and one to hold out: of each label, where there is one, its share.

    Of a single example of a label none is held out.
    """
    held: list[int] = []
    rng = np.random.default_rng(seed)
    for group in groups(dataset):
        count = min(max(1, round(HELD_OUT_PART * len(group))), len(group) - 1)
        held += rng.permutation(group)[: max(count, 0)].tolist()
    kept = set(range(len(dataset))).difference(held)
    return dataset.take(sorted(kept)), dataset.take(sorted(held))


def without_examples(dataset: Dataset, labels: tuple[str, ...]) -> list[str]:
    """The labels that no picture shows; not known of masks."""
    if not isinstance(dataset, LabelledFiles):
        return []
    shown = {label for _, label in dataset.files}
    return [label for index, label in enumerate(labels) if index not in shown]


def groups(dataset: Dataset) -> list[Sequence[int]]:
    """The examples by label; all in one where each has many labels."""
    if not isinstance(dataset, LabelledFiles):
        return [range(len(dataset))]
    by_label: dict[int, list[int]] = {}
    for index, (_, label) in enumerate(dataset.files):
        by_label.setdefault(label, []).append(index)
    return [by_label[label] for label in sorted(by_label)]
