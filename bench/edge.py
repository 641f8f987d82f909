"""Measures what a request costs beside its image: HTTP, ASGI, parsing, queueing, counting, logging.

Serves engines that answer at once as real processes, drives them with wrk, and counts their
processor time. The body has the bytes of a photograph and next to none of its pixels.

    python -m bench.edge [a checkout of another version, measured in the same run]
"""

import base64
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from bench.common.machine import cpu

RESULTS = Path(__file__).parent / "results" / "edge.md"
ROUNDS, SECONDS, CONNECTIONS = 7, 1, 16
BODY = 80_000  # bytes, of a JPEG photograph of 640 x 480
BOUNDARY = "frontier"
LUA = """
wrk.method = "{method}"
wrk.headers["Content-Type"] = "{content_type}"
wrk.body = io.open("{file}", "rb"):read("*a")
function done(summary)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write("counted ", summary.requests, " ", failed, "\\n")
end
"""


class Load(NamedTuple):
    """What is sent: where to, and what."""

    path: str
    content_type: str = ""
    body: bytes = b""


class Service(NamedTuple):
    """A process that answers."""

    pid: int
    url: str

    def cpu_s(self) -> float:
        """The processor time it has used, all threads, in seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def loads() -> dict[str, Load]:
    """Every form of a body, and a probe."""
    image = jpeg()
    disposition = 'Content-Disposition: form-data; name="file"; filename="photo.jpg"'
    head = f"--{BOUNDARY}\r\n{disposition}\r\nContent-Type: image/jpeg\r\n\r\n"
    multipart = head.encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()
    json = b'{"image": "' + base64.b64encode(image) + b'"}'
    return {
        "raw": Load("/classify", "image/jpeg", image),
        "multipart": Load("/classify", f"multipart/form-data; boundary={BOUNDARY}", multipart),
        "JSON": Load("/classify", "application/json", json),
        "probe": Load("/livez"),
    }


def jpeg() -> bytes:
    """A file of 8 x 8 pixels, with comments until it has the bytes of a photograph."""
    file = BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "JPEG")
    small = file.getvalue()
    comment = b"\xff\xfe" + (BODY // 2).to_bytes(2, "big") + bytes(BODY // 2 - 2)
    return small[:2] + 2 * comment + small[2:]


@contextmanager
def serving(which: str, checkout: Path) -> Iterator[Service]:
    """`bare` or `ours`, of a checkout, in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).parent / "serving" / "instant_engine.py"
    command = [sys.executable, "-P", str(script), which, str(port)]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        service = Service(process.pid, f"http://127.0.0.1:{port}")
        wait_until_ready(service.url)
        yield service
    finally:
        process.terminate()
        process.wait()


def wait_until_ready(url: str) -> None:
    """Ask until /readyz answers 200."""
    ends = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{url}/readyz").close()  # noqa: S310  # nosec B310  # ours
            return
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.1)


def microseconds(service: Service, load: Load, folder: Path) -> float:
    """The processor time of one request."""
    body, script = folder / "body", folder / "load.lua"
    body.write_bytes(load.body)
    method = "POST" if load.body else "GET"
    script.write_text(LUA.format(method=method, content_type=load.content_type, file=body))
    began = service.cpu_s()
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-s", str(script)]
    told = subprocess.run([*command, service.url + load.path], check=True, capture_output=True)  # noqa: S603
    used = service.cpu_s() - began
    requests, failed = (int(number) for number in told.stdout.split()[-2:])
    if failed:
        raise RuntimeError(f"{failed} of {requests} requests to {load.path} failed")
    return used / requests * 1e6


def measure(services: Mapping[str, Service]) -> dict[str, dict[str, float]]:
    """Medians over interleaved rounds: microseconds by load and service."""
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            for what, load in loads().items():
                for name, service in services.items():
                    taken[what, name].append(microseconds(service, load, Path(folder)))
    found: dict[str, dict[str, float]] = {what: {} for what in loads()}
    for (what, name), values in taken.items():
        found[what][name] = statistics.median(values)
    return found


def table(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The medians, and what we cost as a multiple of the bare app."""
    names = list(next(iter(found.values())))
    lines = [f"| request | {' | '.join(names)} | ours / bare |", "|---" * (len(names) + 2) + "|"]
    for what, row in found.items():
        shown = " | ".join(f"{row[name]:.0f} us" for name in names)
        lines.append(f"| {what} | {shown} | {row['ours'] / row['bare']:.1f} |")
    return lines


def page(found: Mapping[str, Mapping[str, float]]) -> str:
    """The results as they are kept."""
    lines = [
        "# What a request costs beside its image",
        "",
        f"Processor time of the service's process for one request, {BODY // 1000} kB in all but "
        f"the probe, {CONNECTIONS} connections, on {cpu()}; medians of {ROUNDS} interleaved "
        "rounds. `bare` is an ASGI app under uvicorn that reads the body and answers. `ours` is "
        "the whole service on an engine that answers at once; its image has 8 x 8 pixels, so that "
        "decoding is the opening of a file. What wakes another thread or wrk is in it.",
        "",
        *table(found),
        "",
    ]
    return "\n".join(lines)


def main(other: str | None = None) -> None:
    """Print the table, and keep it unless it is a comparison."""
    here = Path(__file__).resolve().parents[1]
    with ExitStack() as stack:
        services = {name: stack.enter_context(serving(name, here)) for name in ("bare", "ours")}
        if other is not None:
            services["other"] = stack.enter_context(serving("ours", Path(other).resolve()))
        found = measure(services)
    print(page(found))
    if other is None:
        RESULTS.write_text(page(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
