"""The service as a process, with an HTTP client for it."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx


@asynccontextmanager
async def serving(*flags: str) -> AsyncIterator[httpx.AsyncClient]:
    """Start `patchserve serve` with these flags and yield a client as soon as it is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    patchserve = Path(sys.executable).with_name("patchserve")
    command = [str(patchserve), "serve", "--port", str(port), "--log-level", "warning", *flags]
    command += ["--lame-duck-s", "0"]  # there is no load balancer that has to notice the shutdown
    process = await asyncio.create_subprocess_exec(*command)
    try:
        transport = httpx.AsyncHTTPTransport(retries=10)
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(transport=transport, base_url=url, timeout=60) as client:
            while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.1)
            yield client
    finally:
        process.terminate()
        await process.wait()
