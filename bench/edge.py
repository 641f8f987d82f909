"""Measures the CPU time of a request without its image: HTTP, parsing, queueing, counting, logging.

    python -m bench.edge [CHECKOUT | --against CHECKOUT] [--rounds N]

The service runs as a process on an engine without computation, and wrk sends the requests. Their
bodies have the bytes of a photograph but only 8 x 8 pixels. With a checkout of another version,
both versions are measured in the same rounds, and the table has the median over rounds of the
ratio ours / other with its 95 % confidence interval (order statistics); the table is then only
printed. A comparison has 15 rounds by default and takes 3 minutes; other runs have 7 rounds.
"""

import argparse
import base64
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from bench.common.machine import cpu
from bench.common.ratios import CONFIDENCE, paired_ratio
from bench.common.sigterm import exit_on_sigterm

RESULTS = Path(__file__).parent / "results" / "edge.md"
ROUNDS, COMPARED_ROUNDS = 7, 15  # without and with another version
SECONDS, CONNECTIONS = 1, 16  # length of a measurement, connections of wrk
SCRIPTS = (  # the serving program: its path now and in older versions
    Path("bench", "serving", "instant_engine.py"),
    Path("bench", "instant.py"),
)
BODY = 80_000  # bytes, like a JPEG photograph of 640 x 480
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
    """A path, and the content type and body that are sent there."""

    path: str
    content_type: str = ""
    body: bytes = b""


Results = dict[str, dict[str, list[float]]]  # microseconds of each round, by load and service


class Service(NamedTuple):
    """A server process."""

    pid: int
    url: str

    def cpu_s(self) -> float:
        """Return the CPU time of all its threads, in seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def loads() -> dict[str, Load]:
    """Return a request for each form of the body, and a probe."""
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
    """Return a JPEG of 8 x 8 pixels, with comments that give it the size of a photograph."""
    file = BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "JPEG")
    small = file.getvalue()
    comment = b"\xff\xfe" + (BODY // 2).to_bytes(2, "big") + bytes(BODY // 2 - 2)
    return small[:2] + 2 * comment + small[2:]


@contextmanager
def serving(which: str, checkout: Path) -> Iterator[Service]:
    """Start `bare` or `ours` of a checkout, by this checkout's own program."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = next(checkout / path for path in SCRIPTS if (checkout / path).is_file())
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
    """Poll /readyz until it answers 200."""
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
    """Return the CPU time of one request."""
    body, script = folder / "body", folder / "load.lua"
    body.write_bytes(load.body)
    method = "POST" if load.body else "GET"
    script.write_text(LUA.format(method=method, content_type=load.content_type, file=body))
    before = service.cpu_s()
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-s", str(script)]
    wrk = subprocess.run([*command, service.url + load.path], check=True, capture_output=True)  # noqa: S603
    used = service.cpu_s() - before
    requests, failed = (int(number) for number in wrk.stdout.split()[-2:])
    if failed:
        raise RuntimeError(f"{failed} of {requests} requests to {load.path} failed")
    return used / requests * 1e6


def measure(services: Mapping[str, Service], rounds: int) -> Results:
    """Measure in interleaved rounds; the order of the services is reversed in every second one."""
    results: Results = {name: {service: [] for service in services} for name in loads()}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            order = list(services) if number % 2 == 0 else list(services)[::-1]
            for name, load in loads().items():
                for service in order:
                    taken = microseconds(services[service], load, Path(folder))
                    results[name][service].append(taken)
    return results


def table(results: Results) -> list[str]:
    """Return the medians, the ratio of our service to the bare app, and that to the other one."""
    names = list(next(iter(results.values())))
    compared = ["ours / other"] if "other" in names else []
    heads = ["request", *names, "ours / bare", *compared]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, row in results.items():
        medians = {service: statistics.median(taken) for service, taken in row.items()}
        cells = [f"{medians[service]:.0f} us" for service in names]
        cells.append(f"{medians['ours'] / medians['bare']:.1f}")
        cells += [str(paired_ratio(row["ours"], row["other"])) for _ in compared]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def page(results: Results) -> str:
    """Return the introduction and the table."""
    first = next(iter(results.values()))
    rounds = len(first["ours"])
    ratio = (
        f" `other` is the same in another version; ours / other is the median over rounds, with "
        f"the {CONFIDENCE:.0%} interval of this median in brackets."
        if "other" in first
        else ""
    )
    lines = [
        "# The cost of a request without its image",
        "",
        f"CPU time of the service's process per request, on {cpu()}. All bodies have "
        f"{BODY // 1000} kB, except the probe's; {CONNECTIONS} connections; medians of {rounds} "
        "interleaved rounds. `bare` is an ASGI app under uvicorn that reads the body and responds. "
        "`ours` is the whole service on an engine without computation, with images of 8 x 8 "
        "pixels, so that decoding is hardly more than opening a file. The time to wake other "
        f"threads and wrk is included.{ratio}",
        "",
        *table(results),
        "",
    ]
    return "\n".join(lines)


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="bench.edge",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    checkout = parser.add_mutually_exclusive_group()
    help_ = "another checkout of this project, measured in the same rounds"
    checkout.add_argument("checkout", nargs="?", type=Path, metavar="CHECKOUT", help=help_)
    checkout.add_argument("--against", type=Path, metavar="CHECKOUT", help="the same")
    parser.add_argument("--rounds", type=int, help="7 by default; 15 with another checkout")
    given = parser.parse_args(arguments)
    given.against = given.against or given.checkout
    if given.against and not any((given.against / path).is_file() for path in SCRIPTS):
        parser.error(f"{given.against} is no checkout of this project")
    return given


@exit_on_sigterm()
def main(arguments: Sequence[str] = ()) -> None:
    """Print the table; write it unless it is a comparison."""
    given = parsed(arguments)
    here = Path(__file__).resolve().parents[1]
    with ExitStack() as stack:
        services = {name: stack.enter_context(serving(name, here)) for name in ("bare", "ours")}
        if given.against is not None:
            other = serving("ours", given.against.resolve())
            services["other"] = stack.enter_context(other)
        rounds = given.rounds or (COMPARED_ROUNDS if given.against else ROUNDS)
        results = measure(services, rounds)
    print(page(results))
    if given.against is None:
        RESULTS.write_text(page(results))


if __name__ == "__main__":
    main(sys.argv[1:])
