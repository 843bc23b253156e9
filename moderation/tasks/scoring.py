"""What an infer worker does for videos: it scores chunks, those that wait longest first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from moderation.store import chunks
from moderation.store.chunks import Stage
from moderation.tasks.score import ScoreRuntime, run_score
from moderation.tasks.working import Working

SUSPECT: Final = 2
"""Attempts that a chunk has behind it when it is scored alone. One is its reading; more, and a
worker may have died of it, and would take the chunk beside it along again and again."""


@dataclass
class Scoring:
    """Used by several threads. `working`: of this process."""

    runtime: ScoreRuntime
    working: Working
    _alone: set[str] = field(default_factory=set)

    def once(self) -> bool:
        """Score one chunk; False when there is none, or none for now. Raises ServiceError when
        the database does not answer."""
        with self.working.chosen(self._next) as name:
            if name is None:
                return False
            try:
                job_id, _, number = name.partition("/")
                run_score(job_id, int(number), self.runtime)
            finally:
                self._alone.discard(name)
            return True

    def _next(self, busy: frozenset[str]) -> str | None:
        if self._alone:
            return None
        most = self.runtime.max_attempts
        part = chunks.candidate(self.runtime.db, Stage.SCORE, max_attempts=most, without=busy)
        if part is None:
            return None
        if part.attempt >= SUSPECT:
            if chunks.chunk_keys(busy):
                return None
            self._alone.add(part.name)
        return part.name
