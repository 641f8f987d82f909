"""Sample scenes as files: each a picture, its label map, and the truth of all in one document.

Does not know any network.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from models.training.scenes.scene import Scene, draw_scene

LABEL_COLOURS = (  # of the scenes' LABELS, in hues that the colour-blind tell apart
    (32, 36, 44),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
)


def write_scenes(seed: int, count: int, out: Path) -> None:
    """Draw the first `count` scenes of a seed into the folder `out`, made if need be.

    Each is a `scene-0000.png` and a `scene-0000.mask.png`, whose pixel values are label indices.
    `truth.json` says for each image its mask, the label of its largest shape, and the visible
    pixels of each label. ValueError for a count below one.
    """
    if count < 1:
        raise ValueError(f"{count} scenes cannot be drawn: at least 1")
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
    """What is to be said about a scene."""
    return {
        "label": scene.kind,
        "shapes": scene.shapes,
        "occluded": scene.occluded,
        "areas": scene.areas(),
    }


def palette_image(scene: Scene) -> Image.Image:
    """The label map with a colour for each label."""
    image = Image.fromarray(scene.label_map)
    image.putpalette(np.array(LABEL_COLOURS, np.uint8).tobytes())
    return image
