"""Owns `patchserve serve`.

Knows nothing of the service's inside; it reads the settings and runs it.
"""

import inspect
from collections.abc import Callable
from typing import Annotated

import typer

from app import logs
from app.commands.failures import readable_errors
from app.commands.replicating import run_replicas
from app.commands.running import listen, run
from app.ending import end, write_out
from app.settings import Settings


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
    with readable_errors(), listen(settings) as listening:
        several = settings.workers > 1
        failure = run_replicas(settings, listening) if several else run(settings, listening)
    if failure is None:
        end(0)
    write_out()
    typer.echo(f"patchserve: {failure.reason}", err=True)
    end(failure.status)
