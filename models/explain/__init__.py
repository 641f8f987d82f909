"""Explanations of a prediction: attention maps, attention distances and relevance maps.

The network is not modified, and other threads may run it at the same time.
"""

from models.explain.explanation import (
    METHODS,
    Explanation,
    Method,
    attention_distances,
    attention_maps,
    explain,
)

__all__ = [
    "METHODS",
    "Explanation",
    "Method",
    "attention_distances",
    "attention_maps",
    "explain",
]
