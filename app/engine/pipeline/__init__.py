"""How batches pass through a device: one is staged while another computes, graphs are replayed.

Knows nothing of what is computed. On a CPU the same code runs in one thread, each step at once.
"""

import torch

from app.engine.pipeline.cuda import CudaStreams
from app.engine.pipeline.graphs import Graphs
from app.engine.pipeline.staging import Pipeline
from app.engine.pipeline.streams import HostStreams, Streams

__all__ = ["Graphs", "Pipeline", "Streams", "streams_of"]


def streams_of(device: torch.device) -> Streams:
    """The queues of a device; those of a GPU wake CUDA."""
    return CudaStreams(device) if device.type == "cuda" else HostStreams()
