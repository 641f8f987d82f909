"""A worker process of the bare loop: decode, resize, forward, and for a segmenter the mask's PNG.

    {"do": "expect", "out": FILE}                            saves the result for each photograph
    {"do": "run", "threads": 1, "batch": 4, "seconds": 2.0}  returns the number of images

It reads jobs as lines of JSON from its standard input. It has no queue, and no threads except
torch's own.
"""

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from app.core.malloc import keep_freed_memory
from app.engine.placement import resolve_device, resolve_dtype
from app.imaging.decode import Photo, decode
from app.imaging.masks import render
from models import checkpoint
from models.label_map import label_map
from models.runtimes.select import Runtime, inference_form

MAX_PIXELS = 10**8


class Loop:
    """The inference form of a checkpoint and the photographs that it runs on."""

    def __init__(self, folder: Path, runtime: Runtime, photos: list[Path]) -> None:
        torch.set_num_threads(1)
        loaded = checkpoint.load(folder)
        self._labels, self._segments = loaded.labels, loaded.task == "segment"
        self._preprocessing = loaded.preprocessing
        self._photos = [file.read_bytes() for file in photos]
        self._next = 0
        self._device = torch.device(resolve_device("auto"))  # like the service
        self._form = inference_form(
            loaded.network,
            runtime=runtime,
            device=self._device,
            dtype=resolve_dtype("auto", self._device),
            normalization=loaded.preprocessing,
            size=cast(tuple[int, int], loaded.preprocessing.input_size),
        ).form

    def batch(self, size: int) -> list[NDArray[Any]]:
        """Return the results for the next photographs: a label index each, or a label map."""
        decoded = [self._decode() for _ in range(size)]
        pixels = torch.from_numpy(np.stack([photo.pixels for photo in decoded]))  # (B, H, W, 3)
        logits = self._form(pixels.to(self._device))
        if not self._segments:
            return list(logits.argmax(1).cpu().numpy())
        pairs = zip(logits, decoded, strict=True)
        return [label_map(one, (photo.height, photo.width)).cpu().numpy() for one, photo in pairs]

    def _decode(self) -> Photo:
        self._next = (self._next + 1) % len(self._photos)
        data = self._photos[self._next]
        return decode(data, self._preprocessing, max_pixels=MAX_PIXELS)

    def expect(self, out: Path) -> None:
        """Save the network's result for each photograph, in order."""
        self._next = -1
        np.save(out, np.stack([self.batch(1)[0] for _ in self._photos]))

    @torch.inference_mode()
    def run(self, threads: int, batch: int, seconds: float) -> dict[str, float]:
        """Run for some seconds.

        Returns:
            The number of images, wall-clock and CPU seconds, and the median milliseconds per batch.
        """
        torch.set_num_threads(threads)
        self._process(batch)  # allocates memory
        began, used, taken = time.perf_counter(), time.process_time(), list[float]()
        while sum(taken) < seconds:
            before = time.perf_counter()
            self._process(batch)
            taken.append(time.perf_counter() - before)
        return {
            "images": batch * len(taken),
            "seconds": time.perf_counter() - began,
            "cpu": time.process_time() - used,
            "batch_ms": statistics.median(taken) * 1e3,
        }

    def _process(self, size: int) -> None:
        for result in self.batch(size):
            if self._segments:
                render(result, self._labels, "mask")


@torch.inference_mode()
def main(folder: str, runtime: str, *photos: str) -> None:
    """Run jobs until the input ends."""
    messages = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    keep_freed_memory()
    loop = Loop(Path(folder), cast(Runtime, runtime), [Path(photo) for photo in photos])
    print(json.dumps({"event": "ready"}), file=messages, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        done = {}
        if request.pop("do") == "expect":
            loop.expect(Path(request["out"]))
        else:
            done = loop.run(**request)
        print(json.dumps({"event": "done", **done}), file=messages, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
