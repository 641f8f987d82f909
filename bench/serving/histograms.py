"""Mean batch size and stage times from the histograms of the service's /metrics."""

from collections.abc import Mapping
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

BATCH_SIZE, STAGE = "patchserve_batch_size", "patchserve_stage_duration_seconds"
Totals = Mapping[tuple[str, str], float]  # by sample name (_sum or _count) and stage


class ServerFigures(NamedTuple):
    """The mean batch size, and the mean milliseconds of an image in each stage."""

    batch: float
    stages_ms: Mapping[str, float]


def totals(text: str) -> Totals:
    """Return the sums and counts of both histograms in the text of /metrics."""
    return {
        (sample.name, sample.labels.get("stage", "")): sample.value
        for family in text_string_to_metric_families(text)
        if family.name in (BATCH_SIZE, STAGE)
        for sample in family.samples
        if sample.name.endswith(("_sum", "_count"))
    }


def means_between(before: Totals, after: Totals) -> ServerFigures:
    """Return the means between two readings, without stages that no image passed."""

    def mean(histogram: str, stage: str = "") -> float:
        counted, summed = (
            after.get((histogram + part, stage), 0.0) - before.get((histogram + part, stage), 0.0)
            for part in ("_count", "_sum")
        )
        return summed / counted if counted else 0.0

    stages = {stage: mean(STAGE, stage) * 1e3 for name, stage in after if name == STAGE + "_sum"}
    return ServerFigures(mean(BATCH_SIZE), {stage: ms for stage, ms in stages.items() if ms})
