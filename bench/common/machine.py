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


def memory(key: str, file: str = "/proc/self/status") -> float:
    """A line of the file in MB: VmRSS is what this process holds now, VmHWM the most it held."""
    lines = Path(file).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024
