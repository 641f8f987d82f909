"""Sample scenes as files: images, label maps, and one file with the truth of all."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from models.training.scenes.scene import Scene, draw_scene

LABEL_COLORS = (  # of the scenes' LABELS; distinguishable for the color-blind
    (32, 36, 44),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
)


def write_scenes(seed: int, count: int, out: Path) -> None:
    """Draw the first `count` scenes of a seed into the folder `out`, which is created if missing.

    Each scene has a `scene-0000.png`, and a `scene-0000.mask.png` with label indices as pixel
    values. `truth.json` contains for each image its mask, the label of its largest shape, and the
    visible pixels of each label.

    Raises:
        ValueError: the count is below 1.
    """
    if count < 1:
        raise ValueError(f"the number of scenes is {count}; at least 1 is required")
    out.mkdir(parents=True, exist_ok=True)
    truths = {}
    for index in range(count):
        scene = draw_scene(seed, index)
        name, mask = f"scene-{index:04}.png", f"scene-{index:04}.mask.png"
        Image.fromarray(scene.image).save(out / name, optimize=True)
        palette_image(scene).save(out / mask, optimize=True)
        truths[name] = {"seed": seed, "index": index, "mask": mask} | truth(scene)
    (out / "truth.json").write_text(json.dumps(truths, indent=2) + "\n", encoding="utf-8")


def truth(scene: Scene) -> dict[str, object]:
    """Return the facts about a scene for truth.json."""
    return {
        "label": scene.kind,
        "shapes": scene.shapes,
        "occluded": scene.occluded,
        "areas": scene.areas(),
    }


def palette_image(scene: Scene) -> Image.Image:
    """Return the label map as an image with a palette."""
    image = Image.fromarray(scene.label_map)
    image.putpalette(np.array(LABEL_COLORS, np.uint8).tobytes())
    return image
