"""The plan of a run: the user's options, and the defaults of the others."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from models import checkpoint
from models.registry import Task
from models.training.data.examples import Data
from models.training.data.sources import is_scenes, natural_task
from models.training.fitting.initialize import Start, from_checkpoint, from_scratch, load_body
from models.training.fitting.networks import NAMES, task_of
from models.training.fitting.recipe import RECIPES, Recipe

ARTICLE_MODEL = "vit-segmenter"


@dataclass(frozen=True)
class Plan:
    """The options of a run; an option that is not given is None.

    `source` is the checkpoint to start from, `teacher` the checkpoint that teaches a distillation
    head.

    Raises:
        ValueError: options that exclude each other, or a missing option.
    """

    data: str
    model: str | None = None
    source: str | None = None
    task: Task | None = None
    preset: str | None = None
    teacher: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    image_size: int | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        if self.preset is not None and self.preset not in RECIPES:
            raise ValueError(
                f"no preset is called {self.preset!r}; the presets are {', '.join(RECIPES)}"
            )
        if self.model is not None and self.source is not None:
            raise ValueError("--from and --model exclude each other: a checkpoint has its network")
        if self.name is None and self.source is None:
            raise ValueError(
                "--from CHECKPOINT is required, e.g. --from google/vit-base-patch16-224, "
                f"or --model NAME to start with random weights: {NAMES}"
            )
        if self.source is not None and self.options:
            raise ValueError("--from and --option exclude each other: a checkpoint has its options")

    @property
    def name(self) -> str | None:
        """The network's name: the given name, or the article's network with its preset."""
        if self.model is None and self.source is None and self.preset == "article":
            return ARTICLE_MODEL
        return self.model

    @property
    def recipe(self) -> Recipe:
        """The given or the default preset, with the given epochs, batch size and learning rate."""
        default = "scratch" if self.source is None else "fine-tune"
        given = {
            name: value
            for name in ("epochs", "batch_size", "learning_rate")
            if (value := getattr(self, name)) is not None
        }
        return replace(RECIPES[self.preset or default], **given)

    def task_for(self, loaded: checkpoint.Checkpoint | None) -> Task:
        """Return the given task; if there is none, the task of the data, else of the network."""
        if task := self.task or natural_task(self.data):
            return task
        return loaded.task if loaded else task_of(str(self.name))

    def load(self) -> checkpoint.Checkpoint | None:
        """Return the checkpoint to start from; `bundled` is the bundled one of the task."""
        if self.source == "bundled":
            task = self.task or natural_task(self.data)
            if task is None:
                raise ValueError("there are two bundled checkpoints: --task is required")
            return checkpoint.load(checkpoint.bundled(task))
        return None if self.source is None else load_body(self.source)

    def start(self, data: Data, loaded: checkpoint.Checkpoint | None) -> Start:
        """Return the network to train on the data."""
        if loaded is not None:
            return from_checkpoint(loaded, data.task, data.labels, image_size=self.image_size)
        return from_scratch(
            str(self.name),
            data.task,
            data.labels,
            image_size=self.image_size,
            options=self.options,
            as_is=self.recipe.as_is,
        )

    def absolute(self) -> "Plan":
        """Return the plan with absolute paths of folders."""
        data = self.data if is_scenes(self.data) else str(Path(self.data).absolute())
        source, teacher = (
            str(Path(name).absolute()) if name and Path(name).is_dir() else name
            for name in (self.source, self.teacher)
        )
        return replace(self, data=data, source=source, teacher=teacher)

    def command(self, out: str) -> str:
        """Return the command line of the plan that writes to the folder `out`."""
        words = ["patchserve", "train"]
        for field_name, value in self.document().items():
            flag = "from" if field_name == "source" else field_name.replace("_", "-")
            if field_name == "options":
                words += [w for pair in value.items() for w in ("--option", "=".join(pair))]
            elif value is not None and (flag, value) != ("seed", 1):
                words += [f"--{flag}", str(value)]
        return shlex.join([*words, "--out", out])

    def document(self) -> dict[str, Any]:
        """Return the plan as plain values, the arguments of Plan."""
        return asdict(self)

    def difference(self, options: Mapping[str, Any]) -> str | None:
        """Return a text about the first option that differs from this plan; None if all agree."""
        for each in fields(self):
            value, here = options.get(each.name), getattr(self, each.name)
            if (
                each.name in ("data", "source", "teacher")
                and value is not None
                and Path(value).is_dir()
            ):
                value = str(Path(value).absolute())
            if value is not None and value != here:
                return f"it started with {each.name} {here}, not {value}"
        return None
