from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, normalize
from models.registry import segformer_config, vit_config
from models.runtimes import optimize as package
from models.runtimes.optimize import FOLDINGS, fold, onednn_passes, optimize, steps
from models.segformer import Segformer, SegformerClassifier
from models.vit import ViT

IMAGENET = Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD)
no_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def exists(dtype):
    """Whether oneDNN has products of this dtype for this processor."""
    return dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


@pytest.fixture
def every_kernel(monkeypatch):
    """Let every oneDNN operator that this processor has pass its trial, even in a small network."""
    always = tuple((step, exists) for step, _ in package.ONEDNN)
    monkeypatch.setattr(package, "ONEDNN", always)
    monkeypatch.setattr(onednn_passes, "LEAST_WORK", 1)


@pytest.fixture
def no_kernel(monkeypatch):
    """Let none pass, as where torch was built without oneDNN."""
    never = tuple((step, lambda dtype: False) for step, _ in package.ONEDNN)
    monkeypatch.setattr(package, "ONEDNN", never)


def test_the_inference_form_gives_the_logits_of_the_plain_network(
    any_network, every_kernel, assert_same
):
    assert_same(optimize(any_network), any_network)


def test_so_it_does_without_onednn(any_network, no_kernel, assert_same):
    assert_same(optimize(any_network), any_network)


def test_the_folded_network_gives_the_logits_of_the_plain_one(any_network, assert_same):
    assert_same(fold(any_network), any_network)


@torch.inference_mode()
def test_with_a_normalisation_the_form_takes_bytes(any_network, every_kernel, assert_equal_logits):
    form = optimize(any_network, normalization=IMAGENET)
    for batch, size in ((1, (32, 48)), (3, (45, 70))):
        image = torch.randint(0, 256, (batch, *size, 3), dtype=torch.uint8)
        assert_equal_logits(form(image), any_network(normalize(image, IMAGENET)))


@pytest.mark.parametrize("name", ["plain", "two heads", "mean", "SegFormer classifier"])
@torch.inference_mode()
def test_a_classifier_tells_its_embedding(name, network, every_kernel):
    plain, pixels = network(name), torch.randn(2, 3, 45, 70)
    torch.testing.assert_close(
        optimize(plain).classify(pixels), plain.classify(pixels), atol=2e-5, rtol=2e-5
    )


@torch.inference_mode()
def test_in_bfloat16_the_logits_stay_close(any_network, every_kernel):
    pixels = torch.randn(2, 3, 45, 70)
    plain = any_network(pixels)
    ours = optimize(any_network, dtype=torch.bfloat16)(pixels)
    assert ours.dtype == torch.bfloat16
    assert (ours - plain).abs().max() < 0.05 * plain.abs().max()


def test_the_plain_network_stays_as_it_is(any_network, every_kernel):
    before = {name: tensor.clone() for name, tensor in any_network.state_dict().items()}
    optimize(any_network, dtype=torch.bfloat16, normalization=IMAGENET)
    after = any_network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(parameter.requires_grad for parameter in any_network.parameters())


@pytest.mark.parametrize("name", ["plain", "SegFormer"])
def test_several_threads_may_run_a_form_on_several_sizes(name, network, every_kernel):
    form = optimize(network(name))
    batches = [torch.randn(1 + i % 2, 3, 32 + 8 * (i % 3), 48) for i in range(12)]

    @torch.inference_mode()
    def run(pixels):
        return form(pixels)

    alone = [run(pixels) for pixels in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, batches))
    for ours, theirs in zip(together, alone, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_each_step_leaves_a_network_that_runs(any_network, every_kernel, assert_equal_logits):
    pixels = torch.randn(1, 3, 45, 70)
    expected, form = any_network(pixels), any_network
    for step in steps():
        form = step.apply(form)
        assert_equal_logits(form(pixels), expected)


def test_the_steps_depend_on_the_device_and_on_what_passes(no_kernel):
    foldings = [folding.__name__ for folding in FOLDINGS]
    cpu = [step.name for step in steps(normalization=IMAGENET, compile=True)]
    ends = ["place", "channels_last"]
    assert cpu == [*foldings, "fold_normalization", *ends, "upsample_by_bags", "split_batches"]
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
def test_on_cuda_the_logits_are_those_of_the_cpu(any_network, compile):
    image = torch.randint(0, 256, (2, 45, 70, 3), dtype=torch.uint8)
    expected = any_network(normalize(image, IMAGENET))
    form = optimize(any_network, device="cuda", normalization=IMAGENET, compile=compile)
    assert (form(image.cuda()).cpu() - expected).abs().max() < 1e-3 * max(1, expected.abs().max())


@pytest.mark.gpu
@no_cuda
@torch.inference_mode()
def test_on_cuda_in_bfloat16_the_logits_stay_close(any_network):
    image = torch.randint(0, 256, (2, 45, 70, 3), dtype=torch.uint8)
    expected = any_network(normalize(image, IMAGENET))
    form = optimize(any_network, device="cuda", dtype=torch.bfloat16, normalization=IMAGENET)
    assert (form(image.cuda()).float().cpu() - expected).abs().max() < 0.05 * expected.abs().max()
