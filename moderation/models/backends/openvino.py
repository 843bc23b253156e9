"""OpenVINO on the CPU (or another of its devices).

Colour order, layout, mean and scale are compiled into the graph, which then reads the uint8
pixels as they come from a decoder child.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import openvino as ov
from openvino.preprocess import PrePostProcessor

from moderation.errors import ConfigError, WeightsError
from moderation.models.backends.base import Outputs, Pixels
from moderation.models.spec import InputSpec, ModelSpec
from moderation.processor import sums_int8
from moderation.settings import Settings

STREAMS = 2

log = logging.getLogger(__name__)


class OpenVinoBackend:
    """`device` is OpenVINO's name of it, `precision` the one that it really runs.

    Loading raises WeightsError for a bad file, ConfigError for INT8 on a processor without VNNI.
    """

    def __init__(self, spec: ModelSpec, path: Path, settings: Settings) -> None:
        self._spec = spec
        self._path = path
        self._settings = settings
        self._requests: list[ov.InferRequest] = []
        # Not OpenVINO's own AUTO: that takes whatever accelerator it finds, untried ones too.
        self._device = "CPU" if settings.device.lower() == "auto" else settings.device.upper()
        self.device = f"{self._device.lower()}: {_full_name(self._device)}".strip(": ")
        self.precision: str = settings.precision

    def load(self) -> None:
        spec_input = self._spec.input
        if spec_input is None:
            raise WeightsError(f"{self._spec.ref} reads no pixels")
        if self._settings.precision == "int8" and self._device == "CPU" and not sums_int8():
            raise ConfigError("this processor has no VNNI: INT8 scores would be wrong; use f32")
        try:
            window = self._spec.window
            frames = None if window is None else window.frames
            model = embed_preprocessing(ov.Core().read_model(self._path), spec_input, frames)
            compiled = ov.Core().compile_model(model, self._device, options(self._settings))
        except RuntimeError as error:
            first = str(error).strip().splitlines()[-1]
            raise WeightsError(f"OpenVINO cannot load {self._path}: {first}") from error
        self._requests = [compiled.create_infer_request() for _ in range(STREAMS)]
        hint = compiled.get_property("INFERENCE_PRECISION_HINT")
        told = str(hint.get_type_name() if hasattr(hint, "get_type_name") else hint)
        self.precision = "int8" if self._settings.precision == "int8" else told

    def start(self, pixels: Pixels) -> _Pass:
        """A batch is halved over the two streams: no layout that was measured costs less CPU
        (docs/decisions/0006)."""
        self._settle()
        half = (len(pixels) + 1) // 2
        parts = [part for part in (pixels[:half], pixels[half:]) if len(part)]
        started = []
        for request, part in zip(self._requests, parts, strict=False):
            request.start_async([np.ascontiguousarray(part)], share_inputs=False)
            started.append(request)
        return _Pass(started)

    def _settle(self) -> None:
        """Wait for parts that nobody read, because another part or network of that batch
        failed: a request still busy would fail the next batch as well."""
        for request in self._requests:
            try:
                request.wait()
            except RuntimeError as error:
                log.info("%s: a pass that nobody reads had failed: %s", self._spec.ref, error)

    def quicker(self) -> str | None:
        """bf16 beside f32, on processors that compute in it."""
        if not self._settings.first_look or self.precision != "f32":
            return None
        offered = ov.Core().get_property(self._device, "OPTIMIZATION_CAPABILITIES")
        return "bf16" if "BF16" in offered else None

    def close(self) -> None:
        self._requests = []


def _full_name(device: str) -> str:
    """Nothing for a device that is not there: loading says so."""
    try:
        return str(ov.Core().get_property(device, "FULL_DEVICE_NAME"))
    except RuntimeError:
        return ""


class _Pass:
    def __init__(self, requests: list[ov.InferRequest]) -> None:
        self._requests = requests

    def result(self) -> Outputs:
        for request in self._requests:
            request.wait()
        names = [output.get_any_name() for output in self._requests[0].model_outputs]
        return {
            name: np.concatenate(
                [request.get_output_tensor(i).data for request in self._requests]
            ).astype(np.float32, copy=False)
            for i, name in enumerate(names)
        }


def embed_preprocessing(model: ov.Model, spec: InputSpec, frames: int | None = None) -> ov.Model:
    """The same network reading uint8 RGB of any batch size: NHWC, or NTHWC for a clip model,
    which reads so many frames."""
    steps = PrePostProcessor(model)
    tensor = steps.input(0).tensor()
    of_time = "" if frames is None else "T"
    shape = [-1, *([] if frames is None else [frames]), spec.height, spec.width, 3]
    tensor.set_element_type(ov.Type.u8).set_layout(ov.Layout(f"N{of_time}HWC")).set_shape(shape)
    steps.input(0).model().set_layout(ov.Layout(spec.layout))
    convert = steps.input(0).preprocess()
    if spec.colour == "BGR":
        convert.reverse_channels()
    convert.convert_element_type(ov.Type.f32)
    convert.mean(list(spec.mean)).scale(list(spec.scale))
    return steps.build()


def options(settings: Settings) -> dict[str, object]:
    """Compile options. Pinning is off: two pinned processes would sit on the same cores."""
    chosen: dict[str, object] = {"ENABLE_CPU_PINNING": False, "NUM_STREAMS": STREAMS}
    if settings.threads:
        chosen["INFERENCE_NUM_THREADS"] = settings.threads
    if settings.precision in ("f32", "bf16", "f16"):
        chosen["INFERENCE_PRECISION_HINT"] = settings.precision
    elif settings.precision == "int8":
        # Of the layers that the file leaves alone: bf16 for them was not measurably faster.
        chosen["INFERENCE_PRECISION_HINT"] = "f32"
    return chosen
