"""The report file: cards written as verdicts come, the summary put before them at the end.

Memory stays flat however many sources there are: finished cards lie in nameless files beside
the report, one for each decision. The report appears under its name when it is whole.
"""

from __future__ import annotations

import base64
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from jinja2 import Environment, PackageLoader, StrictUndefined

from moderation import __version__
from moderation.cli.html.evidence import Evidence, Picture
from moderation.cli.out import printable
from moderation.errors import ConfigError
from moderation.policy import Policy
from moderation.timeline import LEFT, RIGHT, WIDTH, clock, draw
from moderation.types import Decision, Reason, Status, Verdict

MAX_REASONS: Final = 20
MAX_SEGMENTS: Final = 50
MAX_UNSEEN: Final = 20
MAX_NAME: Final = 1000
"""What one card lists; the verdict has it all."""

ROOM: Final = 64 * 1024 * 1024
"""Bytes of pictures in one report: a browser has to open it."""

ORDER: Final = (Decision.BLOCK, Decision.REVIEW, Decision.PASS)


@dataclass(frozen=True, slots=True)
class Basis:
    """What all verdicts of a report rest on. settings: name -> value, as shown. pictures: how
    thumbnails are shown: blurred, clear or none."""

    policy: Policy
    models: tuple[str, ...]
    device: str
    sources: tuple[str, ...]
    settings: Mapping[str, str]
    pictures: str
    started: datetime


class Report:
    """Writes one report. Use as a context manager: what was not finished leaves no file."""

    def __init__(self, path: Path, basis: Basis) -> None:
        """Raises ConfigError when there can be no file of that name."""
        self._path = path
        self._basis = basis
        self._templates = environment()
        self._counts: Counter[Decision] = Counter()
        self._failed = 0
        self._room = ROOM
        with ExitStack() as stack:
            try:
                if path.is_dir():
                    raise IsADirectoryError(21, "it is a folder")
                self._cards = {
                    decision: stack.enter_context(tempfile.TemporaryFile(dir=path.parent))
                    for decision in ORDER
                }
            except OSError as error:
                raise ConfigError(f"cannot write the report {path}: {error.strerror}") from error
            self._stack = stack.pop_all()

    @property
    def room(self) -> bool:
        """Whether more pictures may be brought."""
        return self._room > 0

    def add(self, verdict: Verdict, evidence: Evidence | None) -> None:
        """One source: a card, or a line where there is nothing to object to."""
        self._counts[verdict.decision] += 1
        self._failed += verdict.status is not Status.DONE
        shown = evidence or Evidence()
        self._room -= sum(len(picture.webp) for picture in shown.pictures)
        plain = verdict.decision is Decision.PASS and not verdict.reasons
        name = "line.html" if plain and verdict.error is None else "card.html"
        html = self._templates.get_template(name).render(
            **_told(verdict, shown, self._basis), policy=self._basis.policy
        )
        self._cards[verdict.decision].write(html.encode())

    def finish(self, *, interrupted: bool, earlier: int = 0) -> None:
        """Put the report together and give it its name. earlier: sources that were left out, as
        an earlier run had done them. Raises ConfigError where the disk refuses."""
        try:
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=".report-")
            try:
                with os.fdopen(handle, "wb") as file:
                    self._write(file, interrupted=interrupted, earlier=earlier)
                Path(name).chmod(0o666 & ~_umask())
                Path(name).replace(self._path)
            except BaseException:
                Path(name).unlink()
                raise
        except OSError as error:
            raise ConfigError(f"cannot write the report {self._path}: {error.strerror}") from error

    def _write(self, file: IO[bytes], *, interrupted: bool, earlier: int) -> None:
        total = self._counts.total()
        head = self._templates.get_template("head.html").render(
            basis=self._basis,
            sources=[shortened(name) for name in self._basis.sources[:10]],
            more=max(0, len(self._basis.sources) - 10),
            version=__version__,
            ended=datetime.now(self._basis.started.tzinfo),
            counts={decision.value: self._counts[decision] for decision in ORDER},
            failed=self._failed,
            total=total,
            interrupted=interrupted,
            earlier=earlier,
            full=not self.room,
        )
        file.write(head.encode())
        for decision in ORDER:
            part = self._templates.get_template("part.html")
            words = {"decision": decision.value, "count": self._counts[decision]}
            file.write(part.render(**words, closing=False).encode())
            cards = self._cards[decision]
            cards.seek(0)
            shutil.copyfileobj(cards, file)
            file.write(part.render(**words, closing=True).encode())
        file.write(b"</main>\n</body>\n</html>\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


def environment() -> Environment:
    """Everything is escaped: file names are hostile."""
    made = Environment(
        loader=PackageLoader("moderation.cli.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["clock"] = clock
    made.filters["data_uri"] = data_uri
    made.filters["shown"] = shortened
    return made


def data_uri(picture: Picture) -> str:
    return "data:image/webp;base64," + base64.b64encode(picture.webp).decode()


def shortened(text: str) -> str:
    """One line without control characters, the middle of a very long one left out."""
    line = printable(text)
    half = MAX_NAME // 2
    return line if len(line) <= MAX_NAME else f"{line[:half]} … {line[-half:]}"


def _told(verdict: Verdict, evidence: Evidence, basis: Basis) -> dict[str, Any]:
    coverage, segments = verdict.coverage, verdict.segments or []
    unseen = coverage.unseen or []
    drawing = None
    if evidence.duration_s:
        drawing = draw(evidence.curves, segments, unseen, basis.policy, evidence.duration_s)
    return {
        "verdict": verdict,
        "evidence": evidence,
        "reasons": [_reason(reason) for reason in verdict.reasons[:MAX_REASONS]],
        "more_reasons": max(0, len(verdict.reasons) - MAX_REASONS),
        "segments": segments[:MAX_SEGMENTS],
        "more_segments": max(0, len(segments) - MAX_SEGMENTS),
        "unseen": unseen[:MAX_UNSEEN],
        "more_unseen": max(0, len(unseen) - MAX_UNSEEN),
        "scores": sorted(verdict.scores.items(), key=lambda pair: -pair[1]),
        "drawing": drawing,
        "left": LEFT,
        "right": RIGHT,
        "width": WIDTH,
        "covered": basis.pictures == "blurred",
    }


def _reason(reason: Reason) -> dict[str, str]:
    """A reason in words: what was found, and which threshold it reached."""
    label = reason.label if reason.sublabel is None else f"{reason.label} ({reason.sublabel})"
    verb = "blocks" if reason.decision is Decision.BLOCK else "asks a person"
    if reason.score is None or reason.threshold is None:
        words = verb
    else:
        words = f"scored {reason.score:.2f}; {verb} from {reason.threshold:g}"
    return {
        "decision": reason.decision.value,
        "label": shortened(label),
        "words": words,
        "detail": shortened(reason.detail or ""),
        "model": shortened(reason.model or ""),
    }


def _umask() -> int:
    """Of this process, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
