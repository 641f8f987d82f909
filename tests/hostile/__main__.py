"""`python -m tests.hostile URL`: sends the hostile corpus and mutants to a running service.

Ends with status 1 if any response is wrong.
"""

import argparse
import asyncio
import sys

import httpx

from tests.hostile import costly, heif, jpeg, others, png, tiff
from tests.hostile.bodies import bodies
from tests.hostile.client import (
    REQUESTS,
    Findings,
    documented,
    resident_mb,
    send,
    send_mutants,
)

COSTLY_SIDE = 2000  # pixels


async def report(url: str, mutants: int, kinds: list[int]) -> int:
    """Send everything, print the outcomes, and return the number of faults."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        known, total = await documented(client), 0
        print(f"resident at the start: {await resident_mb(client):.0f} MB")
        for request in (REQUESTS[number] for number in kinds):
            findings = Findings(known)
            for cases in (jpeg.cases, png.cases, tiff.cases, others.cases, heif.cases):
                for case in cases():
                    await send(client, findings, case.name, case.data, request=request)
            for case in costly.cases(COSTLY_SIDE):
                await send(client, findings, case.name, case.data, request=request)
            for body in bodies():
                await send(client, findings, body.name, body.content, body.headers, request)
            total += report_findings(f"corpus, {request[0]} {dict(request[1])}", findings)
            print(f"  resident: {await resident_mb(client):.0f} MB")
        findings = Findings(known)
        await send_mutants(client, findings, range(mutants))
        total += report_findings(f"{mutants} mutants, all kinds of requests", findings)
        print(f"  resident: {await resident_mb(client):.0f} MB")
    return total


def report_findings(title: str, findings: Findings) -> int:
    """Print the findings under a title, and return the number of faults."""
    print(title)
    for code, count in sorted(findings.codes.items()):
        print(f"  {count:6} {code}")
    print(f"  slowest: {findings.slowest[0]:.2f} s, {findings.slowest[1]}")
    for fault in findings.faults:
        print(f"  FAULT {fault}")
    return len(findings.faults)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("url", help="address of a service with the default limits")
    parser.add_argument(
        "--mutants", type=int, default=20_000, help="number of mutants, eight at a time"
    )
    parser.add_argument(
        "--kinds", type=int, nargs="*", default=[0, 4, 5], help="of requests: 0 to 5"
    )
    options = parser.parse_args()
    sys.exit(1 if asyncio.run(report(options.url, options.mutants, options.kinds)) else 0)


if __name__ == "__main__":
    main()
