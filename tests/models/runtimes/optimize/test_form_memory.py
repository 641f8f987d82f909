"""The memory that a recorded CUDA graph of a form reads: the form keeps all of it alive."""

import gc
import sys
import weakref
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models.preprocessing import Preprocessing
from models.runtimes.optimize import steps
from models.runtimes.optimize.form import place
from models.segformer import Segformer, SegformerConfig
from models.vit import ViT, ViTConfig

SIDE = 32
STAGES = {"depths": (1, 1, 1, 1), "hidden_sizes": (8, 8, 8, 8), "num_heads": (1, 1, 1, 1)}
VIT = {"patch_size": 8, "hidden_size": 16, "num_layers": 1, "num_heads": 2, "mlp_size": 32}
NETWORKS = {
    **{
        positions: lambda positions=positions: ViT(
            ViTConfig(image_size=(16, 24), num_labels=3, positions=positions, **VIT)
        )
        for positions in ("learned", "relative")
    },
    "segformer": lambda: Segformer(SegformerConfig(**STAGES, decoder_hidden_size=8, num_labels=4)),
}


class Reads(TorchDispatchMode):
    """Collects a weak reference to each tensor that an operator reads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, torch.Tensor):
                self.found[id(leaf)] = weakref.ref(leaf)
        return func(*args, **(kwargs or {}))


def clear_caches() -> None:
    """Empty all caches of the functions of `models`."""
    for name, module in list(sys.modules.items()):
        if name.startswith("models."):
            for function in vars(module).values():
                getattr(function, "cache_clear", int)()


def cuda_form(network, dtype: torch.dtype):
    """The form for CUDA, on the CPU."""
    form = network.eval()
    for step in steps(device="cuda", dtype=dtype, normalization=Preprocessing(size=(SIDE, SIDE))):
        on_cpu = partial(place, device=torch.device("cpu"), dtype=dtype)
        form = on_cpu(form) if step.name == "place" else step.apply(form)
    return form


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_form_keeps_all_that_a_recording_of_it_reads(name, dtype):
    form, batch, reads = cuda_form(NETWORKS[name](), dtype), torch.zeros(2, SIDE, SIDE, 3), Reads()
    batch = batch.to(torch.uint8)
    form(batch)
    with reads:
        form(batch)
    gc.collect()
    lasting = [each for each in reads.found.values() if each() is not None]
    assert len(lasting) > len(list(form.parameters())) / 2
    clear_caches()
    gc.collect()
    assert all(each() is not None for each in lasting)
