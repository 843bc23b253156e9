"""What `scan` does with what it hears of sources while they are looked at: bars, evidence."""

from __future__ import annotations

from dataclasses import dataclass

from moderation.analyse import Analysis
from moderation.analyse_video import VideoAnalysis
from moderation.cli.bars import Bars
from moderation.cli.html.collect import Collector
from moderation.scan import Examiner, Source
from moderation.types import Verdict


@dataclass(frozen=True, slots=True)
class Watch:
    """A `moderation.scan.Watcher`. bars: on a terminal. collector: where a report is written."""

    bars: Bars | None
    collector: Collector | None

    def on_progress(self, source: Source, done: int, wanted: int, film_s: float) -> None:
        if self.bars is not None:
            self.bars.video(source, source.name, done, wanted, film_s)

    def on_video(self, source: Source, analysis: VideoAnalysis) -> None:
        if self.collector is not None:
            self.collector.on_video(source, analysis)

    def on_picture(self, source: Source, data: bytes, analysis: Analysis) -> None:
        if self.collector is not None:
            self.collector.on_picture(data, analysis)

    def around(self, examine: Examiner) -> Examiner:
        """The same examiner, with what has to be done before and after it."""

        def examined(source: Source) -> Verdict:
            try:
                if self.collector is not None:
                    return self.collector.examined(examine, source)
                return examine(source)
            finally:
                if self.bars is not None:
                    self.bars.gone(source)

        return examined
