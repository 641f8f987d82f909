"""The encoder and the decoder of a network through torch.compile.

Knows nothing of networks but where these two stand.
"""

from typing import cast

import torch
from torch import nn

from models.runtimes.optimize.form import Form, form_of
from models.runtimes.optimize.rewriting import replaced

PARTS = ("encoder", "decoder")


def compile_parts(network: nn.Module, backend: str = "inductor") -> Form:
    """Element-wise operations fused with their neighbours, for any sizes of batch and image.

    Compiled at the first call, which takes tens of seconds and, on a CPU, a C++ compiler.
    """
    form = form_of(network)
    inner = form.network
    for part in PARTS:
        if hasattr(inner, part):
            plain = inner.get_submodule(part)
            compiled = cast(nn.Module, torch.compile(plain, dynamic=True, backend=backend))
            inner = replaced(inner, part, compiled)
    return form.changed(inner)
