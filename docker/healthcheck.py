"""The health check of the image: exits with 0 if /livez of the service in this container is 200.

`python healthcheck.py /proc/1/cmdline` reads the flags of the service from that file.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection  # unlike urllib, it ignores proxies in the environment
from pathlib import Path

DEFAULTS = {"port": 8000, "ops_port": 0}  # of the service; 0: there is no ops port


def setting(name: str, command: Sequence[str], environment: Mapping[str, str]) -> int:
    """A port as `patchserve serve` reads it: from its flag, its variable, or the default."""
    value = environment.get(f"PATCHSERVE_{name.upper()}") or DEFAULTS[name]
    flag = "--" + name.replace("_", "-")
    for word, following in zip(command, [*command[1:], ""], strict=True):
        if word == flag:
            value = following
        elif word.startswith(f"{flag}="):
            value = word.removeprefix(f"{flag}=")
    return int(value)


def main() -> int:
    """Return the exit status."""
    command = Path(sys.argv[1]).read_text().split("\0")
    port = setting("ops_port", command, os.environ) or setting("port", command, os.environ)
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    connection.request("GET", "/livez")
    return int(connection.getresponse().status != 200)


if __name__ == "__main__":
    sys.exit(main())
