"""`weights/<id>/model.toml`: what a model is, reads, answers, and where its weights come from.

Pure TOML and pydantic: importing this loads no backend. Unknown keys are errors.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from moderation.errors import SpecError
from moderation.types import InputKey, Window, Windows

Precision = Literal["f32", "bf16", "f16", "int8"]
LABEL = r"^[a-z_]+\.[a-z_]+$"
REF = r"^[a-z0-9-]+@[0-9][0-9a-z.]*$"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputSpec(_Part):
    """Tensor that the network reads: (uint8 RGB pixels - mean) / scale, in `colour` order.

    mean and scale are in units of 0..255, one number per channel **of `colour`**.
    """

    name: str
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    fit: Literal["stretch"] = "stretch"
    interpolation: Literal["area", "bilinear", "bicubic"]
    layout: Literal["NCHW", "NHWC", "NCTHW", "NTCHW", "NTHWC"]
    """Those with T, the frames of a window, are for clip models."""
    colour: Literal["RGB", "BGR"]
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def key(self) -> InputKey:
        return InputKey(self.width, self.height, self.fit, self.interpolation)


class WindowSpec(_Part):
    """What a clip model reads: so many frames at [input]'s size, `rate` of them a second; where
    the picture moves, a window begins every `every_s` seconds. 64: a chunk holds whole ones."""

    frames: int = Field(ge=2, le=64)
    rate: float = Field(gt=0, le=60, allow_inf_nan=False)
    every_s: float = Field(gt=0, allow_inf_nan=False)


class LabelSpec(_Part):
    """One answer: column `index` of output `output` (or row of the head matrix).

    `activation` is applied by us ("none" where the graph already answers a probability).
    calibration: (a, b) of sigmoid(a * logit + b), fitted on data that nothing else was (Platt);
    a is positive: a higher logit is never a lower score.
    """

    label: str = Field(pattern=LABEL)
    output: str
    index: int = Field(ge=0)
    activation: Literal["none", "sigmoid"] = "none"
    calibration: tuple[
        Annotated[float, Field(gt=0, allow_inf_nan=False)],
        Annotated[float, Field(allow_inf_nan=False)],
    ] = (1.0, 0.0)

    @model_validator(mode="after")
    def _of_a_logit(self) -> LabelSpec:
        if self.activation == "none" and self.calibration != (1.0, 0.0):
            raise ValueError("a calibration belongs to a logit, which has the activation sigmoid")
        return self


class DetectedClass(_Part):
    """A kind of object that a detector marks: column `index` of its peaks. What it shows counts
    as evidence of `label`; `sublabel` is told to people."""

    label: str = Field(pattern=LABEL)
    sublabel: str = Field(pattern=r"^[a-z_]+$")
    index: int = Field(ge=0)


class DetectorSpec(_Part):
    """Boxes that the network answers beside its labels (`detections`).

    peaks: the output (n, cells, classes), 0..1: the probability that an object of the class has
    its centre in the cell. boxes: the output (n, cells, 4): x1, y1, x2, y2 in fractions of the
    view. least: the lowest probability that is told. iou: two boxes of a label that overlap by
    more are one. max_boxes: the strongest of each label in a view.
    """

    peaks: str
    boxes: str
    least: float = Field(gt=0, le=1)
    iou: float = Field(default=0.5, ge=0, le=1)
    max_boxes: int = Field(default=8, ge=1, le=64)
    classes: tuple[DetectedClass, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _each_once(self) -> DetectorSpec:
        columns = [one.index for one in self.classes]
        if len(set(columns)) != len(columns):
            raise ValueError("two classes of the detector have one index")
        return self


class Artefact(_Part):
    """One weight file. `wheel`: a member of a pinned wheel; `npm`: made, by `convert`, of a folder
    (`member`) of a pinned npm package. Both are pulled, and pinned by sha256."""

    backend: Literal["openvino", "torch", "numpy"]
    precisions: tuple[Precision, ...] = ("f32", "bf16", "f16")
    source: Literal["committed", "wheel", "npm"]
    file: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(gt=0)
    package: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9._-]*==[0-9][0-9a-z.]*$")
    member: str | None = None
    archive_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Of the npm package; `sha256` is that of the file made of it."""
    convert: Literal["nsfwjs"] | None = None
    companions: tuple[tuple[str, str], ...] = ()
    """(file, sha256) of files that belong to it: an IR's .bin beside its .xml."""
    network: str | None = Field(default=None, pattern=r"^[a-z0-9_-]+$")
    """Of safetensors, which hold numbers alone: their architecture's word in `models.nets`."""

    @model_validator(mode="after")
    def _complete(self) -> Artefact:
        if self.source == "wheel" and not (self.package and self.member):
            raise ValueError("an artefact from a wheel names its package and member")
        if self.source == "npm" and not (
            self.package and self.member and self.archive_sha256 and self.convert
        ):
            raise ValueError(
                "an artefact from npm names its package, member, archive_sha256 and convert"
            )
        return self


class Metric(_Part):
    """A figure that the card states, with the data it was measured on."""

    label: str
    name: str
    value: float
    data: str


class ModelSpec(_Part):
    """A manifest. `encoder` is set for heads: the name of the embedding that they read; `window`
    for clips: models that read several frames of a video at once, and no pictures.

    embedding_ref: the embedding's own name, where it is, bit for bit, that of another encoder:
    stored vectors of both are of one kind, and heads of either read it.
    """

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    version: str = Field(pattern=r"^[0-9][0-9a-z.]*$")
    task: Literal["classification", "encoder", "heads", "clip"]
    architecture: str
    summary: str
    licence: str
    origin: str
    default: bool = True
    input: InputSpec | None = None
    window: WindowSpec | None = None
    embedding_output: str | None = None
    embedding_ref: str | None = Field(default=None, pattern=REF)
    encoder: str | None = Field(default=None, pattern=REF)
    max_batch: Annotated[int, Field(ge=1)] = 8
    labels: tuple[LabelSpec, ...] = ()
    detector: DetectorSpec | None = None
    artefacts: tuple[Artefact, ...]
    metrics: tuple[Metric, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """`id@version`, as verdicts name it."""
        return f"{self.id}@{self.version}"

    @property
    def embedding(self) -> str | None:
        """What its embedding is called, in heads and in the store; None: it gives none."""
        return None if self.embedding_output is None else self.embedding_ref or self.ref

    @property
    def clip(self) -> Window | None:
        """The window that a clip model reads; None: it reads pictures, or features."""
        if self.input is None or self.window is None:
            return None
        told = self.window
        return Window(self.input.key, told.frames, told.rate, told.every_s)

    @model_validator(mode="after")
    def _consistent(self) -> ModelSpec:
        if self.task == "heads":
            if self.encoder is None or self.input is not None:
                raise ValueError("heads name an encoder and read no pixels")
        elif self.input is None:
            raise ValueError("a network that reads pixels has an [input]")
        if (self.task == "clip") != (self.window is not None):
            raise ValueError("a clip model has a [window], and no other has one")
        if self.input is not None and (self.task == "clip") != ("T" in self.input.layout):
            raise ValueError(f"the layout {self.input.layout} does not fit the task {self.task}")
        if self.task == "encoder" and not self.embedding_output:
            raise ValueError("an encoder names its embedding_output")
        if self.embedding_ref is not None and not self.embedding_output:
            raise ValueError("an embedding_ref names an embedding_output")
        if self.detector is not None:
            if self.task in ("heads", "clip"):
                raise ValueError(f"a model of the task {self.task} marks nothing in pictures")
            absent = {one.label for one in self.detector.classes} - {x.label for x in self.labels}
            if absent:
                raise ValueError(f"the detector marks {min(absent)}, which is no label of it")
        if self.task != "encoder" and not self.labels:
            raise ValueError("a model without labels answers nothing")
        return self


def windows_of(specs: Iterable[ModelSpec]) -> Windows:
    """What the clip models among them read and answer. Several that answer a label from one
    window are named together, as in `ViewScores.models`."""
    found: dict[Window, dict[str, str]] = {}
    for spec in specs:
        if (window := spec.clip) is not None:
            answers = found.setdefault(window, {})
            for told in spec.labels:
                known = answers.get(told.label)
                answers[told.label] = spec.ref if known is None else f"{known}+{spec.ref}"
    return found


def read_spec(path: Path) -> ModelSpec:
    """Read one manifest. Raises SpecError naming the file and the first fault."""
    try:
        return ModelSpec.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"{path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise SpecError(f"{path}: {where}: {first['msg']}") from error


def read_specs(folder: Path, *more: Path) -> tuple[ModelSpec, ...]:
    """Every manifest under `folder`, by id, then those under `more`, which may hold none.

    Raises SpecError: none in `folder`, a bad one, an id twice, an id that is not its folder's
    name, a folder of `more` that is not there, or heads whose encoder is absent.
    """
    paths = sorted(folder.glob("*/model.toml"))
    if not paths:
        raise SpecError(f"no model manifest (*/model.toml) in {folder}")
    for extra in more:
        # A folder that is not there would silently leave its models out.
        if not extra.is_dir():
            raise SpecError(f"there is no folder of models {extra}")
        paths += sorted(extra.glob("*/model.toml"))
    found: dict[str, ModelSpec] = {}
    for path in paths:
        spec = read_spec(path)
        if spec.id != path.parent.name:
            raise SpecError(f"{path}: id {spec.id!r} is not the name of its folder")
        if spec.id in found:
            raise SpecError(f"{path}: there is another model {spec.id!r}; give this one its own id")
        found[spec.id] = spec
    embeddings = {spec.embedding for spec in found.values()}
    for spec in found.values():
        if spec.encoder is not None and spec.encoder not in embeddings:
            raise SpecError(f"{spec.id}: no manifest gives its encoder {spec.encoder}")
    return tuple(found.values())
