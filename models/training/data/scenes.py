"""The generated scenes as examples to classify or to segment.

Does not know how a scene is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from models.registry import Task
from models.training.data.examples import Example
from models.training.scenes.scene import Scene, draw_scene


@dataclass(frozen=True)
class DrawnScenes:
    """Scenes of a seed, with the largest shape's kind or every pixel's label.

    A scene is drawn when it is first asked for and then kept: to draw one takes longer than to
    read a file, and keeps 64 KiB.
    """

    task: Task
    seed: int
    indices: Sequence[int]
    kept: dict[int, Scene] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        return f"{self.seed}/{self.indices[index]}"

    def read(self, index: int) -> Example:
        number = self.indices[index]
        if number not in self.kept:
            self.kept[number] = draw_scene(self.seed, number)
        scene = self.kept[number]
        truth = scene.largest if self.task == "classify" else scene.label_map
        return Example(Image.fromarray(scene.image), truth)

    def check(self, index: int) -> None:
        """Every scene can be drawn."""

    def take(self, indices: Sequence[int]) -> "DrawnScenes":
        chosen = [self.indices[index] for index in indices]
        return DrawnScenes(self.task, self.seed, chosen, self.kept)
