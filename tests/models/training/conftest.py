import pytest

from models.training.scenes.scene import Scene, draw_scene

SEED = 31


@pytest.fixture(scope="package")
def scenes() -> list[Scene]:
    """Scenes enough to count on, drawn once for all tests."""
    return [draw_scene(SEED, index) for index in range(1_000)]
