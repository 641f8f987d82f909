"""Checks the service without a C compiler and with little memory left, and a lost device."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.common.sigterm import exit_on_sigterm
from bench.gpu_checks.first_contact import answers, start
from bench.gpu_checks.options import parsed

LEFT = 2 * 2**30  # bytes of the device that are left
WILD_STORE = 'extern "C" __global__ void wild(float* p) { p[1ll << 40] = 1.0f; }'
LOST_STATUS = 3  # exit status of the child that has lost its device as expected
Check = Callable[[str], dict[str, Any]]


def without_compiler(device: str) -> dict[str, Any]:
    """Start the service with a PATH without a C compiler and segment an image."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bin").mkdir()
        env = {"PATH": str(folder / "bin"), "TRITON_CACHE_DIR": str(folder / "triton")}
        os.environ.pop("CC", None)  # Triton would use this compiler
        return start(folder, device, ["/segment"], [], env)


def little_memory(device: str) -> dict[str, Any]:
    """Start the service while this process holds nearly all memory of the device."""
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(max(0, free - LEFT), dtype=torch.uint8, device=device)
    with tempfile.TemporaryDirectory() as name:
        figures = start(Path(name), device, ["/segment", "/classify"], [], {})
    return {"held_GiB": round(held.numel() / 2**30, 1), **figures}


def illegal_access(device: str) -> dict[str, Any]:
    """Lose the device in another process; this process's device must still work."""
    command = [sys.executable, "-m", "bench.gpu_checks.faults", "--lose-device"]
    child = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # this module
    works = torch.ones(4, device=device).sum().item() == 4
    right = child.returncode == LOST_STATUS and works
    said = (child.stdout + child.stderr)[-500:]
    return {"passed": right, "status": child.returncode, "said": said, "others work": works}


def lose_device() -> None:
    """Store outside of all memory; exit with LOST_STATUS if the engine calls the device lost."""
    from app.engine.device_errors import translate_device_errors  # only this child needs them
    from app.engine.interface import DeviceLost

    data = torch.zeros(4, device="cuda")
    kernel = torch.cuda._compile_kernel(WILD_STORE, "wild")
    try:
        with translate_device_errors(data.device):
            kernel(grid=(1, 1, 1), block=(1, 1, 1), args=[data])
            torch.cuda.synchronize()
    except DeviceLost as error:
        print(error, flush=True)
        os._exit(LOST_STATUS)  # the context is gone, so Python's cleanup could fail


def tried(check: Check, device: str) -> dict[str, Any]:
    """Return the figures of a check and whether it passed; an error is a figure."""
    try:
        figures = check(device)
        answered = "status_and_seconds" not in figures or all(
            status == 200 for status, _ in answers(figures)
        )
        return {"passed": answered, **figures}
    except Exception as error:  # noqa: BLE001  # the other checks run too
        return {"passed": False, "error": f"{type(error).__name__}: {str(error)[-1000:]}"}


@exit_on_sigterm()
def main(arguments: Sequence[str] = ()) -> None:
    """Print the figures of all checks; exit with a message if one of them failed."""
    if "--lose-device" in arguments:
        lose_device()
        return
    options = parsed("faults", arguments)
    checks: list[Check] = [without_compiler]
    if options.device == "cuda":
        checks += [little_memory, illegal_access]
    results = {check.__name__: tried(check, options.device) for check in checks}
    print(json.dumps(results))
    failed = [name for name, result in results.items() if not result["passed"]]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main(sys.argv[1:])
