"""Prints the versions, the driver, the GPU and the programs that this machine has."""

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from bench.common import machine
from bench.gpu_checks.options import parsed

PACKAGES = ("torch", "triton", "numpy", "pillow", "safetensors", "fastapi", "uvicorn", "pytest")
PROGRAMS = ("cc", "gcc", "clang", "ptxas", "nvidia-smi", "nvidia-cuda-mps-control")


def installed(package: str) -> str:
    """Return the version of a package; empty if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def driver() -> str:
    """Return the version of the driver; empty without nvidia-smi."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # fixed
    return done.stdout.strip()


def gpu() -> dict[str, Any]:
    """Return the name, capability, memory in GiB and libraries of the first GPU."""
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "count": torch.cuda.device_count(),
        "capability": f"{properties.major}.{properties.minor}",
        "GiB": round(properties.total_memory / 2**30, 1),
        "multiprocessors": properties.multi_processor_count,
        "cudnn": torch.backends.cudnn.version(),
        "native bfloat16": torch.cuda.is_bf16_supported(including_emulation=False),
    }


def main(arguments: Sequence[str] = ()) -> None:
    """Print the environment; exit with a message if it has no CUDA device although it needs one."""
    options = parsed("environment", arguments)
    cuda = options.device == "cuda" and torch.cuda.is_available()
    found = {
        "python": platform.python_version(),
        "cpu": machine.cpu(),
        "packages": {package: installed(package) for package in PACKAGES},
        "programs": {program: shutil.which(program) or "" for program in PROGRAMS},
        "cuda": torch.version.cuda or "",
        "driver": driver(),
        "gpu": gpu() if cuda else {},
    }
    print(json.dumps(found))
    if options.device == "cuda" and not cuda:
        sys.exit("this machine has no CUDA device that torch can use")


if __name__ == "__main__":
    main(sys.argv[1:])
