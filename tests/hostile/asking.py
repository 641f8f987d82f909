"""Sends hostile requests to a running service, and finds what is wrong with its answers."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from io import BytesIO

import httpx
from PIL import Image

from tests.hostile.mutants import mutant

ASKED = (
    ("/classify", {}),
    ("/classify?output=embedding", {}),
    ("/segment", {}),
    ("/segment?render=color", {}),
    ("/segment?render=overlay", {}),
    ("/segment", {"accept": "application/json"}),
)
LONGEST_S = 10.0  # what any request may take
RESIDENT = "process_resident_memory_bytes "


@dataclass
class Findings:
    """What came of a number of requests."""

    documented: Mapping[tuple[str, int], frozenset[str]]
    faults: list[str] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "")

    def note(self, name: str, path: str, answer: httpx.Response, seconds: float) -> str:
        """Count an answer and return its code, `ok` for one of status 200."""
        code = "ok" if answer.status_code == 200 else refusal(answer)
        self.codes[f"{answer.status_code} {code}"] += 1
        self.slowest = max(self.slowest, (seconds, f"{name} {path}"))
        known = self.documented.get((path.partition("?")[0], answer.status_code), frozenset())
        if answer.status_code >= 500 or (code != "ok" and code not in known):
            self.faults.append(f"{name} {path}: {answer.status_code} {answer.text[:200]}")
        elif code == "ok" and answer.headers["content-type"] == "image/png":
            self.look_at(f"{name} {path}", answer.content)
        return code

    def look_at(self, name: str, picture: bytes) -> None:
        """Note a picture that cannot be read."""
        try:
            with Image.open(BytesIO(picture)) as opened:
                opened.verify()
        except (OSError, SyntaxError, ValueError) as error:
            self.faults.append(f"{name}: {error!r}")


def refusal(answer: httpx.Response) -> str:
    """The code of a problem; what is none has no code."""
    if answer.headers.get("content-type") != "application/problem+json":
        return "no problem"
    code = answer.json()["code"]
    assert answer.json()["status"] == answer.status_code
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    return code


async def documented(client: httpx.AsyncClient) -> dict[tuple[str, int], frozenset[str]]:
    """The codes that the service's own document knows, by path and status."""
    paths = (await client.get("/openapi.json")).json()["paths"]
    return {
        (path, int(status)): frozenset(
            answer["content"].get("application/problem+json", {}).get("examples", ())
        )
        for path in paths
        for status, answer in paths[path].get("post", {}).get("responses", {}).items()
    }


async def ask(
    client: httpx.AsyncClient,
    findings: Findings,
    name: str,
    content: bytes,
    headers: Mapping[str, str] = {},
    way: tuple[str, Mapping[str, str]] = ASKED[0],
) -> str:
    """Send one request and return the code of its answer."""
    path, accept = way
    began = time.monotonic()
    try:
        answer = await client.post(path, content=content, headers={**headers, **accept})
    except httpx.HTTPError as error:
        findings.faults.append(f"{name} {path}: {error!r}")
        return "no answer"
    return findings.note(name, path, answer, time.monotonic() - began)


async def send_mutants(
    client: httpx.AsyncClient, findings: Findings, numbers: Iterable[int], at_once: int = 8
) -> None:
    """Send the mutants of these numbers, each to one of the ways to ask, some at a time."""
    waiting = iter(numbers)

    async def some() -> None:
        for number in waiting:
            way = ASKED[number % len(ASKED)]
            await ask(client, findings, f"mutant {number}", mutant(number), way=way)

    await asyncio.gather(*(some() for _ in range(at_once)))


async def resident_mb(client: httpx.AsyncClient) -> float:
    """The memory that the service holds."""
    series = (await client.get("/metrics")).text.splitlines()
    (line,) = (line for line in series if line.startswith(RESIDENT))
    return float(line.removeprefix(RESIDENT)) / 2**20
