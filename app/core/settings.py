"""Owns the settings: one frozen object from PATCHSERVE_* variables and `patchserve serve` flags.

Knows nothing of who uses them; only `main` and `__main__` read it.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from app.core.api_keys import checked, keys_in

PREFIX = "PATCHSERVE_"
INJECTED_NAMES = ("_SERVICE_", "_PORT_")
INJECTED_VALUES = ("tcp://", "udp://", "sctp://")
FORMATS = ("jpeg", "png", "webp", "gif", "bmp", "tiff")
ORIGIN = re.compile(r"\*|https?://[\w.:\[\]-]+", re.ASCII)


class Environment(EnvSettingsSource):
    """The environment without what Kubernetes puts there for every Service.

    For one that is called patchserve, or patchserve-something, its variables carry our prefix:
    PATCHSERVE_SERVICE_HOST, PATCHSERVE_PORT_8000_TCP_ADDR, and even our PATCHSERVE_PORT, as a URL.
    """

    def __init__(self, settings_class: type[BaseSettings]) -> None:
        super().__init__(settings_class)
        self.env_vars = {
            name: value for name, value in self.env_vars.items() if not injected(name, value or "")
        }


class Settings(BaseSettings):
    """What an operator decides. Every field is a variable PATCHSERVE_<NAME> and a flag --<name>.

    A secret is no flag: every user of the machine sees the command lines of all processes.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    classifier: str = Field("bundled", description="`bundled`, a folder, a hub id or `none`")
    segmenter: str = Field("bundled", description="`bundled`, a folder, a hub id or `none`")
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto is float32 on a CPU and bfloat16 on CUDA"
    )
    runtime: Literal["auto", "torch", "openvino"] = Field(
        "auto", description="on a CPU; auto is the quicker one, if OpenVINO is installed"
    )
    classifier_input_size: int = Field(
        0, ge=0, le=4096, description="pixels a side; 0 is what the checkpoint says"
    )
    segmenter_input_size: int = Field(
        0, ge=0, le=4096, description="pixels a side; 0 is what the checkpoint says"
    )
    max_batch_size: int = Field(32, ge=1, le=1024, description="images in one batch at most")
    max_queue_delay_ms: float = Field(
        0.0, ge=0, le=1000, description="how long a lone image waits for company"
    )
    max_queue_size: int = Field(256, ge=1, le=65536, description="images waiting at most, a model")
    request_timeout_s: float = Field(30.0, gt=0, le=3600, description="from the last body byte")
    lame_duck_s: float = Field(
        5.0, ge=0, le=600, description="how long work is still taken after SIGTERM"
    )
    drain_timeout_s: float = Field(
        12.0, ge=0, le=3600, description="how long what was taken is waited for after that"
    )
    max_body_bytes: int = Field(20 * 2**20, ge=1, le=2**30, description="body bytes at most")
    max_body_bytes_in_flight: int = Field(
        256 * 2**20,
        ge=1,
        le=2**40,
        validate_default=True,
        description="bytes of all bodies that are being uploaded or worked on, at most",
    )
    upload_timeout_s: float = Field(
        60.0, gt=0, le=3600, description="from the headers to the last body byte"
    )
    min_upload_bytes_per_s: int = Field(
        1024, ge=0, le=2**30, description="how quickly a body must come in, on average"
    )
    max_header_bytes: int = Field(
        16 * 2**10, ge=1024, le=2**20, description="bytes of a request line and its headers at most"
    )
    header_timeout_s: float = Field(10.0, gt=0, le=3600, description="for those to come in")
    max_connections: int = Field(2048, ge=1, le=10**6, description="open at once, a replica")
    max_image_pixels: int = Field(50_000_000, ge=1, le=10**9, description="image pixels at most")
    max_decoded_pixels: int = Field(
        200_000_000,
        ge=1,
        le=10**12,
        validate_default=True,
        description="pixels of all images that are being decoded, at most",
    )
    image_formats: str = Field(
        ",".join(FORMATS), description="the formats that are taken, comma-separated"
    )
    jpeg_decode: Literal["exact", "scaled"] = Field(
        "exact",
        description="scaled decodes a large JPEG at 1/2, 1/4 or 1/8, never below twice the input",
    )
    workers: int = Field(1, ge=1, le=64, description="replicas, each a process of its own")
    host: str = Field("127.0.0.1", description="the address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="the port to listen on; 0 is any free one")
    ops_host: str = Field("", description="the address of ops-port; empty is that of host")
    ops_port: int = Field(
        0, ge=0, le=65535, description="a port for the probes and /metrics alone; 0 is the same"
    )
    api_keys: SecretStr = Field(
        SecretStr(""), description="comma-separated; who has none of them is refused; empty is off"
    )
    api_keys_file: str = Field(
        "", description="more of them, one a line, `#` begins a comment; read once, at the start"
    )
    cors_origins: str = Field(
        "", description="origins of web pages that may ask, comma-separated, or `*`; empty is none"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the least severe lines to log"
    )

    @field_validator("image_formats")
    @classmethod
    def know_formats(cls, text: str) -> str:
        """Refuse a format that nothing decodes, and a list of none."""
        formats = listed(text.lower())
        if not formats or not set(formats) <= set(FORMATS):
            raise ValueError(f"must be some of {', '.join(FORMATS)}")
        return ",".join(formats)

    @field_validator("cors_origins")
    @classmethod
    def know_origins(cls, text: str) -> str:
        """Refuse what no browser sends as an origin: it would never match."""
        origins = listed(text)
        if not all(map(ORIGIN.fullmatch, origins)) or ("*" in origins and len(origins) > 1):
            raise ValueError("must be `*`, or scheme://host or scheme://host:port of each origin")
        return ",".join(origins)

    @field_validator("api_keys")
    @classmethod
    def check_keys(cls, keys: SecretStr) -> SecretStr:
        """Refuse a key that could be guessed, or not be sent."""
        text = keys.get_secret_value()
        return SecretStr(",".join(checked(listed(text)))) if text else keys

    @field_validator("max_decoded_pixels")
    @classmethod
    def hold_one_image(cls, pixels: int, info: ValidationInfo) -> int:
        """Refuse a bound that the largest image would exceed by itself."""
        largest = info.data.get("max_image_pixels", 0)
        if pixels < largest:
            raise ValueError(f"must be at least max_image_pixels, which is {largest}")
        return pixels

    @field_validator("max_body_bytes_in_flight")
    @classmethod
    def hold_one_body(cls, size: int, info: ValidationInfo) -> int:
        """Refuse a bound that the largest body would exceed by itself."""
        largest = info.data.get("max_body_bytes", 0)
        if size < largest:
            raise ValueError(f"must be at least max_body_bytes, which is {largest}")
        return size

    @classmethod
    def flags(cls) -> Mapping[str, FieldInfo]:
        """The fields that are flags, by name."""
        fields = cls.model_fields.items()
        return {name: field for name, field in fields if field.annotation is not SecretStr}

    @property
    def keys(self) -> tuple[str, ...]:
        """The API keys; none is off."""
        return listed(self.api_keys.get_secret_value())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags first, then the environment; no files."""
        return init_settings, Environment(settings_cls)

    @classmethod
    def read(cls, **flags: object) -> Self:
        """The settings of this process: flags first, then the environment, then the defaults.

        The API keys of a file become those of the settings: who gets them need not read it again,
        and finds the same.

        Raises:
            ValueError: an unknown PATCHSERVE_* variable, or a value out of its bounds.
            OSError: the file of the API keys cannot be read.
        """
        refuse_unknown(Environment(cls).env_vars, cls.model_fields)
        settings = cls(**flags)  # type: ignore[arg-type]  # pydantic checks the values
        if not settings.api_keys_file:
            return settings
        keys = checked([*settings.keys, *keys_in(Path(settings.api_keys_file))])
        return settings.model_copy(update={"api_keys": SecretStr(",".join(keys))})


def listed(text: str) -> tuple[str, ...]:
    """The words between the commas, each once."""
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def refuse_unknown(names: Iterable[str], fields: Iterable[str]) -> None:
    """Refuse a misspelt variable, which would be ignored in silence."""
    ours = {name.upper() for name in names if name.upper().startswith(PREFIX)}
    unknown = ours - {PREFIX + field.upper() for field in fields}
    if unknown:
        raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")


def injected(name: str, value: str) -> bool:
    """Whether a variable with our prefix is one of those that Kubernetes sets for a Service."""
    named = any(part in name.upper() for part in INJECTED_NAMES)
    return name.upper().startswith(PREFIX) and (named or value.startswith(INJECTED_VALUES))
