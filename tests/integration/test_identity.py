"""Under load each request gets its own correct result, and never the result of another request."""

import asyncio
from contextlib import AsyncExitStack
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
REQUESTS, CLIENTS = 200, 10
LABELS = tuple("abcdefg")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A classifier and a segmenter with weights so large that results differ between images."""
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
    """Random patches in a random size, in one of five formats."""
    random = np.random.default_rng(seed)
    height, width = (int(side) for side in random.integers(20, 90, 2))
    patches = random.integers(0, 256, (4, 4, 3), np.uint8)
    image = Image.fromarray(patches).resize((width, height), Image.Resampling.NEAREST)
    file = BytesIO()
    image.save(file, ("PNG", "JPEG", "WEBP", "BMP", "TIFF")[seed % 5])
    return file.getvalue()


def expected_results(folders, pictures):
    """The engine's result for each image alone: scores by label, or the label map."""
    engines = {task: TorchEngine(folder, task=task) for task, folder in folders.items()}
    preprocessing = {task: engine.load().preprocessing for task, engine in engines.items()}
    results = []
    for seed, data in enumerate(pictures):
        task = ("classify", "segment")[seed % 2]
        photo = decode(data, preprocessing[task], max_pixels=10**6)
        engine_input = (
            ClassifyInput(photo.pixels, len(LABELS))
            if task == "classify"
            else SegmentInput(photo.pixels, (photo.height, photo.width))
        )
        results.append(engines[task].run([engine_input]).outputs[0])
    return results


async def test_two_hundred_concurrent_requests_each_get_their_own_result(launch, folders):
    pictures = [picture(seed) for seed in range(REQUESTS)]
    expected = expected_results(folders, pictures)
    flags = ("--classifier", folders["classify"], "--segmenter", folders["segment"])
    with launch(*flags) as service:
        paths = (f"/classify?top_k={len(LABELS)}", "/segment")
        async with AsyncExitStack() as stack:
            clients = [  # several, because each compares every request with every connection
                await stack.enter_async_context(httpx.AsyncClient(base_url=service.url, timeout=60))
                for _ in range(CLIENTS)
            ]
            responses = await asyncio.gather(
                *(
                    clients[i % CLIENTS].post(paths[i % 2], content=data)
                    for i, data in enumerate(pictures)
                )
            )
    assert [response.status_code for response in responses] == [200] * REQUESTS
    for response, ranking in zip(responses[::2], expected[::2], strict=True):
        scores = {one["index"]: one["score"] for one in response.json()["predictions"]}
        truth = dict(zip(ranking.indices, ranking.scores, strict=True))
        assert scores == pytest.approx(truth, abs=1e-5)
    label_maps = [segmentation.labels for segmentation in expected[1::2]]
    for response, label_map in zip(responses[1::2], label_maps, strict=True):
        mask = np.asarray(Image.open(BytesIO(response.content)))
        assert mask.shape == label_map.shape
        assert (mask == label_map).mean() > 0.999
    assert len({tuple(np.round(ranking.scores, 4)) for ranking in expected[::2]}) == REQUESTS / 2
    assert len({label_map.tobytes() for label_map in label_maps}) == REQUESTS / 2
