"""The engine on small random networks: outputs, devices, warm-up, errors."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from transformers.pipelines.image_classification import ImageClassificationPipeline

from app.engine.engine import TorchEngine
from app.engine.interface import ClassifyInput, EmbedInput, ExplainInput, SegmentInput
from app.engine.pipeline.streams import HostStreams
from models import checkpoint
from models.checkpoint import Checkpoint, CheckpointError, LoadOptions
from models.explain import METHODS, explain
from models.preprocessing import Preprocessing, normalize
from models.registry import ProblemType
from models.runtimes.select import inference_form
from models.segformer import Segformer, SegformerConfig
from models.vit import ViT, ViTConfig

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(autouse=True)
def _skip_without_cuda(request):
    if request.node.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture
def save(tmp_path):
    """Write a small random checkpoint and return its folder."""

    def write(task: str, labels: tuple[str, ...] = ("a", "b", "c"), **options) -> str:
        torch.manual_seed(0)
        if task == "classify":
            network = ViT(
                ViTConfig(
                    image_size=(16, 16),
                    patch_size=8,
                    hidden_size=16,
                    num_layers=1,
                    num_heads=2,
                    mlp_size=32,
                    num_labels=len(labels),
                )
            )
        else:
            network = Segformer(
                SegformerConfig(
                    depths=(1, 1, 1, 1),
                    hidden_sizes=(8, 8, 8, 8),
                    num_heads=(1, 1, 1, 1),
                    decoder_hidden_size=8,
                    num_labels=len(labels),
                )
            )
        side = 16 if task == "classify" else 32
        preprocessing = Preprocessing(size=(side, side))
        saved = Checkpoint(network.eval(), labels, preprocessing, task, **options)
        checkpoint.save(saved, tmp_path / task)
        return str(tmp_path / task)

    return write


def random_pixels(seed: int, side: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


@pytest.mark.parametrize("device", DEVICES)
def test_each_image_of_a_batch_gets_its_own_softmax_best_first(save, device):
    folder = save("classify")
    engine = TorchEngine(folder, task="classify", device=device, dtype="float32")
    info = engine.load()
    images = [random_pixels(seed, 16) for seed in range(5)]
    top_ks = [1, 2, 3, 1, 2]
    batch = engine.run([ClassifyInput(*pair) for pair in zip(images, top_ks, strict=True)])
    network = checkpoint.load(folder).network
    with torch.inference_mode():
        pixels = normalize(torch.from_numpy(np.stack(images)), info.preprocessing)
        expected = network(pixels).softmax(-1)
    for output, scores, top_k in zip(batch.outputs, expected, top_ks, strict=True):
        order = scores.argsort(descending=True)[:top_k].tolist()
        assert output.indices == order
        assert output.scores == pytest.approx(scores[order].tolist(), abs=1e-5)
    assert set(batch.stages) == {"stage_in", "compute", "postprocess"}


@pytest.mark.parametrize("device", DEVICES)
def test_an_embedding_is_the_input_of_the_head(save, device):
    folder = save("classify")
    engine = TorchEngine(folder, task="classify", device=device, dtype="float32")
    preprocessing = engine.load().preprocessing
    images = [random_pixels(seed, 16) for seed in range(3)]
    outputs = engine.run([EmbedInput(image) for image in images]).outputs
    with torch.inference_mode():
        pixels = normalize(torch.from_numpy(np.stack(images)), preprocessing)
        expected = checkpoint.load(folder).network.classify(pixels).embedding
    assert all(output.dtype == np.float32 for output in outputs)
    torch.testing.assert_close(torch.from_numpy(np.stack(outputs)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_each_image_of_a_batch_is_explained_by_its_own_method(save, device):
    folder = save("classify")
    engine = TorchEngine(folder, task="classify", device=device, dtype="float32")
    preprocessing = engine.load().preprocessing
    images = [random_pixels(seed, 16) for seed in range(2)]
    inputs = [ExplainInput(*values) for values in zip(images, (1, 3), METHODS, strict=True)]
    batch = engine.run(inputs)
    network = checkpoint.load(folder).network
    for image, output in zip(inputs, batch.outputs, strict=True):
        expected = explain(
            network, normalize(torch.from_numpy(image.pixels)[None], preprocessing), image.method
        )
        assert output.ranking.indices[0] == expected.logits[0].argmax()
        assert len(output.ranking.indices) == image.top_k
        assert output.grid == pytest.approx(expected.relevance[0].numpy(), abs=1e-4)
        assert output.cell == expected.cell == 8
        distances = [heads[0].tolist() for heads in expected.attention_distance]
        assert output.attention_distance == [pytest.approx(heads, abs=1e-3) for heads in distances]
    assert set(batch.stages) == {"stage_in", "compute", "postprocess"}


def test_an_explanation_does_not_change_later_outputs(save):
    engine = TorchEngine(save("classify"), task="classify")
    engine.load()
    image = ClassifyInput(random_pixels(1, 16), 3)
    before = engine.run([image]).outputs
    engine.run([ExplainInput(image.pixels, 1, "gradient")])
    assert engine.run([image]).outputs == before


def test_what_a_checkpoint_leaves_open_is_a_warning_in_the_log(save, caplog):
    folder = save("classify")
    (Path(folder) / "preprocessor_config.json").unlink()
    assert TorchEngine(folder, task="classify").load().preprocessing_assumed
    warnings = [each for each in caplog.messages if "no preprocessor_config.json" in each]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{Path(folder).name}: there is no preprocessor_config.json: the")


@pytest.mark.parametrize("problem_type", [*get_args(ProblemType), None])
@pytest.mark.parametrize("labels", [("only",), ("a", "b", "c")])
def test_scores_equal_those_of_the_pipeline_of_transformers(save, labels, problem_type):
    folder = save("classify", labels, problem_type=problem_type or "single_label_classification")
    engine = TorchEngine(folder, task="classify")
    preprocessing = engine.load().preprocessing
    (output,) = engine.run([ClassifyInput(random_pixels(1, 16), len(labels))]).outputs
    with torch.inference_mode():
        pixels = normalize(torch.from_numpy(random_pixels(1, 16))[None], preprocessing)
        logits = checkpoint.load(folder).network(pixels)
    config = SimpleNamespace(
        num_labels=len(labels), problem_type=problem_type, id2label=dict(enumerate(labels))
    )
    pipeline = SimpleNamespace(model=SimpleNamespace(config=config))
    theirs = ImageClassificationPipeline.postprocess(pipeline, {"logits": logits}, top_k=9)
    assert [labels[index] for index in output.indices] == [each["label"] for each in theirs]
    assert output.scores == pytest.approx([each["score"] for each in theirs], abs=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_each_mask_has_the_size_of_its_input(save, device):
    engine = TorchEngine(save("segment"), task="segment", device=device, dtype="float32")
    engine.load()
    sizes = [(50, 31), (8, 90), (32, 32)]
    inputs = [SegmentInput(random_pixels(seed, 32), size) for seed, size in enumerate(sizes)]
    together = engine.run(inputs).outputs
    alone = [engine.run([image]).outputs[0] for image in inputs]
    for found, other, size in zip(together, alone, sizes, strict=True):
        assert found.labels.dtype == np.uint8
        assert found.labels.shape == size
        assert (found.labels == other.labels).mean() > 0.999
        assert found.confidence is None


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_in_one_batch_only_the_inputs_that_want_the_confidence_get_it(save, device, dtype):
    engine = TorchEngine(save("segment"), task="segment", device=device, dtype=dtype)
    engine.load()
    pixels = random_pixels(0, 32)
    wanted = [True, False, True]
    inputs = [
        SegmentInput(pixels, (40 + index, 31), confidence)
        for index, confidence in enumerate(wanted)
    ]
    outputs = engine.run(inputs).outputs
    for output, image in zip(outputs, inputs, strict=True):
        (plain,) = engine.run([SegmentInput(pixels, image.size)]).outputs
        assert (output.labels == plain.labels).mean() > 0.999
        assert (output.confidence is not None) == image.confidence
        if output.confidence is not None:
            assert output.confidence.pixels.shape == image.size
            mean = output.confidence.pixels.mean() / 255
            assert 1 / 3 <= mean <= 1  # the best of three classes
            total = output.confidence.sums.sum() / output.labels.size
            assert total == pytest.approx(mean, abs=0.5 / 255)


def test_warm_up_measures_growing_batches_within_its_bounds(save):
    engine = TorchEngine(save("classify"), task="classify")
    engine.load()
    costs = engine.warm_up(max_batch_size=6, budget_s=5.0)
    assert set(costs) <= {1, 2, 4}
    assert all(seconds > 0 for seconds in costs.values())
    assert set(engine.warm_up(max_batch_size=6, budget_s=1e-9)) == {1}


@pytest.mark.parametrize(
    ("seconds", "measured"),
    [
        ({1: 0.001, 2: 0.003, 4: 0.006, 8: 0.004}, {1, 2, 4, 8}),  # disturbed, but short
        ({1: 0.01, 2: 0.03, 4: 0.06, 8: 0.04}, {1, 2, 4}),
    ],
)
def test_warm_up_ends_with_long_batches_that_do_not_lower_the_cost_of_an_image(
    save, monkeypatch, seconds, measured
):
    engine = TorchEngine(save("classify"), task="classify")
    engine.load()
    monkeypatch.setattr(engine, "_measure", seconds.__getitem__)
    assert set(engine.warm_up(max_batch_size=8, budget_s=60.0)) == measured


def test_warm_up_runs_without_an_input_size_in_the_checkpoint(save, tmp_path):
    folder = save("segment")
    loaded = checkpoint.load(folder)
    free = Checkpoint(loaded.network, loaded.labels, Preprocessing(size=None), "segment")
    checkpoint.save(free, tmp_path / "free")
    engine = TorchEngine(str(tmp_path / "free"), task="segment")
    assert engine.load().preprocessing.input_size is None
    assert set(engine.warm_up(1, 1e-9)) == {1}
    inputs = [SegmentInput(random_pixels(0, 48), (48, 48))]
    assert engine.run(inputs).outputs[0].labels.shape == (48, 48)


@pytest.mark.parametrize("channels", [1, 4])
def test_a_network_of_other_channels_than_rgb_is_refused(save, tmp_path, channels):
    loaded = checkpoint.load(save("classify"))
    network = ViT(replace(loaded.network.config, num_channels=channels)).eval()
    preprocessing = replace(loaded.preprocessing, mean=(0.5,) * channels, std=(0.5,) * channels)
    other = replace(loaded, network=network, preprocessing=preprocessing)
    checkpoint.save(other, tmp_path / "other")
    message = f"other takes images of num_channels {channels}; only networks of 3 channels"
    with pytest.raises(CheckpointError, match=message):
        TorchEngine(str(tmp_path / "other"), task="classify").load()


def test_a_checkpoint_for_another_task_is_refused(save):
    with pytest.raises(CheckpointError, match="not to segment"):
        TorchEngine(save("classify"), task="segment").load()


def test_load_returns_the_facts_about_the_model(save):
    info = TorchEngine(save("classify"), task="classify", device="cpu").load()
    assert (info.task, info.labels, info.device, info.dtype) == (
        "classify", ("a", "b", "c"), "cpu", "float32",
    )  # fmt: skip
    assert info.parameters == sum(
        p.numel() for p in checkpoint.load(save("classify")).network.parameters()
    )


def test_half_precision_scores_like_full_precision(save):
    folder = save("classify")
    rankings = []
    for dtype in ("float32", "bfloat16"):
        engine = TorchEngine(folder, task="classify", device="cpu", dtype=dtype)
        assert engine.load().dtype == dtype
        rankings.append(engine.run([ClassifyInput(random_pixels(2, 16), 3)]).outputs[0])
    full, half = (dict(zip(r.indices, r.scores, strict=True)) for r in rankings)
    assert half == pytest.approx(full, abs=0.02)


def test_a_cpu_reports_no_device_memory(save):
    assert TorchEngine(save("classify"), task="classify", device="cpu").memory() == {}


@pytest.fixture
def fake_cuda(monkeypatch):
    """Let an engine on "cuda" use the CPU; collect what it sets and compiles for CUDA."""
    calls = []

    def form_on_cpu(network, *, device, **options):
        return inference_form(network, device=torch.device("cpu"), **options)

    def collect(name):
        return lambda *arguments: calls.append((name, *arguments))

    for name in ("configure_cuda", "limit_gpu_memory", "label_map_on"):
        monkeypatch.setattr(f"app.engine.engine.{name}", collect(name))
    monkeypatch.setattr("app.engine.engine.resolve_device", lambda name: name)
    monkeypatch.setattr("app.engine.engine.inference_form", form_on_cpu)
    monkeypatch.setattr("app.engine.engine.streams_of", lambda device: HostStreams())
    return calls


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_loading_on_cuda_configures_it_and_compiles_the_label_map_of_a_segmenter(
    save, fake_cuda, task
):
    engine = TorchEngine(save(task), task=task, device="cuda", dtype="float32", gpu_share=0.5)
    engine.load()
    configured = [
        ("configure_cuda", torch.float32),
        ("limit_gpu_memory", torch.device("cuda"), 0.5),
    ]
    compiled = [("label_map_on", "cuda")] if task == "segment" else []
    assert fake_cuda == [*configured, *compiled]


def test_reading_the_memory_does_not_initialise_cuda(monkeypatch):
    monkeypatch.setattr("app.engine.engine.resolve_device", lambda name: name)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert TorchEngine("nothing", task="classify", device="cuda").memory() == {}


@pytest.mark.gpu
def test_cuda_memory_is_reported(save):
    engine = TorchEngine(save("classify"), task="classify", device="cuda")
    engine.load()
    assert engine.memory()["allocated"] > 0


def test_another_input_size_than_the_trained_one_is_served(save):
    folder = save("classify")
    engine = TorchEngine(folder, task="classify", input_size=40)
    preprocessing = engine.load().preprocessing
    assert preprocessing.input_size == (40, 40)
    (output,) = engine.run([ClassifyInput(random_pixels(1, 40), 3)]).outputs
    with torch.inference_mode():
        pixels = normalize(torch.from_numpy(random_pixels(1, 40))[None], preprocessing)
        expected = checkpoint.load(folder).network(pixels).softmax(-1)[0]
    assert output.scores == pytest.approx(expected[output.indices].tolist(), abs=1e-5)


@pytest.mark.parametrize("runtime", ["openvino", pytest.param("auto", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "task",
    ["classify", pytest.param("segment", marks=pytest.mark.slow)],  # its export takes 15 s
)
def test_another_runtime_gives_the_same_outputs(save, task, runtime, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    side = 16 if task == "classify" else 32
    kind = ClassifyInput if task == "classify" else SegmentInput
    inputs = [kind(random_pixels(s, side), 3 if task == "classify" else (40, 50)) for s in range(3)]
    usual, other = (
        TorchEngine(save(task), task=task),
        TorchEngine(save(task), task=task, runtime=runtime),
    )
    assert usual.load().runtime == "torch"
    expected = {"openvino"} if runtime == "openvino" else {"torch", "openvino"}
    assert other.load().runtime in expected
    for ours, theirs in zip(usual.run(inputs).outputs, other.run(inputs).outputs, strict=True):
        if task == "classify":
            assert theirs.indices == ours.indices
            assert theirs.scores == pytest.approx(ours.scores, abs=1e-5)
        else:
            assert (theirs == ours).mean() > 0.999


def test_a_network_with_an_output_that_is_not_finite_is_refused(save):
    folder = save("segment")
    broken = checkpoint.load(folder)
    broken.network.decoder.head.bias.data[1] = float("nan")
    checkpoint.save(broken, folder)
    with pytest.raises(CheckpointError, match=r"output is not finite in float32$"):
        TorchEngine(folder, task="segment", device="cpu").load()


def test_an_overflow_in_half_precision_names_the_number_format(save):
    folder = save("classify")
    large = checkpoint.load(folder)
    large.network.patch_embedding.projection.bias.data[:] = 1e6  # float16 ends at 65504
    checkpoint.save(large, folder)
    TorchEngine(folder, task="classify", device="cpu").load()
    with pytest.raises(CheckpointError, match="not finite in float16; --dtype float32 may help"):
        TorchEngine(folder, task="classify", device="cpu", dtype="float16").load()


def test_labels_are_those_of_the_file_and_assumptions_are_logged(save, tmp_path, caplog):
    folder = save("classify")
    (tmp_path / "labels.txt").write_text("x\ny\nz\n")
    (tmp_path / "classify" / "preprocessor_config.json").unlink()
    options = LoadOptions(labels_file=tmp_path / "labels.txt")
    info = TorchEngine(folder, task="classify", device="cpu", load_options=options).load()
    assert info.labels == ("x", "y", "z")
    assert info.assumptions == checkpoint.load(folder).warnings
    assert all(f"classify: {text}" in caplog.text for text in info.assumptions)
    strict = LoadOptions(strict=True)
    with pytest.raises(CheckpointError, match="strict loading does not assume"):
        TorchEngine(folder, task="classify", device="cpu", load_options=strict).load()
