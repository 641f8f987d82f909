"""Work that is recorded once for some batch sizes, and replayed for every batch.

A replay enqueues hundreds of kernels by one call. They use the memory of the recording.
"""

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from app.engine.pipeline.streams import GraphRecorder, Outputs, Recorded

logger = logging.getLogger(__name__)

Work = Callable[[Tensor], Outputs]


class Graphs:
    """Work on a batch of images, uint8 (B, H, W, 3), recorded or not.

    The first dimension of each output is the batch. Outputs are memory of the recording, which the
    next call overwrites: enqueue all reads before it. Without a recorder, each call runs the work
    itself, and any number of threads may call it.

    Args:
        work: computes the outputs of a batch.
        recorder: records the work; None for a device without graphs.
    """

    def __init__(self, work: Work, recorder: GraphRecorder | None = None) -> None:
        self._work = work
        self._recorder = recorder
        self._pixels: Tensor | None = None  # input memory of all recordings
        self._recorded: dict[int, Recorded] = {}  # by batch size, ascending

    @property
    def sizes(self) -> tuple[int, ...]:
        """The recorded batch sizes."""
        return tuple(self._recorded)

    @torch.inference_mode()
    def record(self, image: Tensor, sizes: Sequence[int], end: float = float("inf")) -> None:
        """Record the work for some batch sizes, the largest first: smaller ones reuse its memory.

        A size that does not fit into memory or cannot be recorded is skipped.

        Args:
            image: uint8 (H, W, 3), on the device; batches of images of this shape are replayed.
            sizes: the batch sizes.
            end: of `time.monotonic()`; no size is started after it.
        """
        if self._recorder is None:
            return
        self._recorded, self._pixels, recorded = {}, None, {}
        for size in sorted(sizes, reverse=True):
            if time.monotonic() >= end:
                break
            try:
                if self._pixels is None:
                    self._pixels = image.new_zeros(size, *image.shape)
                recorded[size] = self._recorder.record(partial(self._work, self._pixels[:size]))
            except RuntimeError as error:  # also if there is no memory
                logger.warning("batches of %d are not recorded: %s", size, error)
        self._recorded = dict(sorted(recorded.items()))

    def __call__(self, batch: Tensor) -> Outputs:
        """Run the work on a batch, padded to the next recorded size.

        Without such a size, or if the padding would more than double the batch, the work runs
        without a recording.
        """
        count = len(batch)
        size = next((size for size in self._recorded if count <= size <= 2 * count), None)
        if size is None or self._pixels is None or batch.shape[1:] != self._pixels.shape[1:]:
            return self._work(batch)
        self._pixels[:count].copy_(batch)
        replay, outputs = self._recorded[size]
        replay()
        return tuple(output[:count] for output in outputs)
