"""Owns `patchserve serve`.

Knows nothing of the service's inside; it reads the settings and runs it.
"""

import inspect
from collections.abc import Callable
from typing import Annotated

import typer

from app import logs
from app.commands.failures import readable_errors, stop
from app.commands.replicating import run_replicas
from app.commands.running import run
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
    with readable_errors():
        failure = run(settings) if settings.workers == 1 else run_replicas(settings)
    if failure is not None:
        stop(failure.reason, failure.status)
