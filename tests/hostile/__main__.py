"""`python -m tests.hostile URL`: what a running service makes of the hostile corpus and of mutants.

Ends with status 1 if any answer is wrong.
"""

import argparse
import asyncio
import sys

import httpx

from tests.hostile import jpeg, others, png, tiff
from tests.hostile.asking import ASKED, Findings, ask, documented, resident_mb, send_mutants
from tests.hostile.bodies import bodies


async def report(url: str, mutants: int, ways: list[int]) -> int:
    """Send everything, print what came of it, and return the number of faults."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        known, total = await documented(client), 0
        print(f"resident at first: {await resident_mb(client):.0f} MB")
        for way in (ASKED[number] for number in ways):
            findings = Findings(known)
            for cases in (jpeg.cases, png.cases, tiff.cases, others.cases):
                for case in cases():
                    await ask(client, findings, case.name, case.data, way=way)
            for body in bodies():
                await ask(client, findings, body.name, body.content, body.headers, way)
            total += say(f"corpus, {way[0]} {dict(way[1])}", findings)
            print(f"  resident: {await resident_mb(client):.0f} MB")
        findings = Findings(known)
        await send_mutants(client, findings, range(mutants))
        total += say(f"{mutants} mutants, all ways", findings)
        print(f"  resident: {await resident_mb(client):.0f} MB")
    return total


def say(what: str, findings: Findings) -> int:
    print(what)
    for code, count in sorted(findings.codes.items()):
        print(f"  {count:6} {code}")
    print(f"  slowest: {findings.slowest[0]:.2f} s, {findings.slowest[1]}")
    for fault in findings.faults:
        print(f"  FAULT {fault}")
    return len(findings.faults)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("url", help="of a service with the default limits")
    parser.add_argument("--mutants", type=int, default=20_000, help="how many, eight at once")
    parser.add_argument("--ways", type=int, nargs="*", default=[0, 4, 5], help="of asking: 0 to 5")
    asked = parser.parse_args()
    sys.exit(1 if asyncio.run(report(asked.url, asked.mutants, asked.ways)) else 0)


if __name__ == "__main__":
    main()
