from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, normalize
from models.registry import segformer_config, vit_config
from models.runtimes import optimize as package
from models.runtimes.optimize import FOLDINGS, onednn_passes, optimize, steps
from models.segformer import Segformer, SegformerClassifier
from models.vit import ViT

IMAGENET = Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD)
no_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def supported(dtype):
    """Whether oneDNN has products of this dtype for this processor."""
    return dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


@pytest.fixture
def every_kernel(monkeypatch):
    """Use every oneDNN operator that this processor supports, even in a small network."""
    always = tuple((step, supported) for step, _ in package.ONEDNN)
    monkeypatch.setattr(package, "ONEDNN", always)
    monkeypatch.setattr(onednn_passes, "MIN_MULTIPLICATIONS", 1)


@pytest.fixture
def no_kernel(monkeypatch):
    """Use no oneDNN operator, as if torch had been built without oneDNN."""
    never = tuple((step, lambda dtype: False) for step, _ in package.ONEDNN)
    monkeypatch.setattr(package, "ONEDNN", never)


def test_the_inference_form_has_the_logits_of_the_plain_network(
    any_network, every_kernel, assert_same
):
    assert_same(optimize(any_network), any_network)


def test_without_onednn_the_inference_form_has_the_logits_of_the_plain_network(
    any_network, no_kernel, assert_same
):
    assert_same(optimize(any_network), any_network)


@torch.inference_mode()
def test_with_a_normalization_the_form_takes_uint8_pixels(
    each_kind, every_kernel, assert_equal_logits
):
    form = optimize(each_kind, normalization=IMAGENET)
    for batch, size in ((1, (32, 48)), (3, (45, 70))):
        image = torch.randint(0, 256, (batch, *size, 3), dtype=torch.uint8)
        assert_equal_logits(form(image), each_kind(normalize(image, IMAGENET)))


@pytest.mark.parametrize("name", ["plain", "two heads", "mean", "SegFormer classifier"])
@torch.inference_mode()
def test_classify_returns_logits_and_embedding(name, network, every_kernel):
    plain, pixels = network(name), torch.randn(2, 3, 45, 70)
    torch.testing.assert_close(
        optimize(plain).classify(pixels), plain.classify(pixels), atol=2e-5, rtol=2e-5
    )


@torch.inference_mode()
def test_bfloat16_logits_are_close(each_kind, every_kernel):
    pixels = torch.randn(2, 3, 45, 70)
    plain = each_kind(pixels)
    ours = optimize(each_kind, dtype=torch.bfloat16)(pixels)
    assert ours.dtype == torch.float32
    assert (ours - plain).abs().max() < 0.05 * plain.abs().max()


def test_optimize_does_not_modify_the_plain_network(each_kind, every_kernel):
    before = {name: tensor.clone() for name, tensor in each_kind.state_dict().items()}
    optimize(each_kind, dtype=torch.bfloat16, normalization=IMAGENET)
    after = each_kind.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(parameter.requires_grad for parameter in each_kind.parameters())


@pytest.mark.parametrize("name", ["plain", "SegFormer"])
def test_threads_may_run_a_form_at_once_on_different_sizes(name, network, every_kernel):
    form = optimize(network(name))
    batches = [torch.randn(1 + i % 2, 3, 32 + 8 * (i % 3), 48) for i in range(12)]

    @torch.inference_mode()
    def run(pixels):
        return form(pixels)

    expected = [run(pixels) for pixels in batches]
    with ThreadPoolExecutor(4) as pool:
        concurrent = list(pool.map(run, batches))
    for ours, theirs in zip(concurrent, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_the_logits_are_equal_after_each_step(each_kind, every_kernel, assert_equal_logits):
    pixels = torch.randn(1, 3, 45, 70)
    expected, form = each_kind(pixels), each_kind
    for step in steps():
        form = step.apply(form)
        assert_equal_logits(form(pixels), expected)


def test_the_steps_depend_on_the_device_and_the_trials(no_kernel):
    foldings = [folding.__name__ for folding in FOLDINGS]
    cpu = [step.name for step in steps(normalization=IMAGENET, compile=True)]
    ends = ["place", "channels_last"]
    assert cpu == [
        *foldings,
        "fold_normalization",
        *ends,
        "upsample_by_embedding_bag",
        "split_batches",
    ]
    assert [step.name for step in steps(device="cuda")] == [*foldings, *ends]
    compiled = [step.name for step in steps(device="cuda", compile=True)]
    assert compiled == [*foldings, *ends, "compile_parts"]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", [(512, 512), (131, 253), (511, 513)])
@pytest.mark.parametrize("name", ["B0", "B1", "B2", "B3", "B4", "B5"])
@torch.inference_mode()
def test_b0_to_b5_keep_their_logits(name, size, perturb, assert_equal_logits):
    plain = Segformer(segformer_config(name)).eval()
    perturb(plain)
    pixels = torch.randn(1, 3, *size)
    assert_equal_logits(optimize(plain)(pixels), plain(pixels))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(224, 224), (200, 300)])
@pytest.mark.parametrize("name", ["Ti/16", "B/16", "B/32"])
@torch.inference_mode()
def test_published_vits_keep_their_logits(name, size, perturb, assert_equal_logits):
    plain = ViT(vit_config(name)).eval()
    perturb(plain)
    pixels = torch.randn(2, 3, *size)
    assert_equal_logits(optimize(plain)(pixels), plain(pixels))


@pytest.mark.slow
@torch.inference_mode()
def test_a_published_segformer_classifier_keeps_its_logits(perturb, assert_equal_logits):
    plain = SegformerClassifier(segformer_config("B0", num_labels=1000)).eval()
    perturb(plain)
    pixels = torch.randn(2, 3, 224, 224)
    assert_equal_logits(optimize(plain)(pixels), plain(pixels))


@pytest.mark.gpu
@no_cuda
@pytest.mark.parametrize("compile", [False, True])
@torch.inference_mode()
def test_logits_on_cuda_equal_those_on_the_cpu(any_network, compile):
    image = torch.randint(0, 256, (2, 45, 70, 3), dtype=torch.uint8)
    expected = any_network(normalize(image, IMAGENET))
    form = optimize(any_network, device="cuda", normalization=IMAGENET, compile=compile)
    assert (form(image.cuda()).cpu() - expected).abs().max() < 1e-3 * max(1, expected.abs().max())


@pytest.mark.gpu
@no_cuda
@torch.inference_mode()
def test_bfloat16_logits_on_cuda_are_close(any_network):
    image = torch.randint(0, 256, (2, 45, 70, 3), dtype=torch.uint8)
    expected = any_network(normalize(image, IMAGENET))
    form = optimize(any_network, device="cuda", dtype=torch.bfloat16, normalization=IMAGENET)
    assert (form(image.cuda()).float().cpu() - expected).abs().max() < 0.05 * expected.abs().max()
