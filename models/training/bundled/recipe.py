"""The two bundled checkpoints: their networks, their recipes, and one training run."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch

from models.checkpoint import Checkpoint, save
from models.checkpoint.checkpoint import BUNDLED
from models.checkpoint.preprocessor_config import SEGFORMER, VIT
from models.preprocessing import HALF, Preprocessing
from models.registry import Network, Task
from models.segformer import Segformer, SegformerConfig
from models.training.atomic_folder import published
from models.training.data.augmentation import Augmentation
from models.training.data.curriculum import Curriculum, CurriculumFeed, draw_pool
from models.training.data.examples import Data
from models.training.data.scenes import DrawnScenes
from models.training.fitting.fit import RUN_FILES
from models.training.fitting.initialize import Start
from models.training.fitting.model_card import Fitted, model_card
from models.training.fitting.progress import Watcher
from models.training.fitting.recipe import Recipe
from models.training.fitting.trainer import Run
from models.training.scenes.scene import LABELS, SIZE, UNSEEN_SEED
from models.training.scenes.shapes import KINDS
from models.vit import ViT, ViTConfig

MEASURED = 2_000  # unseen scenes, for the quality in the model card
CLASSIFIER = ViTConfig(
    image_size=(48, 48),
    patch_size=6,
    hidden_size=128,
    num_layers=4,
    num_heads=4,
    mlp_size=512,
    num_labels=len(KINDS),
)
SEGMENTER = SegformerConfig(
    depths=(1, 2, 4, 2),
    hidden_sizes=(16, 32, 64, 96),
    num_heads=(1, 1, 2, 3),
    sr_ratios=(4, 2, 1, 1),  # the keys of each stage are a grid of at most 8 x 8
    decoder_hidden_size=64,
    num_labels=len(LABELS),
    classifier_dropout=0.0,
    drop_path=0.0,
)
RECIPES: Mapping[Task, Recipe] = MappingProxyType(
    {
        "classify": Recipe(
            epochs=1,
            batch_size=32,
            learning_rate=1e-3,
            beta2=0.98,
            warm_up=0.03,
            averaging=1 / 15,
            augmentation=Augmentation(),
            curriculum=Curriculum(scenes=20_000, steps=7_500, single_steps=0.05),
            patch_labels=len(LABELS),
            small_init=True,
        ),
        "segment": Recipe(
            epochs=1,
            batch_size=8,
            learning_rate=1.5e-3,
            beta2=0.98,
            warm_up=0.03,
            averaging=1 / 20,
            augmentation=Augmentation(),
            curriculum=Curriculum(scenes=16_000, steps=10_000, single_steps=0.04, singles=0.25),
            cell=2,
            small_init=True,
        ),
    }
)
PREPROCESSING: Mapping[Task, Preprocessing] = MappingProxyType(
    {
        "classify": Preprocessing(VIT, size=CLASSIFIER.image_size),
        "segment": Preprocessing(SEGFORMER, size=(SIZE, SIZE), mean=HALF, std=HALF),
    }
)
PURPOSE: Mapping[Task, str] = MappingProxyType(
    {
        "classify": "to name the shape with the most visible pixels",
        "segment": "to name the shape at each pixel",
    }
)
ABOUT = """\
{count:,} generated scenes of {size} x {size} pixels, seed {seed} (`patchserve scenes` draws
more): one to four shapes ({kinds}) on a background.
Size, rotation, squeeze, color, pattern, light, blur and noise vary, independently of the kind; a
shape's area does not depend on its kind either. In half of the scenes one shape hides a part of
another. No other data is used. The held-out images are scenes of seed {unseen}."""


def train(
    task: Task,
    out: Path,
    *,
    seed: int = 1,
    recipe: Recipe | None = None,
    measured: int = MEASURED,
    overwrite: bool = False,
    watcher: Watcher | None = None,
) -> Path:
    """Train one bundled network and write it to out/shapes-vit or out/shapes-segformer.

    The files appear when the run is complete, and replace those of an earlier run; an interrupted
    run leaves nothing and changes nothing.

    Returns:
        The folder.

    Raises:
        FileExistsError: the folder exists, and not `overwrite`.
        ValueError: the seed is reserved for the unseen scenes.
    """
    target = target_folder(task, out, seed, overwrite=overwrite)
    watcher = watcher or Watcher()
    run = prepared(task, seed, recipe or RECIPES[task], measured, watcher)
    with tempfile.TemporaryDirectory() as scratch:  # for the run's state, which is not needed here
        quality = run.go(Path(scratch), lambda: False, watcher)
    network, preprocessing = run.loop.result(), run.start.preprocessing
    checkpoint = Checkpoint(network, run.data.labels, preprocessing, task, name=BUNDLED[task])
    fitted = Fitted(
        checkpoint=checkpoint,
        data=run.data,
        recipe=run.recipe,
        about=run.start.about,
        source=BUNDLED[task],
        command=f"patchserve train --seed {seed}",
        seed=seed,
        minutes=run.at.spent / 60,
        quality=quality,
        license="apache-2.0",
    )
    with published(target, outdated=RUN_FILES) as folder:
        save(checkpoint, folder)
        (folder / "README.md").write_text(model_card(fitted), encoding="utf-8")
    return target


def target_folder(task: Task, out: Path, seed: int, *, overwrite: bool) -> Path:
    """Return the folder of a run, after checks that would otherwise fail at its end.

    Raises:
        FileExistsError: the folder exists, and not `overwrite`.
        ValueError: the seed is reserved for the unseen scenes.
    """
    if seed == UNSEEN_SEED:
        raise ValueError(f"seed {UNSEEN_SEED} is kept for measuring the quality")
    target = out / BUNDLED[task]
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists already")
    return target


def prepared(task: Task, seed: int, recipe: Recipe, measured: int, watcher: Watcher) -> Run:
    """Return the run before its first step; the same seed gives the same run."""
    curriculum = recipe.curriculum
    if curriculum is None:
        raise ValueError("the bundled checkpoints are trained with a curriculum")
    torch.manual_seed(seed)
    network: Network = ViT(CLASSIFIER) if task == "classify" else Segformer(SEGMENTER)
    preprocessing = PREPROCESSING[task]
    side, _ = preprocessing.input_size or (0, 0)
    pool = draw_pool(seed, curriculum.scenes, side, watcher.checking)
    data = Data(
        task,
        KINDS if task == "classify" else LABELS,
        train=DrawnScenes(task, seed, range(curriculum.scenes)),
        held_out=DrawnScenes(task, UNSEEN_SEED, range(measured)),
        about=about_data(curriculum.scenes, seed),
    )
    return Run(
        recipe,
        data,
        Start(network, preprocessing, None, f"from random weights, {PURPOSE[task]}"),
        CurriculumFeed(pool, curriculum, task, recipe.batch_size, seed),
        device=torch.device("cpu"),
    )


def about_data(scenes: int, seed: int) -> str:
    """Describe the scenes of a run for the model card."""
    kinds = ", ".join(KINDS)
    return ABOUT.format(count=scenes, size=SIZE, seed=seed, kinds=kinds, unseen=UNSEEN_SEED)
