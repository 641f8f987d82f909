"""The settings: one frozen object, read from PATCHSERVE_* variables and `patchserve serve` flags.

Only `main` and the commands read settings; every other module receives plain arguments.
"""

import os
import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_network
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

from app.core.api_keys import read_keys, validate_keys
from app.core.types import DEFAULT_IMAGE_FORMATS, IMAGE_FORMATS, IMAGE_SUFFIXES

PREFIX = "PATCHSERVE_"
INJECTED_NAMES = ("_SERVICE_", "_PORT_")  # parts of variable names that Kubernetes sets
INJECTED_VALUES = ("tcp://", "udp://", "sctp://")  # how their values start
ROOT_PATH = re.compile(r"(/[\w.~-]+)*", re.ASCII)
ORIGIN = re.compile(r"\*|https?://[\w.:\[\]-]+", re.ASCII)


class Environment(EnvSettingsSource):
    """The environment without the variables that Kubernetes sets for each of its Services.

    For a Service named patchserve or patchserve-something, these variables start with PATCHSERVE_:
    PATCHSERVE_SERVICE_HOST, PATCHSERVE_PORT_8000_TCP_ADDR, and even PATCHSERVE_PORT, as a URL.
    """

    def __init__(self, settings_class: type[BaseSettings]) -> None:
        super().__init__(settings_class)
        self.env_vars = {
            name: value
            for name, value in self.env_vars.items()
            if not set_by_kubernetes(name, value or "")
        }


class Settings(BaseSettings):
    """The settings of the service. Each field is a variable PATCHSERVE_<NAME> and a flag --<name>.

    A secret has no flag: every user of a machine can read the command lines of all processes.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    classifier: str = Field(
        "bundled",
        description="Checkpoint of the classifier: `bundled`, a folder, a Hub id, or `none`",
    )
    segmenter: str = Field(
        "bundled",
        description="Checkpoint of the segmenter: `bundled`, a folder, a Hub id, or `none`",
    )
    classifier_labels: str = Field(
        "",
        description="File of the classifier's labels, one a line, for each output of the network; "
        "empty: those of the checkpoint",
    )
    segmenter_labels: str = Field(
        "",
        description="File of the segmenter's labels, one a line, for each output of the network; "
        "empty: those of the checkpoint",
    )
    arch: str = Field(
        "",
        description="Architecture of a classifier that is a bare file of weights, as its library "
        "names it, such as `vit_tiny_patch16_224`; empty: as the weights tell",
    )
    strict: bool = Field(
        False,
        description="Refuse a checkpoint that leaves something open, such as its labels or its "
        "preprocessing; with `--no-strict` it is assumed, with a warning",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="Device that runs the models: `auto`, `cpu`, `cuda` or `cuda:N`; "
        "`auto` is CUDA if there is a GPU, else the CPU",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Number format of the models: `auto`, `float32`, `bfloat16` or `float16`; "
        "`auto` is float32 on a CPU; on CUDA it is bfloat16, or float16 if the GPU has no native "
        "bfloat16",
    )
    runtime: Literal["auto", "torch", "openvino"] = Field(
        "auto",
        description="Runtime on a CPU: `auto`, `torch` or `openvino`; `auto` is the faster one "
        "if OpenVINO is installed, else torch",
    )
    classifier_input_size: int = Field(
        0,
        ge=0,
        le=4096,
        description="Side of the classifier's square input, in pixels; 0: as the checkpoint says",
    )
    segmenter_input_size: int = Field(
        0,
        ge=0,
        le=4096,
        description="Side of the segmenter's square input, in pixels; 0: as the checkpoint says",
    )
    graph_capture_timeout_s: float = Field(
        60.0,
        ge=0,
        le=3600,
        description="Maximum time to capture the CUDA graphs of each model at startup, in seconds; "
        "batch sizes that are not captured run without a graph",
    )
    max_batch_size: int = Field(
        32,
        ge=1,
        le=1024,
        description="Maximum number of images in a batch; "
        "the costs measured at warm-up may lower it",
    )
    max_queue_delay_ms: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="Maximum time that an image waits for a fuller batch while the device is idle, "
        "in milliseconds",
    )
    max_queue_size: int = Field(
        256, ge=1, le=65536, description="Maximum number of images in the queue of each model"
    )
    request_timeout_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="Deadline of a request, in seconds after the last byte of its body",
    )
    lame_duck_s: float = Field(
        5.0,
        ge=0,
        le=600,
        description="Time after SIGTERM during which new requests are still accepted, in seconds",
    )
    drain_timeout_s: float = Field(
        12.0,
        ge=0,
        le=3600,
        description="Maximum time after `--lame-duck-s` to finish the accepted requests, "
        "in seconds",
    )
    max_body_bytes: int = Field(
        20 * 2**20, ge=1, le=2**30, description="Maximum size of a request body, in bytes"
    )
    max_body_bytes_in_flight: int = Field(
        256 * 2**20,
        ge=1,
        le=2**40,
        validate_default=True,
        description="Maximum size of all request bodies that are in memory at the same time, "
        "in bytes",
    )
    upload_timeout_s: float = Field(
        60.0,
        gt=0,
        le=3600,
        description="Maximum time to receive a body after the headers, in seconds",
    )
    min_upload_bytes_per_s: int = Field(
        1024,
        ge=0,
        le=2**30,
        description="Minimum average rate at which a client must send its body, "
        "in bytes per second",
    )
    min_download_bytes_per_s: int = Field(
        16 * 2**10,
        ge=0,
        le=2**30,
        description="Minimum rate at which a client must receive a response, measured over 30 s, "
        "in bytes per second",
    )
    max_unsent_bytes: int = Field(
        256 * 2**20,
        ge=2**20,
        le=2**40,
        description="Maximum size of all responses that clients have yet to receive, in bytes; "
        "above it, the connections that have waited longest are closed",
    )
    max_header_bytes: int = Field(
        16 * 2**10,
        ge=1024,
        le=2**20,
        description="Maximum size of the request line and headers, in bytes",
    )
    header_timeout_s: float = Field(
        10.0,
        gt=0,
        le=3600,
        description="Maximum time to receive the request line and headers, in seconds",
    )
    max_connections: int = Field(
        2048, ge=1, le=10**6, description="Maximum number of open connections of each replica"
    )
    max_image_pixels: int = Field(
        50_000_000, ge=1, le=10**9, description="Maximum number of pixels of an image"
    )
    max_decoded_pixels: int = Field(
        200_000_000,
        ge=1,
        le=10**12,
        validate_default=True,
        description="Maximum number of pixels of all decoded images in memory; "
        "lanes and image threads have this limit each",
    )
    share_by: Literal["client", "none"] = Field(
        "client",
        description="How requests share the queue and the device: `client` (equal shares for each "
        "API key, or for each address if there are no keys) or `none`",
    )
    trusted_proxies: str = Field(
        "",
        description="Addresses or networks (CIDR) of proxies, comma-separated; if a request comes "
        "from one, its `X-Forwarded-For` has the client's address, and its `X-Forwarded-Prefix` "
        "the path prefix",
    )
    root_path: str = Field(
        "",
        description="Path prefix under which a proxy publishes the service, such as `/vision`; "
        "the proxy may remove it from the path or not",
    )
    playground: bool = Field(
        True,
        description="Send the page to try the models at `/`, and its data at `/status`; no page "
        "with `--no-playground`",
    )
    samples: str = Field(
        "",
        description="Folder of sample images on the page; every client may read them; "
        "empty: the bundled scenes",
    )
    image_formats: str = Field(
        ",".join(DEFAULT_IMAGE_FORMATS),
        description="Accepted image formats, comma-separated; also possible: `avif`, and `heic` "
        "with the extra `heif`",
    )
    jpeg_decode: Literal["exact", "scaled"] = Field(
        "exact",
        description="`exact`, or `scaled`: decode a large JPEG at 1/2, 1/4 or 1/8 of its size, "
        "never below twice the model's input size",
    )
    cores: int = Field(
        0,
        ge=0,
        le=4096,
        description="Number of CPU cores to use, of all replicas together; "
        "0: all that the affinity and the CPU quota of the process allow",
    )
    workers: int = Field(
        1, ge=1, le=64, description="Number of replicas, each in a process of its own"
    )
    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0: any free port")
    ops_host: str = Field(
        "", description="Address to listen on with `--ops-port`; empty: the same as `--host`"
    )
    ops_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Separate port for the probes and `/metrics`; 0: no separate port",
    )
    api_keys: SecretStr = Field(
        SecretStr(""),
        description="API keys, comma-separated; a request without one of them is refused; "
        "empty: no key is needed",
    )
    api_keys_file: str = Field(
        "",
        description="File with API keys, in addition to PATCHSERVE_API_KEYS, one per line, "
        "`#` starts a comment; read once at startup",
    )
    cors_origins: str = Field(
        "",
        description="Web origins that may call the service from a browser, comma-separated, "
        "or `*`; empty: none",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level that is logged: `debug`, `info`, `warning` or `error`"
    )

    @field_validator("classifier_labels", "segmenter_labels")
    @classmethod
    def check_labels(cls, path: str) -> str:
        """Refuse a file that does not exist."""
        if path and not os.path.isfile(os.path.expanduser(path)):
            raise ValueError(f"there is no file {path}")
        return path

    @field_validator("image_formats")
    @classmethod
    def check_formats(cls, text: str) -> str:
        """Refuse an unknown image format, and an empty list."""
        formats = split_commas(text.lower())
        if not formats or not set(formats) <= set(IMAGE_FORMATS):
            raise ValueError(f"must list one or more of {', '.join(IMAGE_FORMATS)}")
        return ",".join(formats)

    @field_validator("trusted_proxies")
    @classmethod
    def check_proxies(cls, text: str) -> str:
        """Refuse what is not an address or a network: such a proxy would not be trusted."""
        proxies = split_commas(text)
        for proxy in proxies:
            ip_network(proxy)
        return ",".join(proxies)

    @field_validator("root_path")
    @classmethod
    def check_root_path(cls, prefix: str) -> str:
        """Refuse what is not a plain path: the pages contain it."""
        if not ROOT_PATH.fullmatch(prefix):
            raise ValueError("must be a path such as /vision, without a slash at its end")
        return prefix

    @field_validator("samples")
    @classmethod
    def check_samples(cls, folder: str) -> str:
        """Refuse a folder that does not exist or has no image."""
        if not folder:
            return folder
        if not Path(folder).is_dir():
            raise ValueError(f"there is no folder {folder}")
        if IMAGE_SUFFIXES.isdisjoint(each.suffix.lower() for each in Path(folder).iterdir()):
            raise ValueError(f"there is no image in the folder {folder}")
        return folder

    @field_validator("cors_origins")
    @classmethod
    def check_origins(cls, text: str) -> str:
        """Refuse an origin that no browser sends, because no request would ever match it."""
        origins = split_commas(text)
        if not all(map(ORIGIN.fullmatch, origins)) or ("*" in origins and len(origins) > 1):
            raise ValueError(
                "must be `*`, or a list of origins written as scheme://host or scheme://host:port"
            )
        return ",".join(origins)

    @field_validator("api_keys")
    @classmethod
    def check_keys(cls, keys: SecretStr) -> SecretStr:
        """Refuse a key that is too short or that a header cannot carry."""
        text = keys.get_secret_value()
        return SecretStr(",".join(validate_keys(split_commas(text)))) if text else keys

    @field_validator("max_decoded_pixels")
    @classmethod
    def check_pixel_limit(cls, pixels: int, info: ValidationInfo) -> int:
        """Refuse a limit that a single image of the maximum size would exceed."""
        largest = info.data.get("max_image_pixels", 0)
        if pixels < largest:
            raise ValueError(f"must be at least max_image_pixels, which is {largest}")
        return pixels

    @field_validator("max_body_bytes_in_flight")
    @classmethod
    def check_body_limit(cls, size: int, info: ValidationInfo) -> int:
        """Refuse a limit that a single body of the maximum size would exceed."""
        largest = info.data.get("max_body_bytes", 0)
        if size < largest:
            raise ValueError(f"must be at least max_body_bytes, which is {largest}")
        return size

    @classmethod
    def flags(cls) -> Mapping[str, FieldInfo]:
        """The settings that are also flags, by name."""
        fields = cls.model_fields.items()
        return {name: field for name, field in fields if field.annotation is not SecretStr}

    @property
    def keys(self) -> tuple[str, ...]:
        """The API keys; without any, requests need no key."""
        return split_commas(self.api_keys.get_secret_value())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags have priority over the environment; no file is read."""
        return init_settings, Environment(settings_cls)

    @classmethod
    def read(cls, **flags: object) -> Self:
        """Read the settings: flags have priority over variables, and variables over defaults.

        The keys of `api_keys_file` are added to `api_keys`, so that a replica that receives the
        settings uses the same keys and does not read the file again.

        Raises:
            ValueError: an unknown PATCHSERVE_* variable, or a value out of its bounds.
            OSError: the file of the API keys cannot be read.
        """
        refuse_unknown(Environment(cls).env_vars, cls.model_fields)
        settings = cls(**flags)  # type: ignore[arg-type]  # pydantic checks the values
        if not settings.api_keys_file:
            return settings
        keys = validate_keys([*settings.keys, *read_keys(Path(settings.api_keys_file))])
        return settings.model_copy(update={"api_keys": SecretStr(",".join(keys))})


def split_commas(text: str) -> tuple[str, ...]:
    """The items of a comma-separated text, without duplicates."""
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def refuse_unknown(names: Iterable[str], fields: Iterable[str]) -> None:
    """Refuse unknown variables: a misspelled name must not be ignored."""
    ours = {name.upper() for name in names if name.upper().startswith(PREFIX)}
    unknown = ours - {PREFIX + field.upper() for field in fields}
    if unknown:
        raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")


def set_by_kubernetes(name: str, value: str) -> bool:
    """Whether Kubernetes has set this PATCHSERVE_* variable for a Service."""
    named = any(part in name.upper() for part in INJECTED_NAMES)
    return name.upper().startswith(PREFIX) and (named or value.startswith(INJECTED_VALUES))
