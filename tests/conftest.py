"""Fixtures of all tests, and their distribution over the workers of pytest-xdist."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from PIL import Image  # the tests of the kernel run without Pillow

SAMPLES = Path(__file__).parent / "samples"
LIBRARIES = Path(sys.prefix) / "originals"  # timm, torchvision, segmentation-models-pytorch
WRITERS = Path(__file__).parent / "originals"
KINDS = ("cross", "disc", "stripes")
WIDTH, HEIGHT = 40, 36


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark of pytest-xdist, which is not installed on every machine with a GPU."""
    config.addinivalue_line("markers", "xdist_group(name): tests that one worker runs")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one worker run all tests of a file, so that its fixtures start once.

    A mark `xdist_group` joins the tests of several files. The group "timing" has the tests that
    two services at the same time would disturb; it takes longest, so it starts first.
    """
    items.sort(key=lambda item: group_of(item) != "timing")
    for item in items:
        if group_of(item) is None:
            item.add_marker(
                pytest.mark.xdist_group(name=f"{item.path.parent.name}/{item.path.stem}")
            )


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fail if pytest-xdist has not read the groups; without them each worker starts every service.

    pytest-xdist appends the group to the id of a test.
    """
    grouped = getattr(session.config.option, "loadgroup", False)
    if grouped and not all("@" in item.nodeid for item in session.items):
        raise pytest.UsageError("this pytest-xdist ignores the mark xdist_group of this pytest")


def group_of(item: pytest.Item) -> str | None:
    """The name in the mark `xdist_group` of a test."""
    mark = item.get_closest_marker("xdist_group")
    return None if mark is None else mark.kwargs["name"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Give each test the same random numbers, independent of the tests before it."""
    import torch  # pytest-xdist's main process has no use for it

    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """Let all child processes react to SIGINT; a shell makes its background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def process_coverage() -> Iterator[dict[str, str]]:
    """Start child processes without coverage, which doubles the time of their imports.

    Returns:
        The variables that measure the coverage of a process; empty without pytest-cov.
    """
    names = [name for name in os.environ if name.startswith("COVERAGE_")]
    variables = {name: os.environ.pop(name) for name in names}
    yield variables
    os.environ.update(variables)


@pytest.fixture(scope="session")
def truth() -> dict[str, dict[str, str]]:
    """The true `label` and `mask` of the sample scenes, by file name."""
    return json.loads((SAMPLES / "truth.json").read_text())


@pytest.fixture(scope="session")
def labelled_folder() -> Callable[..., Path]:
    """Draw a folder with a subfolder for each label."""
    return draw_labelled


@pytest.fixture(scope="session")
def masked_folder() -> Callable[..., Path]:
    """Draw a folder of images/ and masks/."""
    return draw_masked


@pytest.fixture(scope="session")
def pets_folder() -> Callable[..., Path]:
    """Draw a folder with the layout of Oxford-IIIT Pet."""
    return draw_pets


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Write checkpoints with their own libraries: a function from a script's name to its folder.

    Beside a checkpoint are images, and what the library makes and computes of them.

    A writer is a process of its own: the libraries are installed without their dependencies, and
    transformers would use them if it found them.
    """
    written: dict[str, Path] = {}

    def write(name: str) -> Path:
        if name not in written:
            folder = tmp_path_factory.mktemp(name)
            env = os.environ | {"PYTHONPATH": os.pathsep.join([str(LIBRARIES), str(WRITERS)])}
            command = [sys.executable, str(WRITERS / f"{name}.py"), str(folder)]
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-3000:]
            written[name] = folder
        return written[name]

    return write


def draw_labelled(root: Path, count: int, kinds: Sequence[str] = KINDS, seed: int = 0) -> Path:
    """Write `count` images of each kind to a subfolder of that name."""
    rng = np.random.default_rng(seed)
    for kind in kinds:
        (root / kind).mkdir(parents=True)
        for index in range(count):
            image, _ = drawn(kind, rng)
            image.save(root / kind / f"{index:03}.png")
    return root


def draw_masked(root: Path, count: int) -> Path:
    """Write images of discs, their masks (1 inside the disc), and labels.txt."""
    from PIL import Image

    rng = np.random.default_rng(1)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for index in range(count):
        image, mask = drawn("disc", rng)
        image.save(root / "images" / f"{index:03}.jpg")
        Image.fromarray(mask.astype(np.uint8)).save(root / "masks" / f"{index:03}.png")
    (root / "labels.txt").write_text("background\ndisc\n")
    return root


def draw_pets(root: Path, *, train: int, test: int) -> Path:
    """Write the layout of Oxford-IIIT Pet: trimaps of 1 in a disc, 3 on its border, 2 elsewhere."""
    from PIL import Image

    rng = np.random.default_rng(2)
    (root / "images").mkdir(parents=True)
    (root / "annotations/trimaps").mkdir(parents=True)
    names = [f"{('Abyssinian', 'great_pyrenees')[i % 2]}_{i}" for i in range(train + test)]
    for name in names:
        image, mask = drawn("disc", rng)
        grown = np.asarray(mask, np.uint8)
        border = sum(np.roll(grown, shift, axis) for shift in (-1, 1) for axis in (0, 1)) % 4 > 0
        trimap = np.where(border, 3, np.where(mask, 1, 2)).astype(np.uint8)
        image.save(root / "images" / f"{name}.jpg")
        Image.fromarray(trimap).save(root / "annotations/trimaps" / f"{name}.png")
    lists = {"trainval.txt": names[:train], "test.txt": names[train:]}
    for file, listed in lists.items():
        lines = [f"{name} 1 1 1\n" for name in listed]
        (root / "annotations" / file).write_text("# image class species breed\n" + "".join(lines))
    return root


def drawn(kind: str, rng: np.random.Generator) -> "tuple[Image.Image, np.ndarray]":
    """A bright shape at a random place on a dark background, and its mask."""
    from PIL import Image, ImageDraw

    ground, paint = (tuple(rng.integers(*span, 3).tolist()) for span in ((0, 100), (150, 256)))
    image, mask = Image.new("RGB", (WIDTH, HEIGHT), ground), Image.new("1", (WIDTH, HEIGHT))
    r = int(rng.integers(8, 13))
    x, y = int(rng.integers(r, WIDTH - r)), int(rng.integers(r, HEIGHT - r))
    for canvas, color in ((image, paint), (mask, 1)):
        draw = ImageDraw.Draw(canvas)
        if kind == "disc":
            draw.ellipse((x - r, y - r, x + r, y + r), color)
        elif kind == "cross":
            draw.rectangle((x - r, y - 2, x + r, y + 2), color)
            draw.rectangle((x - 2, y - r, x + 2, y + r), color)
        else:
            for line in range(y - r, y + r, 5):
                draw.rectangle((x - r, line, x + r, line + 1), color)
    return image, np.asarray(mask)
