"""What a stream has done, as figures and as one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gidrn_runtime.streams.histogram import Percentiles
from gidrn_runtime.streams.ledger import Counts, Ledger
from gidrn_runtime.streams.schedule import Schedule


@dataclass(frozen=True)
class Statistics:
    """The figures of one moment. Percentiles are within 1 % (`histogram.ERROR`)."""

    seconds: float
    """Since the stream was started."""
    counts: Counts
    """Frames in, out, dropped by cause, failed and inside, and what made those that went out."""
    fps: float
    """Frames out a second, over all of `seconds`."""
    recent_fps: float | None
    """Over the last frames out (`ledger.RECENT`) until now; None before the second."""
    age_ms: Percentiles | None
    """Of the frames that went out; None before the first."""
    stage_ms: Mapping[str, Percentiles]
    """``decode``; ``copy``: conversion to a uint8 frame; ``infer``: the upscaler's call, its own
    conversions included; ``sink``: encoding and writing, or the body of the loop."""
    losses: int
    """How often the source was lost."""
    reopenings: int
    """How often it came back."""

    def __str__(self) -> str:
        """One line for people."""
        counts = self.counts
        parts = [
            f"in {counts.frames_in}",
            f"out {counts.frames_out}",
            f"dropped {counts.dropped}{_listed(counts.dropped_by)}",
            f"failed {counts.failed}",
        ]
        if counts.inside:
            parts.append(f"inside {counts.inside}")
        line = ", ".join(parts) + f"; {self.fps:.1f} FPS"
        if self.recent_fps is not None:
            line += f" (now {self.recent_fps:.1f})"
        if self.age_ms is not None:
            line += f"; age p50 {self.age_ms.p50:.0f}, p90 {self.age_ms.p90:.0f}, "
            line += f"p99 {self.age_ms.p99:.0f}, most {self.age_ms.most:.0f} ms"
        for stage, times in self.stage_ms.items():
            line += f"; {stage} {times.p50:.1f}"
        if self.stage_ms:
            line += " ms"
        if len(counts.made_by) > 1:
            line += f"; made by{_listed(counts.made_by)}"
        if self.losses:
            line += f"; source lost {self.losses}, back {self.reopenings}"
        return line


def of(schedule: Schedule, ledger: Ledger, began: float | None, now: float) -> Statistics:
    """The figures at `now` of a stream that `began` then, or has not yet; seconds of its clock."""
    seconds = 0.0 if began is None else now - began
    counts, ages = ledger.counts(), ledger.ages()
    return Statistics(
        seconds=seconds,
        counts=counts,
        fps=counts.frames_out / seconds if seconds > 0 else 0.0,
        recent_fps=ledger.recent_fps(now),
        age_ms=None if ages is None else ages.in_ms(),
        stage_ms={stage: times.in_ms() for stage, times in ledger.stages().items()},
        losses=schedule.losses,
        reopenings=schedule.reopenings,
    )


def _listed(counted: Mapping[str, int]) -> str:
    """ " (overtaken before inference 3, stopped 1)", or nothing."""
    if not counted:
        return ""
    return f" ({', '.join(f'{name} {number}' for name, number in counted.items())})"
