"""Sample scenes as files: each a picture, its label map, and the truth of all in one document.

Does not know any network.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from models.training.scenes import LABELS, Scene, draw_scene

LABEL_COLOURS = (  # of LABELS, told apart by the colour-blind too
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

    Each is a `scene-0000.png` and a `scene-0000.mask.png`, whose pixel values are label indices;
    `truth.json` holds the labels and, for each scene, the kind of its largest shape and the visible
    pixels of each label.
    """
    if count < 1:
        raise ValueError(f"count is {count}; it must be at least 1")
    out.mkdir(parents=True, exist_ok=True)
    truths = []
    for index in range(count):
        scene = draw_scene(seed, index)
        name = f"scene-{index:04}"
        Image.fromarray(scene.image).save(out / f"{name}.png", optimize=True)
        palette_image(scene).save(out / f"{name}.mask.png", optimize=True)
        truths.append(truth(scene, name) | {"seed": seed, "index": index})
    document = {"labels": LABELS, "scenes": truths}
    (out / "truth.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def truth(scene: Scene, name: str) -> dict[str, object]:
    """What is to be said about a scene."""
    return {
        "image": f"{name}.png",
        "mask": f"{name}.mask.png",
        "largest": scene.kind,
        "shapes": scene.shapes,
        "occluded": scene.occluded,
        "areas": scene.areas(),
    }


def palette_image(scene: Scene) -> Image.Image:
    """The label map with a colour for each label."""
    image = Image.fromarray(scene.label_map)
    image.putpalette(np.array(LABEL_COLOURS, np.uint8).tobytes())
    return image
