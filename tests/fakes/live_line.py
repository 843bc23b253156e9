"""A queue of live frames in this process, and frames to put on it."""

from __future__ import annotations

import queue

import numpy as np

from moderation.errors import BrokerError
from moderation.live.picture import HEIGHT, WIDTH
from moderation.live.reader import LiveFrame
from moderation.live_queue import Answer, Ask, Asked
from moderation.models.backends.fake import KEY


class FakeQueue:
    """A `LiveQueue`. `down`: every call raises BrokerError."""

    def __init__(self) -> None:
        self.down = False
        self.asks: list[tuple[Ask, bytes | None]] = []
        self.answers: queue.Queue[tuple[str, Answer]] = queue.Queue()
        self.withdrawn: list[str] = []

    def ask(self, ask: Ask, pack: bytes) -> None:
        self._answers()
        self.asks.append((ask, pack))

    def withdraw(self, ask: Ask) -> None:
        self._answers()
        self.withdrawn.append(ask.id)
        self.asks = [one for one in self.asks if one[0] != ask]

    def next_ask(self, timeout_s: float) -> Asked | None:
        del timeout_s
        self._answers()
        if not self.asks:
            return None
        ask, pack = self.asks.pop(0)
        return Asked(ask, ask.wait_s, pack)

    def answer(self, owner: str, answer: Answer) -> None:
        self._answers()
        self.answers.put((owner, answer))

    def next_answer(self, owner: str, timeout_s: float) -> Answer | None:
        del timeout_s
        self._answers()
        if self.answers.empty():
            return None
        to, answer = self.answers.get()
        assert to == owner
        return answer

    def waiting(self) -> int:
        return len(self.asks)

    def _answers(self) -> None:
        if self.down:
            raise BrokerError("the broker is away")


def live_frame(captured_s: float, colour: tuple[int, int, int] = (128, 128, 128)) -> LiveFrame:
    """A frame of one colour, of the size that the fake models read."""
    pixels = np.full((KEY.height, KEY.width, 3), colour, np.uint8)
    grey = np.full((HEIGHT, WIDTH), 128, np.float32)
    return LiveFrame(captured_s, captured_s, captured_s, {KEY: pixels}, grey)
