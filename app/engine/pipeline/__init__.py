"""Streams, staging buffers and graphs: a batch is staged on the device while another computes.

On a CPU, the same code runs each step at once, in the caller's thread.
"""

import torch

from app.engine.pipeline.cuda import CudaStreams
from app.engine.pipeline.graphs import Graphs
from app.engine.pipeline.staging import Pipeline
from app.engine.pipeline.streams import HostStreams, Streams

__all__ = ["Graphs", "Pipeline", "Streams", "streams_of"]


def streams_of(device: torch.device) -> Streams:
    """The streams of a device; for a GPU, this initializes CUDA."""
    return CudaStreams(device) if device.type == "cuda" else HostStreams()
