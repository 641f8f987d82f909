"""Owns what a benchmark says of the machine it ran on.

Knows nothing of what is measured.
"""

import os
import platform
from pathlib import Path


def cpu() -> str:
    """The processor's name and how many cores of it there are."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.processor() or platform.machine())}, {os.cpu_count()} cores"
