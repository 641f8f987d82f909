"""The CPU model and the memory of this machine's processes."""

import os
import platform
from pathlib import Path


def cpu() -> str:
    """Return the name of the CPU and its number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.processor() or platform.machine())}, {os.cpu_count()} cores"


def memory(key: str, file: str = "/proc/self/status") -> float:
    """Return a line of a status file in MB: VmRSS is the resident memory now, VmHWM its peak."""
    lines = Path(file).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024
