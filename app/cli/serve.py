"""`patchserve serve`: its flags, the listening sockets, and a warning about an open port."""

import inspect
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Annotated

import typer

from app.cli.console import readable_errors, stop
from app.cli.run import run, run_replicas
from app.core.process import START_FAILED, exit_now
from app.core.settings import Settings, split_commas
from app.imaging.heif_plugins import check_formats
from app.observability import logs
from app.server.accept import BACKLOG

logger = logging.getLogger(__name__)


@contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Open a listening socket; exit with a one-line message if that fails."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        why, _, _ = (error.strerror or str(error)).partition(" (")  # the rest repeats the address
        stop(f"cannot listen on {host}:{port}: {why.lower()}", START_FAILED)
    with listening:
        yield listening


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to an address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a host name, or empty: all addresses
        return False


def settings_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command a flag for each setting, so that no setting is declared twice."""
    flags = []
    for name, field in Settings.flags().items():
        is_switch = field.annotation is bool
        default = f" [default: {field.default}]" if field.default != "" and not is_switch else ""
        flag = name.replace("_", "-")
        option = typer.Option(
            f"--{flag}/--no-{flag}" if is_switch else f"--{flag}",
            help=f"{field.description}{default}",
            show_default=False,
        )
        annotation = Annotated[bool | None, option] if is_switch else Annotated[str | None, option]
        flags.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
            )
        )
    command.__signature__ = inspect.Signature(flags)  # type: ignore[attr-defined]
    command.__annotations__ = {flag.name: flag.annotation for flag in flags}
    return command


@settings_flags
def serve(**flags: str | bool | None) -> None:
    """Serve the models over HTTP. Each flag is also an environment variable PATCHSERVE_<NAME>."""
    with readable_errors():
        settings = Settings.read(**{k: v for k, v in flags.items() if v is not None})
        check_formats(split_commas(settings.image_formats))
    logs.configure(settings.log_level)
    with (
        readable_errors(),
        listen(settings.host, settings.port) as listening,
        ops_socket(settings) as ops,
    ):
        warn_if_open(settings)
        if settings.workers > 1:
            failure = run_replicas(settings, listening, ops)
        else:
            failure = run(settings, listening, ops=ops)
    if failure is None:
        exit_now(0)
    exit_now(failure.status, f"patchserve: {failure.reason}")


def warn_if_open(settings: Settings) -> None:
    """Log a warning if other machines can use the service without an API key."""
    if not settings.keys and not is_loopback(settings.host):
        logger.warning(
            "every client that reaches %s:%d can use the service: no API keys are configured",
            settings.host,
            settings.port,
        )


@contextmanager
def ops_socket(settings: Settings) -> Iterator[socket.socket | None]:
    """Open the socket of the probes and /metrics if they have their own port."""
    if settings.ops_port == 0:
        yield None
        return
    with listen(settings.ops_host or settings.host, settings.ops_port) as listening:
        logger.info("probes and /metrics are at %s:%d", *listening.getsockname()[:2])
        yield listening
