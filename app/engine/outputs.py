"""From raw outputs on the device to the outputs of each image on the host.

Only the small tensors that an output needs are copied to the host; logits stay on the device.
"""

import logging
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from app.engine.interface import (
    ClassifyInput,
    Confidence,
    EmbedInput,
    EngineInput,
    EngineOutput,
    ExplainInput,
    Ranking,
    Relevance,
    Segmentation,
    SegmentInput,
)
from models.confidence import confidence
from models.explain import Explanation
from models.label_map import label_map

RawOutput = Tensor | list[Explanation]  # of a batch; each explanation is of one image
Scores = Callable[[Tensor], Tensor]
LabelMapFunction = Callable[[Tensor, tuple[int, int]], Tensor]

logger = logging.getLogger(__name__)


class OutputReader(Protocol):
    """Makes the outputs of one batch."""

    def on_device(self, raw: RawOutput) -> list[Tensor]:
        """The tensors that the outputs need, still on the device."""
        ...

    def on_host(self, results: Sequence[Tensor]) -> list[EngineOutput]:
        """One output for each input, in order, from the same tensors on the host."""
        ...


def reader_for(inputs: Sequence[EngineInput], scores: Scores) -> OutputReader:
    """The reader for a batch.

    Args:
        inputs: of one kind.
        scores: from logits (B, num_labels) to float32 scores of the same shape.
    """
    match inputs[0]:
        case EmbedInput():
            return Embeddings()
        case SegmentInput():
            return Segmentations([image for image in inputs if isinstance(image, SegmentInput)])
        case ExplainInput():
            top_ks = [image.top_k for image in inputs if isinstance(image, ExplainInput)]
            return Relevances(Rankings(top_ks, scores))
    return Rankings([image.top_k for image in inputs if isinstance(image, ClassifyInput)], scores)


class Rankings:
    """The best labels of each image, as many as its input asks for."""

    def __init__(self, top_ks: Sequence[int], scores: Scores) -> None:
        self._top_ks = top_ks
        self._scores = scores

    def on_device(self, raw: RawOutput) -> list[Tensor]:
        """The best indices and scores of logits (B, num_labels), each (B, k)."""
        assert isinstance(raw, Tensor)  # noqa: S101  # only explanations are lists
        scores, indices = self._scores(raw.float()).topk(max(self._top_ks))
        return [indices, scores]

    def rankings(self, results: Sequence[Tensor]) -> list[Ranking]:
        """The rankings from indices and scores, each (B, k)."""
        indices, scores = results
        rows = zip(indices.tolist(), scores.tolist(), self._top_ks, strict=True)
        return [Ranking(index[:top_k], score[:top_k]) for index, score, top_k in rows]

    def on_host(self, results: Sequence[Tensor]) -> list[EngineOutput]:
        """The rankings from indices and scores, each (B, k)."""
        return list(self.rankings(results))


class Embeddings:
    """The inputs of the classifier head."""

    def on_device(self, raw: RawOutput) -> list[Tensor]:
        """A copy of the embeddings (B, D) in float32: the next batch overwrites their memory."""
        assert isinstance(raw, Tensor)  # noqa: S101  # only explanations are lists
        return [raw.to(torch.float32, copy=True)]

    def on_host(self, results: Sequence[Tensor]) -> list[EngineOutput]:
        """The rows of the embeddings, each (D,)."""
        return list(results[0].numpy())


class Segmentations:
    """The class of each pixel at the size that each input asks for, with its confidence if wanted.

    Args:
        inputs: of the batch. Each one decides for itself: the network, which they share, takes most
            of the time.
    """

    def __init__(self, inputs: Sequence[SegmentInput]) -> None:
        self._inputs = inputs

    def on_device(self, raw: RawOutput) -> list[Tensor]:
        """For each image a label map (H, W), from its logits (num_labels, h, w).

        If the confidence is wanted, its sums (num_labels,) and pixels (H, W) follow.
        """
        assert isinstance(raw, Tensor)  # noqa: S101  # only explanations are lists
        to_labels = label_map_on(raw.device.type)
        tensors: list[Tensor] = []
        for logits, image in zip(raw, self._inputs, strict=True):
            labels = to_labels(logits, image.size)
            tensors += [labels, *confidence(logits, labels)] if image.confidence else [labels]
        return tensors

    def on_host(self, results: Sequence[Tensor]) -> list[EngineOutput]:
        """The segmentations, from the same tensors on the host."""
        arrays = (result.numpy() for result in results)
        return [
            Segmentation(next(arrays), Confidence(*islice(arrays, 2)) if image.confidence else None)
            for image in self._inputs
        ]


@cache
def label_map_on(device_type: str) -> LabelMapFunction:
    """`label_map` for a device: on CUDA one kernel by Triton, if Triton works here.

    Triton compiles its driver with a C compiler at the first use, and slim images have none.
    """
    if device_type != "cuda" or find_spec("triton") is None:  # torch for CUDA on Linux has Triton
        return label_map
    try:
        fused: LabelMapFunction = import_module("models.label_map_triton").fused_label_map
        fused(torch.zeros(2, 8, 8, device=device_type), (16, 16))
    except Exception as error:  # noqa: BLE001  # Triton raises errors of many types
        reason = str(error).partition("\n")[0]
        logger.warning("label maps are computed without Triton, which is slower: %s", reason)
        return label_map
    return fused


class Relevances:
    """The best labels of each image, and the relevance of its pixels for the first label."""

    def __init__(self, rankings: Rankings) -> None:
        self._rankings = rankings
        self._cells: list[int] = []  # pixels a side of a cell, for each explanation

    def on_device(self, raw: RawOutput) -> list[Tensor]:
        """The tensors of the rankings, then for each image its relevance and attention distances.

        The relevance is (rows, columns), followed by one tensor (heads,) for each attention layer.
        """
        assert isinstance(raw, list)  # noqa: S101  # logits and embeddings are tensors
        self._cells = [explanation.cell for explanation in raw]
        logits = torch.cat([explanation.logits for explanation in raw])
        tensors = self._rankings.on_device(logits)
        for explanation in raw:
            distances = (heads[0] for heads in explanation.attention_distance)
            tensors += [explanation.relevance[0], *distances]
        return tensors

    def on_host(self, results: Sequence[Tensor]) -> list[EngineOutput]:
        """The explanations, from the same tensors on the host."""
        rankings, rest = self._rankings.rankings(results[:2]), iter(results[2:])
        tensors_per_image = (len(results) - 2) // len(rankings)
        outputs: list[EngineOutput] = []
        for ranking, cell in zip(rankings, self._cells, strict=True):
            grid, *distances = islice(rest, tensors_per_image)
            outputs.append(
                Relevance(ranking, grid.numpy(), cell, [heads.tolist() for heads in distances])
            )
        return outputs
