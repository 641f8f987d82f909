"""Owns the way of a batch: into a staging buffer, to the device, through it, and back.

Knows nothing of what is computed there, nor of what the results mean.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.engine.pipeline.streams import Event, Streams

RawOutput = TypeVar("RawOutput")


class Collected(NamedTuple):
    """The results of a batch on the host, and the seconds of each stage."""

    results: list[Tensor]
    stages: dict[str, float]


class StagingBuffer:
    """Where a batch lies on its way to the device: a buffer on the host, and one there.

    It is one batch's from its launch until it is collected, so nobody overwrites what is copied.
    """

    def __init__(self, queues: Streams) -> None:
        self._queues = queues
        self._host = self._there = torch.empty(0, dtype=torch.uint8)

    def stage(self, images: Sequence[NDArray[np.uint8]]) -> tuple[Tensor, tuple[Event, Event]]:
        """The images, each (H, W, 3), as one tensor (B, H, W, 3) on the device.

        With it the points before and behind its copy.
        """
        shape = (len(images), *images[0].shape)
        length = math.prod(shape)
        if length > len(self._host):
            self._host, self._there = self._queues.buffers(length)
        host, there = (buffer[:length].view(shape) for buffer in (self._host, self._there))
        np.stack(images, out=host.numpy())
        return there, self._queues.upload(host, there)


class Pipeline:
    """Runs batches of images on a device.

    There are as many slots as batches were ever on their way at once: two, when one is staged
    while another computes.
    """

    def __init__(self, queues: Streams) -> None:
        self._queues = queues
        self._idle: deque[StagingBuffer] = deque()

    @torch.inference_mode()
    def launch(
        self,
        images: Sequence[NDArray[np.uint8]],
        compute: Callable[[Tensor], RawOutput],
        reduce: Callable[[RawOutput], Sequence[Tensor]],
    ) -> Callable[[], Collected]:
        """Begin a batch; what is returned waits for its end, and for nothing else. Call it once.

        `compute` makes of the images, uint8 (B, H, W, 3), what `reduce` makes small: only that is
        copied to the host. Neither may keep what it is given: other batches come into its memory.
        """
        began = time.monotonic()
        slot = self._slot()
        try:
            with self._queues.as_current_device():
                batch, copying = slot.stage(images)
                staged = time.monotonic()
                marks = [self._queues.record_event()]
                said = compute(batch)
                marks.append(self._queues.record_event())
                # into pinned memory, as `to` has it when it does not wait
                results = [one.to("cpu", non_blocking=True) for one in reduce(said)]
                marks.append(self._queues.record_event())
        except BaseException:
            self._idle.append(slot)  # what was copied to it nobody will read
            raise

        def collect() -> Collected:
            start, computed, done = marks
            done.wait()
            self._idle.append(slot)
            stages = {
                "stage_in": staged - began + copying[1].since(copying[0]),
                "compute": computed.since(start),
                "postprocess": done.since(computed),
            }
            return Collected(results, stages)

        return collect

    def _slot(self) -> StagingBuffer:
        try:
            return self._idle.pop()
        except IndexError:
            return StagingBuffer(self._queues)
