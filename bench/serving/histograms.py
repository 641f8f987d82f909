"""Owns what the service's own histograms say of a stretch of time: batch sizes, and stages.

Knows nothing of load.
"""

from collections.abc import Mapping
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

BATCH_SIZE, STAGE = "patchserve_batch_size", "patchserve_stage_duration_seconds"
Totals = Mapping[tuple[str, str], float]  # of a histogram's sum or count, and a stage


class Inside(NamedTuple):
    """The mean batch size, and the mean milliseconds that an image spent in each stage."""

    batch: float
    stages_ms: Mapping[str, float]


def totals(text: str) -> Totals:
    """The sums and counts of the two histograms in a text that Prometheus would read."""
    return {
        (sample.name, sample.labels.get("stage", "")): sample.value
        for family in text_string_to_metric_families(text)
        if family.name in (BATCH_SIZE, STAGE)
        for sample in family.samples
        if sample.name.endswith(("_sum", "_count"))
    }


def inside(before: Totals, after: Totals) -> Inside:
    """What happened between two readings; a stage that no image passed is left out."""

    def mean(histogram: str, stage: str = "") -> float:
        counted, summed = (
            after.get((histogram + part, stage), 0.0) - before.get((histogram + part, stage), 0.0)
            for part in ("_count", "_sum")
        )
        return summed / counted if counted else 0.0

    stages = {stage: mean(STAGE, stage) * 1e3 for name, stage in after if name == STAGE + "_sum"}
    return Inside(mean(BATCH_SIZE), {stage: ms for stage, ms in stages.items() if ms})
