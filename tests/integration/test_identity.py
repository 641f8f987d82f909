"""N in, N out: under load everyone gets their own right answer, and nobody another's."""

import asyncio
from io import BytesIO

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from app.engine.engine import TorchEngine
from app.engine.interface import ClassifyInput, SegmentInput
from app.imaging.decode import decode
from models import checkpoint
from models.checkpoint import Checkpoint
from models.preprocessing import Preprocessing
from models.segformer import Segformer, SegformerConfig
from models.vit import ViT, ViTConfig

pytestmark = pytest.mark.anyio
REQUESTS = 200
LABELS = tuple("abcdefg")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A classifier and a segmenter with weights so large that every image gets its own answer."""
    torch.manual_seed(3)
    vit = ViT(
        ViTConfig(
            image_size=(32, 32),
            patch_size=8,
            hidden_size=32,
            num_layers=2,
            num_heads=2,
            mlp_size=64,
            num_labels=len(LABELS),
        )
    )
    segformer = Segformer(
        SegformerConfig(
            depths=(1, 1, 1, 1),
            hidden_sizes=(8, 16, 16, 16),
            num_heads=(1, 1, 2, 2),
            decoder_hidden_size=16,
            num_labels=len(LABELS),
        )
    )
    folders = {}
    for task, network, size in (("classify", vit, 32), ("segment", segformer, 64)):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
        folder = tmp_path_factory.mktemp("checkpoints") / task
        preprocessing = Preprocessing(size=(size, size))
        checkpoint.save(Checkpoint(network.eval(), LABELS, preprocessing, task), folder)
        folders[task] = str(folder)
    return folders


def picture(seed: int) -> bytes:
    """A patchwork of its own size, in one of five formats."""
    random = np.random.default_rng(seed)
    height, width = (int(side) for side in random.integers(20, 90, 2))
    patches = random.integers(0, 256, (4, 4, 3), np.uint8)
    image = Image.fromarray(patches).resize((width, height), Image.Resampling.NEAREST)
    file = BytesIO()
    image.save(file, ("PNG", "JPEG", "WEBP", "BMP", "TIFF")[seed % 5])
    return file.getvalue()


def expected_answers(folders, pictures):
    """What the engine says of each picture by itself: scores by label, or the label map."""
    engines = {task: TorchEngine(folder, task=task) for task, folder in folders.items()}
    asks = {task: engine.load().preprocessing for task, engine in engines.items()}
    answers = []
    for seed, data in enumerate(pictures):
        task = ("classify", "segment")[seed % 2]
        photo = decode(data, asks[task], max_pixels=10**6)
        one = (
            ClassifyInput(photo.pixels, len(LABELS))
            if task == "classify"
            else SegmentInput(photo.pixels, (photo.height, photo.width))
        )
        answers.append(engines[task].run([one]).outputs[0])
    return answers


async def test_two_hundred_at_once_each_get_their_own_right_answer(launch, folders):
    pictures = [picture(seed) for seed in range(REQUESTS)]
    expected = expected_answers(folders, pictures)
    flags = ("--classifier", folders["classify"], "--segmenter", folders["segment"])
    with launch(*flags) as service:
        async with httpx.AsyncClient(
            base_url=service.url, timeout=60, limits=httpx.Limits(max_connections=REQUESTS)
        ) as client:
            paths = (f"/classify?top_k={len(LABELS)}", "/segment")
            answers = await asyncio.gather(
                *(client.post(paths[i % 2], content=data) for i, data in enumerate(pictures))
            )
    assert [answer.status_code for answer in answers] == [200] * REQUESTS
    for answer, ranking in zip(answers[::2], expected[::2], strict=True):
        scores = {one["index"]: one["score"] for one in answer.json()["predictions"]}
        wanted = dict(zip(ranking.indices, ranking.scores, strict=True))
        assert scores == pytest.approx(wanted, abs=1e-5)
    for answer, label_map in zip(answers[1::2], expected[1::2], strict=True):
        mask = np.asarray(Image.open(BytesIO(answer.content)))
        assert mask.shape == label_map.shape
        assert (mask == label_map).mean() > 0.999
    assert len({tuple(np.round(ranking.scores, 4)) for ranking in expected[::2]}) == REQUESTS / 2
    assert len({label_map.tobytes() for label_map in expected[1::2]}) == REQUESTS / 2
