"""Where a network looks: attention maps, attention distances, and what an answer hangs on.

Knows nothing of checkpoints, photographs or colours: pixels in, numbers out. Nothing here changes
the network it is given, and other threads may run it at the same time.
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
