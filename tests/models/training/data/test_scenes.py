import numpy as np

from models.training.data.scenes import DrawnScenes
from models.training.scenes.scene import draw_scene


def test_the_truth_is_the_largest_kind_or_the_label_map():
    scene = draw_scene(4, 7)
    classified, segmented = (
        DrawnScenes(task, 4, [6, 7]).read(1) for task in ("classify", "segment")
    )
    assert classified.truth == scene.largest
    assert np.array_equal(segmented.truth, scene.label_map)
    assert np.array_equal(np.asarray(classified.image), scene.image)


def test_a_scene_is_drawn_once():
    scenes = DrawnScenes("classify", 4, range(3))
    scenes.read(2)
    kept = scenes.kept[2]
    taken = scenes.take([2])
    taken.check(0)
    taken.read(0)
    assert scenes.kept == {2: kept}
    assert (len(taken), taken.name(0)) == (1, "4/2")
