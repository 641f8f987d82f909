"""Owns what a batch's answers are made of: what of them is computed on the device, and how little.

Knows nothing of networks or queues. Only the tensors that an answer names are copied to the host;
logits never leave the device.
"""

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
    EmbedInput,
    EngineInput,
    EngineOutput,
    ExplainInput,
    Ranking,
    Relevance,
    SegmentInput,
)
from models.explain import Explanation
from models.label_map import label_map

RawOutput = Tensor | list[Explanation]  # what a batch gave; explanations are of one image each
Scores = Callable[[Tensor], Tensor]


class OutputReader(Protocol):
    """How the answers to one batch are made."""

    def on_device(self, said: RawOutput) -> list[Tensor]:
        """What is wanted of them, still on the device."""
        ...

    def on_host(self, results: Sequence[Tensor]) -> list[EngineOutput]:
        """The answers, one for each input in order, from the same tensors on the host."""
        ...


def reader_for(inputs: Sequence[EngineInput], scores: Scores) -> OutputReader:
    """How to answer inputs of one kind; `scores` makes logits (B, num_labels) float32 scores."""
    match inputs[0]:
        case EmbedInput():
            return Embeddings()
        case SegmentInput():
            return LabelMaps([one.size for one in inputs if isinstance(one, SegmentInput)])
        case ExplainInput():
            top_ks = [one.top_k for one in inputs if isinstance(one, ExplainInput)]
            return Relevances(Rankings(top_ks, scores))
    return Rankings([one.top_k for one in inputs if isinstance(one, ClassifyInput)], scores)


class Rankings:
    """The best labels of each image, as many as it asks for."""

    def __init__(self, top_ks: Sequence[int], scores: Scores) -> None:
        self._top_ks = top_ks
        self._scores = scores

    def on_device(self, said: RawOutput) -> list[Tensor]:
        """The best indices and scores of logits (B, num_labels), each (B, k)."""
        assert isinstance(said, Tensor)  # noqa: S101  # only explanations are not
        scores, indices = self._scores(said.float()).topk(max(self._top_ks))
        return [indices, scores]

    def rankings(self, results: Sequence[Tensor]) -> list[Ranking]:
        """From indices and scores."""
        indices, scores = results
        rows = zip(indices.tolist(), scores.tolist(), self._top_ks, strict=True)
        return [Ranking(index[:top_k], score[:top_k]) for index, score, top_k in rows]

    def on_host(self, results: Sequence[Tensor]) -> list[EngineOutput]:
        """From indices and scores."""
        return list(self.rankings(results))


class Embeddings:
    """What the head reads, as it is."""

    def on_device(self, said: RawOutput) -> list[Tensor]:
        """A copy of the embeddings (B, D) in float32: their own memory is soon another batch's."""
        assert isinstance(said, Tensor)  # noqa: S101  # only explanations are not
        return [said.to(torch.float32, copy=True)]

    def on_host(self, results: Sequence[Tensor]) -> list[EngineOutput]:
        """The rows."""
        return list(results[0].numpy())


class LabelMaps:
    """The class of each pixel, at the size that each image had."""

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
        self._sizes = sizes

    def on_device(self, said: RawOutput) -> list[Tensor]:
        """A label map (H, W) of each image's logits (num_labels, h, w)."""
        assert isinstance(said, Tensor)  # noqa: S101  # only explanations are not
        way = fused_label_map() if said.device.type == "cuda" else None
        return [(way or label_map)(*pair) for pair in zip(said, self._sizes, strict=True)]

    def on_host(self, results: Sequence[Tensor]) -> list[EngineOutput]:
        """The label maps."""
        return [one.numpy() for one in results]


@cache
def fused_label_map() -> Callable[[Tensor, tuple[int, int]], Tensor] | None:
    """`label_map` as one kernel for a GPU; None where Triton, which torch for CUDA has, is not."""
    if find_spec("triton") is None:
        return None
    return import_module("models.label_map_triton").fused_label_map


class Relevances:
    """The best labels, and where the network looked."""

    def __init__(self, rankings: Rankings) -> None:
        self._rankings = rankings
        self._cells: list[int] = []  # pixels a side, of each explanation

    def on_device(self, said: RawOutput) -> list[Tensor]:
        """What the rankings need, then of each image its relevance and each attention's distances.

        They are (rows, columns), and (heads,) as often as there are attentions.
        """
        assert isinstance(said, list)  # noqa: S101  # only logits and embeddings are not
        self._cells = [one.cell for one in said]
        tensors = self._rankings.on_device(torch.cat([one.logits for one in said]))
        for one in said:
            tensors += [one.relevance[0], *(heads[0] for heads in one.attention_distance)]
        return tensors

    def on_host(self, results: Sequence[Tensor]) -> list[EngineOutput]:
        """The explanations."""
        rankings, rest = self._rankings.rankings(results[:2]), iter(results[2:])
        each = (len(results) - 2) // len(rankings)
        outputs: list[EngineOutput] = []
        for ranking, cell in zip(rankings, self._cells, strict=True):
            grid, *distances = islice(rest, each)
            outputs.append(
                Relevance(ranking, grid.numpy(), cell, [heads.tolist() for heads in distances])
            )
        return outputs
