"""Owns work that is recorded once for each of a few batch sizes, and replayed for every batch.

Knows nothing of what the work is. A replay enqueues hundreds of kernels by one call, on memory
that stays where it was when they were recorded.
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

    Its outputs have the batch first. They are the recording's own memory: valid until the next
    call, for what is enqueued before it. Without a recorder the work is just done, and then any
    number of threads may call it.
    """

    def __init__(self, work: Work, recorder: GraphRecorder | None = None) -> None:
        self._work = work
        self._recorder = recorder
        self._pixels: Tensor | None = None  # what every recording reads the first images of
        self._recorded: dict[int, Recorded] = {}  # by batch size, ascending

    @property
    def sizes(self) -> tuple[int, ...]:
        """The batch sizes that are recorded."""
        return tuple(self._recorded)

    @torch.inference_mode()
    def record(self, image: Tensor, sizes: Sequence[int], ends: float = float("inf")) -> None:
        """Record batches of these sizes of images like that one, uint8 (H, W, 3), on its device.

        The largest is the first, as those that follow can use its memory. None is begun at `ends`,
        of time.monotonic(); what does not fit into memory, or cannot be recorded, is left out.
        """
        if self._recorder is None:
            return
        self._recorded, found = {}, {}
        self._pixels = image.new_zeros(max(sizes), *image.shape)
        for size in sorted(sizes, reverse=True):
            if time.monotonic() >= ends:
                break
            try:
                found[size] = self._recorder.record(partial(self._work, self._pixels[:size]))
            except RuntimeError as error:  # also of memory
                logger.warning("batches of %d are not recorded: %s", size, error)
        self._recorded = dict(sorted(found.items()))

    def __call__(self, batch: Tensor) -> Outputs:
        """Do the work on a batch, filled up to the next recorded size.

        As it is, where none is, or where filling up would more than double it.
        """
        count = len(batch)
        size = next((size for size in self._recorded if count <= size <= 2 * count), None)
        if size is None or self._pixels is None or batch.shape[1:] != self._pixels.shape[1:]:
            return self._work(batch)
        self._pixels[:count].copy_(batch)
        replay, outputs = self._recorded[size]
        replay()
        return tuple(output[:count] for output in outputs)
