import pytest
import torch

from models.preprocessing import Preprocessing, normalize
from models.runtimes import select
from models.runtimes.openvino import OpenVINOForm
from models.runtimes.select import inference_form
from models.vit import ViT, ViTConfig

SIDE = (16, 16)
PREPROCESSING = Preprocessing(size=SIDE)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The cache of this test module, so that the network is converted once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.fixture
def network():
    sizes = {"image_size": SIDE, "patch_size": 8, "hidden_size": 16, "mlp_size": 32}
    return ViT(ViTConfig(**sizes, num_layers=1, num_heads=2, num_labels=3)).eval()


def form_of(network, runtime, *, device="cpu", dtype=torch.float32):
    return inference_form(
        network,
        runtime=runtime,
        device=torch.device(device),
        dtype=dtype,
        normalization=PREPROCESSING,
        size=SIDE,
    )


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_every_runtime_gives_the_logits_of_the_plain_network(network, runtime):
    images = torch.randint(256, (3, *SIDE, 3), dtype=torch.uint8)
    form, _ = form_of(network, runtime)
    with torch.inference_mode():
        expected = network.classify(normalize(images, PREPROCESSING))
        torch.testing.assert_close(form(images), expected.logits, atol=2e-5, rtol=0)
        torch.testing.assert_close(
            form.classify(images).embedding, expected.embedding, atol=2e-5, rtol=0
        )


@pytest.mark.parametrize("faster", ["torch", "openvino"])
def test_auto_selects_the_faster_runtime(network, faster, monkeypatch):
    choices = {
        "torch": lambda default, other, _: default,
        "openvino": lambda default, other, _: other,
    }
    monkeypatch.setattr(select, "faster", choices[faster])
    form, runtime = form_of(network, "auto")
    assert runtime == faster
    assert isinstance(form, OpenVINOForm) is (faster == "openvino")


def test_without_openvino_auto_selects_torch_and_openvino_is_refused(network, monkeypatch):
    monkeypatch.setattr(select, "available", lambda: False)
    assert form_of(network, "auto").runtime == "torch"
    with pytest.raises(ValueError, match="make install EXTRAS=openvino"):
        form_of(network, "openvino")


def test_openvino_is_not_used_for_float16(network):
    assert form_of(network, "auto", dtype=torch.float16).runtime == "torch"
    with pytest.raises(ValueError, match="float32 or bfloat16"):
        form_of(network, "openvino", dtype=torch.float16)


@pytest.mark.parametrize("broken", ["__init__", "__call__"])
def test_torch_runs_a_network_that_openvino_cannot_run(network, broken, monkeypatch, caplog):
    def fail(*arguments, **options):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(OpenVINOForm, broken, fail)
    assert form_of(network, "auto").runtime == "torch"
    assert "no such operator" in caplog.text


def test_a_failure_of_the_torch_form_is_not_reported_as_one_of_openvino(
    network, monkeypatch, caplog
):
    def fail(pixels):
        raise RuntimeError("torch is broken")

    monkeypatch.setattr(select, "optimize", lambda *arguments, **options: fail)
    with pytest.raises(RuntimeError, match="torch is broken"):
        form_of(network, "auto")
    assert "OpenVINO" not in caplog.text
