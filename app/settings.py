"""Owns the settings: one frozen object from PATCHSERVE_* variables and `patchserve serve` flags.

Knows nothing of who uses them; only `main` and `__main__` read it.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Literal, Self

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "PATCHSERVE_"


class Settings(BaseSettings):
    """What an operator decides. Every field is a variable PATCHSERVE_<NAME> and a flag --<name>."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    classifier: str = Field("bundled", description="`bundled`, a folder, a hub id or `none`")
    segmenter: str = Field("bundled", description="`bundled`, a folder, a hub id or `none`")
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto is float32 on a CPU and bfloat16 on CUDA"
    )
    max_batch_size: int = Field(32, ge=1, le=1024, description="images in one batch at most")
    max_queue_delay_ms: float = Field(
        0.0, ge=0, le=1000, description="how long a lone image waits for company"
    )
    max_queue_size: int = Field(256, ge=1, le=65536, description="images waiting at most, a model")
    request_timeout_s: float = Field(30.0, gt=0, le=3600, description="from the last body byte")
    max_body_bytes: int = Field(20 * 2**20, ge=1, le=2**30, description="body bytes at most")
    max_image_pixels: int = Field(50_000_000, ge=1, le=10**9, description="image pixels at most")
    host: str = Field("127.0.0.1", description="the address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="the port to listen on; 0 is any free one")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the least severe lines to log"
    )

    @classmethod
    def read(cls, **flags: object) -> Self:
        """The settings of this process: flags first, then the environment, then the defaults.

        Raises:
            ValueError: an unknown PATCHSERVE_* variable, or a value out of its bounds.
        """
        refuse_unknown(os.environ, cls.model_fields)
        return cls(**flags)  # type: ignore[arg-type]  # pydantic checks the values


def refuse_unknown(environ: Mapping[str, str], fields: Iterable[str]) -> None:
    """Refuse a misspelt variable, which would be ignored in silence.

    Kubernetes sets *_SERVICE_* and *_PORT* variables for every Service; for one that is called
    patchserve they carry our prefix and are not ours, as any that holds a tcp:// or udp:// address.
    """
    known = {PREFIX + field.upper() for field in fields}
    unknown = [
        name
        for name, value in environ.items()
        if name.startswith(PREFIX)
        and name not in known
        and not any(part in name for part in ("_SERVICE_", "_PORT_"))
        and not value.startswith(("tcp://", "udp://"))
    ]
    if unknown:
        raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
