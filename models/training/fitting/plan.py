"""The plan of a run: what a user asks for, and what follows where nothing is said.

Does not know how any of it is done.
"""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from models import checkpoint
from models.registry import Task
from models.training.data.examples import Data
from models.training.data.sources import is_scenes, natural_task
from models.training.fitting.initialize import Start, from_checkpoint, from_nothing, load_body
from models.training.fitting.networks import NAMES, task_of
from models.training.fitting.recipe import RECIPES, Recipe

ARTICLE_MODEL = "vit-segmenter"


@dataclass(frozen=True)
class Plan:
    """What is asked for; None is not said.

    `source` is a checkpoint to begin from, `teacher` one for a distillation head to learn from.

    ValueError for what contradicts itself or is missing.
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
            raise ValueError(f"no preset {self.preset!r}; there are {', '.join(RECIPES)}")
        if self.model is not None and self.source is not None:
            raise ValueError("a checkpoint has its network: --from and --model exclude each other")
        if self.name is None and self.source is None:
            raise ValueError(
                "say --from CHECKPOINT to begin from one, e.g. google/vit-base-patch16-224, "
                f"or --model NAME to begin from nothing: {NAMES}"
            )
        if self.source is not None and self.options:
            raise ValueError("a checkpoint has its options: --from and --option exclude each other")

    @property
    def name(self) -> str | None:
        """The network's name: what is said, or the article's own."""
        if self.model is None and self.source is None and self.preset == "article":
            return ARTICLE_MODEL
        return self.model

    @property
    def recipe(self) -> Recipe:
        """The preset's numbers, or the usual ones, and what is said otherwise."""
        usual = "scratch" if self.source is None else "fine-tune"
        said = {
            name: value
            for name in ("epochs", "batch_size", "learning_rate")
            if (value := getattr(self, name)) is not None
        }
        return replace(RECIPES[self.preset or usual], **said)

    def task_for(self, loaded: checkpoint.Checkpoint | None) -> Task:
        """What is said, or what the data is for, or what the network does."""
        if task := self.task or natural_task(self.data):
            return task
        return loaded.task if loaded else task_of(str(self.name))

    def load(self) -> checkpoint.Checkpoint | None:
        """The checkpoint to begin from; `bundled` is the bundled one of the task."""
        if self.source == "bundled":
            task = self.task or natural_task(self.data)
            if task is None:
                raise ValueError("there are two bundled checkpoints: say --task as well")
            return checkpoint.load(checkpoint.bundled(task))
        return None if self.source is None else load_body(self.source)

    def start(self, data: Data, loaded: checkpoint.Checkpoint | None) -> Start:
        """The network to be trained on that data."""
        if loaded is not None:
            return from_checkpoint(loaded, data.task, data.labels, image_size=self.image_size)
        return from_nothing(
            str(self.name),
            data.task,
            data.labels,
            image_size=self.image_size,
            options=self.options,
            as_is=self.recipe.as_is,
        )

    def anchored(self) -> "Plan":
        """The same plan from wherever it is looked at: folders by their absolute path."""
        data = self.data if is_scenes(self.data) else str(Path(self.data).absolute())
        source, teacher = (
            str(Path(name).absolute()) if name and Path(name).is_dir() else name
            for name in (self.source, self.teacher)
        )
        return replace(self, data=data, source=source, teacher=teacher)

    def command(self, out: str) -> str:
        """The command line that runs it; folders by their names, wherever they are."""
        words = ["patchserve", "train"]
        for field_name, value in self.document().items():
            flag = "from" if field_name == "source" else field_name.replace("_", "-")
            if field_name == "options":
                words += [w for pair in value.items() for w in ("--option", "=".join(pair))]
            elif value is not None and (flag, value) != ("seed", 1):
                is_folder = flag in ("data", "from", "teacher") and Path(value).is_dir()
                words += [f"--{flag}", Path(value).name if is_folder else str(value)]
        return shlex.join([*words, "--out", out])

    def document(self) -> dict[str, Any]:
        """The plan as plain values, which `Plan(**document)` takes."""
        return asdict(self)

    def contradicts(self, said: Mapping[str, Any]) -> str | None:
        """What is first said otherwise than here, by field; what is None is not said."""
        for each in fields(self):
            value, here = said.get(each.name), getattr(self, each.name)
            if (
                each.name in ("data", "source", "teacher")
                and value is not None
                and Path(value).is_dir()
            ):
                value = str(Path(value).absolute())
            if value is not None and value != here:
                return f"it began with {each.name} {here}, not {value}"
        return None
