"""A training run: from a task and a seed to a checkpoint's folder, written whole or not at all.

Does not know who watches it.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch

from models.checkpoint import Checkpoint, save
from models.checkpoint.checkpoint import BUNDLED
from models.registry import Task
from models.training.atomic_folder import published
from models.training.bundled.batches import draw_pool
from models.training.bundled.curriculum import Curriculum, teach
from models.training.bundled.metrics import measure
from models.training.bundled.model_card import Training, card
from models.training.bundled.objectives import learner_for
from models.training.scenes.scene import UNSEEN_SEED, draw_scene

MEASURED = 2_000  # scenes, for the model card
CURRICULA: Mapping[Task, Curriculum] = MappingProxyType(
    {
        "classify": Curriculum(20_000, 7_500, 32, 1e-3, alone=0.05),
        "segment": Curriculum(16_000, 10_000, 8, 1.5e-3, alone=0.04, singles=0.25),
    }
)


class Progress(NamedTuple):
    """How far a run is."""

    task: Task
    doing: Literal["drawing", "training", "measuring"]
    done: int
    total: int
    loss: float | None = None


Watch = Callable[[Progress], None]


def train(
    task: Task,
    out: Path,
    *,
    seed: int = 1,
    curriculum: Curriculum | None = None,
    measured: int = MEASURED,
    overwrite: bool = False,
    watch: Watch = lambda progress: None,
) -> Path:
    """Train one network and write it to the folder out/shapes-vit or out/shapes-segformer.

    The folder appears when all is done; an interrupted run leaves nothing behind, nor does it
    touch what was there. Returns the folder; FileExistsError when it is there and not `overwrite`,
    ValueError for the seed of the unseen scenes.
    """
    target = vacant(task, out, seed, overwrite=overwrite)
    curriculum = curriculum or CURRICULA[task]
    began = time.process_time()
    checkpoint = trained(task, seed, curriculum, watch)
    minutes = (time.process_time() - began) / 60
    watch(Progress(task, "measuring", 0, measured))
    unseen = [draw_scene(UNSEEN_SEED, index) for index in range(measured)]
    quality = measure(checkpoint, unseen)
    watch(Progress(task, "measuring", measured, measured))
    text = card(Training(task, checkpoint, curriculum, seed, minutes, quality, measured))
    with published(target) as folder:
        save(checkpoint, folder)
        (folder / "README.md").write_text(text, encoding="utf-8")
    return target


def vacant(task: Task, out: Path, seed: int, *, overwrite: bool) -> Path:
    """The folder to write to, after a look at what would make the run pointless at its end.

    FileExistsError when it would replace something unasked, ValueError for the unseen scenes' seed.
    """
    if seed == UNSEEN_SEED:
        raise ValueError(f"seed {UNSEEN_SEED} is kept for measuring the quality")
    target = out / BUNDLED[task]
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} is there already")
    return target


def trained(task: Task, seed: int, curriculum: Curriculum, watch: Watch) -> Checkpoint:
    """The trained network with its labels and preprocessing; the same for the same seed."""
    torch.manual_seed(seed)
    learner = learner_for(task)

    def drawn(done: int) -> None:
        watch(Progress(task, "drawing", done, curriculum.scenes))

    def stepped(done: int, loss: float) -> None:
        watch(Progress(task, "training", done, curriculum.steps, loss))

    side, _ = learner.preprocessing.input_size or (0, 0)
    pool = draw_pool(seed, curriculum.scenes, side, drawn)
    network = teach(learner, pool, curriculum, torch.Generator().manual_seed(seed), stepped)
    return Checkpoint(network, learner.labels, learner.preprocessing, task, name=BUNDLED[task])
