"""Owns `patchserve serve`.

Knows nothing of the service's inside; it reads the settings and runs it.
"""

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated

import typer
import uvicorn

from app import logs
from app.allocator import keep_freed_memory
from app.commands.failures import LOAD_FAILED, START_FAILED, one_line, readable_errors, stop
from app.images import forbid_bombs
from app.main import create_app
from app.settings import Settings

KEEP_ALIVE_S = 75  # longer than the common load balancers', so that they close first


def settings_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one flag for each field of Settings, so that no setting is declared twice."""
    flags = []
    for name, field in Settings.model_fields.items():
        option = typer.Option(f"--{name.replace('_', '-')}", help=field.description)
        option.show_default = str(field.default)
        annotation = Annotated[str | None, option]
        flags.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
            )
        )
    command.__signature__ = inspect.Signature(flags)  # type: ignore[attr-defined]
    command.__annotations__ = {flag.name: flag.annotation for flag in flags}
    return command


@settings_flags
def serve(**flags: str | None) -> None:
    """Serve the models over HTTP. Each flag is also a variable: PATCHSERVE_<NAME>."""
    with readable_errors():
        settings = Settings.read(**{k: v for k, v in flags.items() if v is not None})
    logs.configure(settings.log_level)
    forbid_bombs(settings.max_image_pixels)
    keep_freed_memory()
    failures: list[Exception] = []

    def on_fatal(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    with readable_errors():
        app = create_app(settings, on_fatal=on_fatal)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    server = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):  # uvicorn has stopped cleanly and passes it on
        server.run()
    if failures:
        stop(f"cannot load: {one_line(failures[0])}", LOAD_FAILED)
    if not server.started:
        stop("the service could not start; the log says why", START_FAILED)
