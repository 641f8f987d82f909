"""Sends hostile requests to a running service and finds faults in its responses."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from io import BytesIO

import httpx
from PIL import Image

from tests.hostile.mutants import mutant

REQUESTS = (
    ("/classify", {}),
    ("/classify?output=embedding", {}),
    ("/segment", {}),
    ("/segment?render=color", {}),
    ("/segment?render=overlay", {}),
    ("/segment", {"accept": "application/json"}),
)
LONGEST_S = 10.0  # any request must end within this time
RESIDENT = "process_resident_memory_bytes "


@dataclass
class Findings:
    """The outcomes of a number of requests."""

    documented: Mapping[tuple[str, int], frozenset[str]]
    faults: list[str] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "")

    def add(self, name: str, path: str, response: httpx.Response, seconds: float) -> str:
        """Count a response and return its code, `ok` for status 200."""
        code = "ok" if response.status_code == 200 else refusal(response)
        self.codes[f"{response.status_code} {code}"] += 1
        self.slowest = max(self.slowest, (seconds, f"{name} {path}"))
        known = self.documented.get((path.partition("?")[0], response.status_code), frozenset())
        if response.status_code >= 500 or (code != "ok" and code not in known):
            self.faults.append(f"{name} {path}: {response.status_code} {response.text[:200]}")
        elif code == "ok" and response.headers["content-type"] == "image/png":
            self.check_image(f"{name} {path}", response.content)
        return code

    def check_image(self, name: str, picture: bytes) -> None:
        """Add a fault if an image cannot be read."""
        try:
            with Image.open(BytesIO(picture)) as opened:
                opened.verify()
        except (OSError, SyntaxError, ValueError) as error:
            self.faults.append(f"{name}: {error!r}")


def refusal(response: httpx.Response) -> str:
    """The code of a problem; "no problem" for a body of another type."""
    if response.headers.get("content-type") != "application/problem+json":
        return "no problem"
    code = response.json()["code"]
    assert response.json()["status"] == response.status_code
    assert response.json()["request_id"] == response.headers["x-request-id"]
    return code


async def documented(client: httpx.AsyncClient) -> dict[tuple[str, int], frozenset[str]]:
    """The codes in the service's OpenAPI document, by path and status."""
    paths = (await client.get("/openapi.json")).json()["paths"]
    return {
        (path, int(status)): frozenset(
            response["content"].get("application/problem+json", {}).get("examples", ())
        )
        for path in paths
        for status, response in paths[path].get("post", {}).get("responses", {}).items()
    }


async def send(
    client: httpx.AsyncClient,
    findings: Findings,
    name: str,
    content: bytes,
    headers: Mapping[str, str] = {},
    request: tuple[str, Mapping[str, str]] = REQUESTS[0],
) -> str:
    """Send one request and return the code of its response."""
    path, accept = request
    began = time.monotonic()
    try:
        response = await client.post(path, content=content, headers={**headers, **accept})
    except httpx.HTTPError as error:
        findings.faults.append(f"{name} {path}: {error!r}")
        return "no response"
    return findings.add(name, path, response, time.monotonic() - began)


async def send_mutants(
    client: httpx.AsyncClient, findings: Findings, numbers: Iterable[int], concurrency: int = 8
) -> None:
    """Send the mutants of these numbers, each with one of the kinds of requests."""
    waiting = iter(numbers)

    async def send_some() -> None:
        for number in waiting:
            request = REQUESTS[number % len(REQUESTS)]
            await send(client, findings, f"mutant {number}", mutant(number), request=request)

    await asyncio.gather(*(send_some() for _ in range(concurrency)))


async def resident_mb(client: httpx.AsyncClient) -> float:
    """The resident memory of the service in MiB."""
    series = (await client.get("/metrics")).text.splitlines()
    (line,) = (line for line in series if line.startswith(RESIDENT))
    return float(line.removeprefix(RESIDENT)) / 2**20
