"""The engine with recorded work and two open batches: the same outputs as in single batches."""

import numpy as np
import pytest
import torch

from app.engine.engine import TorchEngine
from app.engine.interface import ClassifyInput, EmbedInput, ExplainInput, Segmentation, SegmentInput
from models import checkpoint
from models.checkpoint import Checkpoint
from models.preprocessing import Preprocessing
from models.segformer import Segformer, SegformerClassifier, SegformerConfig
from models.vit import ViT, ViTConfig

SIDE = 32
STAGES = {"depths": (1, 1, 1, 1), "hidden_sizes": (8, 8, 8, 8), "num_heads": (1, 1, 1, 1)}
NETWORKS = {
    "vit": lambda: ViT(
        ViTConfig(
            image_size=(SIDE, SIDE), patch_size=8, hidden_size=16,
            num_layers=2, num_heads=2, mlp_size=32, num_labels=4,
        )
    ),
    "mit": lambda: SegformerClassifier(SegformerConfig(**STAGES, num_labels=4)),
    "segformer": lambda: Segformer(
        SegformerConfig(**STAGES, decoder_hidden_size=8, num_labels=4)
    ),
}  # fmt: skip


@pytest.fixture
def engine(tmp_path, monkeypatch, streams, device):
    """An engine on a random network, in float32: on CUDA, or on a CPU that records."""
    monkeypatch.setattr("app.engine.engine.streams_of", lambda device: streams)
    # the rounding of TF32 depends on the batch size
    monkeypatch.setattr("torch.backends.cudnn.allow_tf32", False)

    def load(name: str) -> TorchEngine:
        torch.manual_seed(0)
        network = NETWORKS[name]().eval()
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        task = "segment" if name == "segformer" else "classify"
        labels, preprocessing = ("a", "b", "c", "d"), Preprocessing(size=(SIDE, SIDE))
        checkpoint.save(Checkpoint(network, labels, preprocessing, task), tmp_path)
        loaded = TorchEngine(str(tmp_path), task=task, device=device.type, dtype="float32")
        loaded.load()
        return loaded

    return load


def random_inputs(task: str, count: int, seed: int) -> list:
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for _ in range(count)]
    if task == "segment":
        sizes = [(40 + index, 30) for index in range(count)]
        wanted = [index % 2 == 0 for index in range(count)]
        return [SegmentInput(*each) for each in zip(images, sizes, wanted, strict=True)]
    if task == "embed":
        return [EmbedInput(image) for image in images]
    return [ClassifyInput(image, 1 + index % 4) for index, image in enumerate(images)]


def assert_equal(found: list, expected: list) -> None:
    for output, reference in zip(found, expected, strict=True):
        if isinstance(reference, Segmentation):
            assert (output.labels == reference.labels).mean() > 0.999
            assert (output.confidence is None) == (reference.confidence is None)
            if reference.confidence is not None:
                differences = np.abs(
                    np.int16(output.confidence.pixels) - reference.confidence.pixels
                )
                assert (differences <= 1).mean() > 0.999
        elif isinstance(reference, np.ndarray):
            close = np.isclose(output, reference, rtol=1e-3, atol=1e-4)
            assert close.mean() > 0.999
        else:
            assert output.indices == reference.indices
            assert output.scores == pytest.approx(reference.scores, abs=1e-4)


@pytest.mark.parametrize(
    ("network", "tasks"),
    [
        ("vit", ["classify", "embed"]),
        ("mit", ["classify", "embed"]),
        ("segformer", ["segment"]),
    ],
)
def test_batches_of_every_size_have_the_outputs_of_unrecorded_work(engine, network, tasks):
    loaded = engine(network)
    batches = [
        random_inputs(tasks[round_ % len(tasks)], count, seed=round_)
        for round_, count in enumerate([3, 4, 1, 2, 5, 4, 3])
    ]
    expected = [loaded.run(batch).outputs for batch in batches]
    assert set(loaded.warm_up(4, budget_s=60.0)) <= {1, 2, 4}
    found, open_ = [], []
    for batch in batches:
        open_.append(loaded.launch(batch))
        if len(open_) == 2:
            found.append(open_.pop(0)().outputs)
    found.append(open_.pop()().outputs)
    for ours, theirs in zip(found, expected, strict=True):
        assert_equal(ours, theirs)


def test_an_explanation_between_two_batches_changes_neither(engine):
    loaded = engine("vit")
    first, second = (random_inputs("classify", 3, seed) for seed in (1, 2))
    expected = [loaded.run(batch).outputs for batch in (first, second)]
    explained = [ExplainInput(image.pixels, 2, "gradient") for image in first]
    relevances = loaded.run(explained).outputs
    loaded.warm_up(4, budget_s=60.0)
    before, between, after = (loaded.launch(batch) for batch in (first, explained, second))
    assert_equal(before().outputs, expected[0])
    for ours, theirs in zip(between().outputs, relevances, strict=True):
        assert ours.grid == pytest.approx(theirs.grid, abs=1e-4)
    assert_equal(after().outputs, expected[1])


def test_every_recorded_size_serves_the_batches_up_to_it(engine, streams):
    loaded = engine("vit")
    loaded.warm_up(4, budget_s=60.0)
    if not hasattr(streams.recorder, "replays"):
        pytest.skip("a CUDA recorder keeps no list of replays")
    assert streams.recorder.order == [4, 2, 1]
    streams.recorder.replays.clear()
    for count in (1, 2, 3, 4, 5):
        loaded.run(random_inputs("classify", count, seed=count))
    assert streams.recorder.replays == [1, 2, 4, 4]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_records_every_size(engine, streams, caplog):
    loaded = engine("segformer")
    loaded.warm_up(8, budget_s=120.0)
    assert "not recorded" not in caplog.text
    assert loaded.memory()["allocated"] > 0
