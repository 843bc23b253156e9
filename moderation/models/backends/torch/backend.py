"""torch on a GPU or the CPU, behind the protocol of `base.Backend`."""

from __future__ import annotations

import functools
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from moderation.errors import InferenceError, WeightsError
from moderation.models.backends.base import Outputs, Pending, Pixels
from moderation.models.backends.torch.devices import (
    DTYPES,
    choose_device,
    choose_precision,
    compute_exactly,
    describe,
)
from moderation.models.backends.torch.load import load_network
from moderation.models.backends.torch.pixels import Prepare
from moderation.models.spec import ModelSpec
from moderation.settings import Settings

log = logging.getLogger(__name__)


class TorchBackend:
    """One network. On a GPU it has a stream of its own: `start` hands over the pixels and the
    work, and returns; `result` waits for the answer alone. On the CPU all networks of a process
    take turns in one thread, each with all cores.

    Raises ConfigError when made: no such device, or a precision that is not for it.
    """

    def __init__(self, spec: ModelSpec, path: Path, settings: Settings) -> None:
        self._spec = spec
        self._path = path
        self._settings = settings
        self._device = choose_device(settings.device)
        self.precision = choose_precision(settings.precision, self._device)
        self.device = describe(self._device)
        self._network: nn.Module | None = None
        self._prepare: Prepare | None = None
        self._stream: torch.cuda.Stream | None = None

    def load(self) -> None:
        """Raises WeightsError."""
        spec = self._spec
        if spec.input is None:
            raise WeightsError(f"{spec.ref} reads no pixels")
        compute_exactly()
        if self._device.type == "cpu" and self._settings.threads:
            torch.set_num_threads(self._settings.threads)
        dtype = DTYPES[self.precision]
        network = load_network(spec, self._path)
        try:
            placed = network.eval().requires_grad_(False).to(self._device, dtype)
            self._network = placed.to(memory_format=torch.channels_last)
            self._prepare = Prepare(spec, dtype).to(self._device)
            if self._device.type == "cuda":
                self._stream = torch.cuda.Stream(self._device)
                torch.cuda.synchronize(self._device)  # the weights came by another stream
        except RuntimeError as error:
            raise WeightsError(f"torch cannot load {self._path}: {_first(error)}") from error

    def start(self, pixels: Pixels) -> Pending:
        """Raises InferenceError for pixels of another shape, RuntimeError for what torch says."""
        if self._network is None or self._prepare is None:
            raise InferenceError(f"{self._spec.ref} is not loaded")
        if pixels.dtype != np.uint8 or pixels.shape[1:] != self._prepare.shape:
            raise InferenceError(
                f"{self._spec.ref} reads uint8 (n, {', '.join(map(str, self._prepare.shape))}), "
                f"not {pixels.dtype} {pixels.shape}"
            )
        run = functools.partial(_run, self._network, self._prepare)
        # A copy: the caller may use its buffer again while this pass still runs.
        host = torch.from_numpy(np.array(pixels))
        if self._stream is None:
            return _Queued(_lane().submit(run, host))
        return _Streamed(self._stream, self._device, run, host)

    def quicker(self) -> str | None:
        """f16 beside f32, on a GPU. Not bf16 on the CPU: torch rounds every step to it there,
        not the convolutions alone, and what a first look may be off was not measured so."""
        wanted = self._settings.first_look and self.precision == "f32"
        return "f16" if wanted and self._device.type == "cuda" else None

    def close(self) -> None:
        self._network = self._prepare = self._stream = None


@functools.cache
def _lane() -> ThreadPoolExecutor:
    """The thread of all networks on the CPU: two at once would only take each other's cores."""
    return ThreadPoolExecutor(1, thread_name_prefix="torch")


def _run(network: nn.Module, prepare: Prepare, pixels: Tensor) -> dict[str, Tensor]:
    """Pixels on the device -> outputs on it, f32. inference_mode is a thread's own."""
    with torch.inference_mode():
        return {name: out.to(torch.float32) for name, out in network(prepare(pixels)).items()}


class _Queued:
    """A pass on the CPU."""

    def __init__(self, running: Future[dict[str, Tensor]]) -> None:
        self._running = running

    def result(self) -> Outputs:
        return {name: np.array(out.numpy()) for name, out in self._running.result().items()}


class _Streamed:
    """A pass on a GPU. Both copies are from and to pinned memory, which the stream waits for and
    this process does not."""

    def __init__(
        self,
        stream: torch.cuda.Stream,
        device: torch.device,
        run: functools.partial[dict[str, Tensor]],
        host: Tensor,
    ) -> None:
        with torch.cuda.device(device), torch.cuda.stream(stream):
            self._pixels = host.pin_memory()  # alive until the copy is through
            outputs = run(self._pixels.to(device, non_blocking=True))
            self._answers = {name: _pinned(out) for name, out in outputs.items()}
            self._done = torch.cuda.Event()
            self._done.record(stream)

    def result(self) -> Outputs:
        self._done.synchronize()
        return {name: np.array(out.numpy()) for name, out in self._answers.items()}


def _pinned(output: Tensor) -> Tensor:
    answer = torch.empty(output.shape, dtype=output.dtype, pin_memory=True)
    return answer.copy_(output, non_blocking=True)


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
