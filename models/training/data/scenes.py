"""Generated scenes as examples to classify or to segment."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from models.registry import Task
from models.training.data.examples import Example
from models.training.scenes.scene import Scene, draw_scene


@dataclass(frozen=True)
class DrawnScenes:
    """Scenes of a seed, labeled with the largest shape's kind or with a label map.

    A scene is drawn on its first access and then kept: drawing takes longer than reading a file,
    and a scene takes 64 KiB.
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
        """Do nothing: every scene can be drawn."""

    def take(self, indices: Sequence[int]) -> "DrawnScenes":
        chosen = [self.indices[index] for index in indices]
        return DrawnScenes(self.task, self.seed, chosen, self.kept)
