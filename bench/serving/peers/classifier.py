"""Our classifier for other servers: image files in, predictions out, one thread.

The inference form is the service's, so that only the servers differ.
"""

import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from app.core.malloc import keep_freed_memory
from app.imaging.decode import decode
from models import checkpoint
from models.runtimes.select import Runtime, inference_form

TOP_K = 5
MAX_PIXELS = 10**8
FOLDER, RUNTIME = "BENCH_FOLDER", "BENCH_RUNTIME"  # variables, because workers get no arguments


class Classifier:
    """The checkpoint named by the environment, as the inference form of the service."""

    def __init__(self) -> None:
        keep_freed_memory()
        torch.set_num_threads(1)
        loaded = checkpoint.load(Path(os.environ[FOLDER]))
        self._labels, self._preprocessing = loaded.labels, loaded.preprocessing
        self._form = inference_form(
            loaded.network,
            runtime=cast(Runtime, os.environ[RUNTIME]),
            device=torch.device("cpu"),
            dtype=torch.float32,
            normalization=loaded.preprocessing,
            size=cast(tuple[int, int], loaded.preprocessing.input_size),
        ).form

    @torch.inference_mode()
    def __call__(self, files: list[bytes]) -> list[dict[str, Any]]:
        """Return the best labels of each photograph, in the form of the service's response."""
        photos = [decode(data, self._preprocessing, max_pixels=MAX_PIXELS) for data in files]
        batch = torch.from_numpy(np.stack([photo.pixels for photo in photos]))  # (B, H, W, 3)
        scores, indices = self._form(batch).softmax(dim=-1).topk(TOP_K)  # each (B, k)
        pairs = zip(scores.tolist(), indices.tolist(), strict=True)
        return [{"predictions": self._predictions(*pair)} for pair in pairs]

    def _predictions(self, scores: list[float], indices: list[int]) -> list[dict[str, Any]]:
        return [
            {"label": self._labels[index], "index": index, "score": score}
            for score, index in zip(scores, indices, strict=True)
        ]
