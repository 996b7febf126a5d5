"""One live stream for a long time, in a process of its own that imports the runtime and no PyTorch.

`stream_soak.py` starts it: ``python -m benchmarks.long_stream '{"model": "gidrn_x2", …}'``. FFmpeg
plays the camera: MPEG-TS over UDP on loopback, in real time, in a process that is killed now and
then and comes back. The frames are enlarged live, with a quality ladder, and encoded as JPEG in
memory. Once a second the process's resident memory, threads and descriptors are noted.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
import psutil

from gidrn_runtime import Stream, Upscaler
from gidrn_runtime.streams.ladder import Ladder, Rung, lower_rungs
from gidrn_runtime.streams.report import Statistics
from gidrn_runtime.streams.schedule import Reopen
from gidrn_runtime.upscaler import Frame

SILENCE_S = 2.0
"""How long the camera may be silent before the stream counts it as lost."""
AWAY_S = 2 * SILENCE_S
TREND = "least squares over the last four fifths of the samples"


@dataclass(frozen=True)
class Task:
    """What to run."""

    model: str
    minutes: float
    size_hw: tuple[int, int]
    fps: int
    age_ms: float
    threads: int | None
    restart_minutes: float


@dataclass(frozen=True)
class Held:
    """What the process holds at one moment."""

    rss_mib: float
    threads: int
    descriptors: int

    @classmethod
    def now(cls) -> Held:
        """This process's."""
        process = psutil.Process()
        return cls(process.memory_info().rss / 2**20, process.num_threads(), process.num_fds())

    @classmethod
    def settled(cls, start: Held) -> Held:
        """This process's, once it holds no more threads than at the start, or after ten seconds.

        The system takes a moment to clear away a thread that Python has seen end.
        """
        deadline = time.monotonic() + 10
        while (held := cls.now()).threads > start.threads and time.monotonic() < deadline:
            time.sleep(0.01)
        return held


class Watch(threading.Thread):
    """Notes what the process holds, every `period_s`, until it is stopped."""

    def __init__(self, period_s: float) -> None:
        super().__init__(daemon=True)
        self.samples: list[Held] = []
        self.times_s: list[float] = []
        self._period_s, self._over = period_s, threading.Event()

    def run(self) -> None:
        """The thread."""
        while not self._over.wait(self._period_s):
            self.times_s.append(time.monotonic())
            self.samples.append(Held.now())

    def stop(self) -> None:
        """End it."""
        self._over.set()
        self.join()


class PlayedCamera(threading.Thread):
    """An FFmpeg that is killed every `restart_s` seconds and comes back `AWAY_S` later."""

    def __init__(self, size_hw: tuple[int, int], fps: int, restart_s: float) -> None:
        super().__init__(daemon=True)
        ffmpeg = shutil.which("ffmpeg")
        if ffmpeg is None:
            raise FileNotFoundError("the soak needs the program ffmpeg; .ci/install-programs")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"udp://127.0.0.1:{probe.getsockname()[1]}"
        height, width = size_hw
        self._command = [ffmpeg, "-loglevel", "error", "-nostdin", "-re", "-f", "lavfi"]
        self._command += ["-i", f"testsrc2=size={width}x{height}:rate={fps}", "-c:v", "libx264"]
        self._command += ["-preset", "ultrafast", "-tune", "zerolatency", "-g", str(fps)]
        self._command += ["-pix_fmt", "yuv420p", "-f", "mpegts", f"{self.address}?pkt_size=1316"]
        self._restart_s, self._over = restart_s, threading.Event()
        self.restarts = 0

    def run(self) -> None:
        """The thread."""
        while not self._over.is_set():
            process = subprocess.Popen(self._command)
            self._over.wait(self._restart_s)
            process.kill()
            process.wait()
            if not self._over.wait(AWAY_S):
                self.restarts += 1

    def stop(self) -> None:
        """End it."""
        self._over.set()
        self.join()


@contextmanager
def running(*threads: PlayedCamera | Watch) -> Iterator[None]:
    """The threads run while the block does."""
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.stop()


def soak(stream: Stream, seconds: float, progress_s: float = 60.0) -> Statistics:
    """Run `stream` for so long; a report line every `progress_s`."""
    told = began = time.monotonic()

    def sink(frame: Frame) -> bool:
        nonlocal told
        cv2.imencode(".jpg", frame)
        now = time.monotonic()
        if now - told >= progress_s:
            told = now
            sys.stderr.write(f"{(now - began) / 60:.0f} min: {stream.statistics()}\n")
        return now - began < seconds

    ending = threading.Timer(seconds + 5, stream.stop)  # in case that no frame comes at the end
    ending.start()
    try:
        return stream.run(sink)
    finally:
        ending.cancel()
        ending.join()


def mib_an_hour(times_s: list[float], mib: list[float]) -> float:
    """The slope of memory by `TREND`; 0 for fewer than three samples."""
    first = len(mib) // 5
    if len(mib) - first < 3:
        return 0.0
    return float(3600 * np.polyfit(times_s[first:], mib[first:], 1)[0])


def run(task: Task) -> dict[str, object]:
    """Run the stream; what became of frames and memory, JSON-able.

    Keys: `what` (the upscaler's description), `values` and `rss_mib` (the samples).
    """
    with Upscaler(task.model, threads=task.threads) as upscale:
        rungs = lower_rungs(upscale)
        for rung in (Rung("model", upscale), *rungs):  # libraries start their threads
            cv2.imencode(".jpg", rung.upscale(np.zeros((*task.size_hw, 3), np.uint8)))
        start = Held.now()
        camera = PlayedCamera(task.size_hw, task.fps, 60 * task.restart_minutes)
        watch = Watch(period_s=1.0)
        stream = Stream(
            camera.address,
            upscale,
            age_ms=task.age_ms,
            ladder=Ladder(rungs),
            reopen=Reopen(first_s=0.2, most_s=5.0, at_start=True),
            timeout_s=SILENCE_S,
        )
        with running(camera, watch), stream:
            statistics = soak(stream, 60 * task.minutes)
        end = Held.settled(start)
        facts = upscale.describe()
    counts, ages = statistics.counts, statistics.age_ms
    rss = [held.rss_mib for held in watch.samples] or [end.rss_mib]
    values = {
        "minutes": statistics.seconds / 60,
        "camera_fps": task.fps,
        "age_budget_ms": task.age_ms,
        "frames_in": counts.frames_in,
        "frames_out": counts.frames_out,
        "frames_dropped": counts.dropped,
        "frames_failed": counts.failed,
        "frames_inside_at_end": counts.inside,
        **{f"dropped: {cause}": number for cause, number in counts.dropped_by.items()},
        **{f"made by: {name}": number for name, number in counts.made_by.items()},
        "fps_out": statistics.fps,
        "age_p50_ms": ages.p50 if ages else None,
        "age_p90_ms": ages.p90 if ages else None,
        "age_p99_ms": ages.p99 if ages else None,
        "age_most_ms": ages.most if ages else None,
        **{f"{stage}_p50_ms": times.p50 for stage, times in statistics.stage_ms.items()},
        "camera_restarts": camera.restarts,
        "source_losses": statistics.losses,
        "source_reopenings": statistics.reopenings,
        "rss_start_mib": start.rss_mib,
        "rss_peak_mib": max(*rss, end.rss_mib),
        "rss_end_mib": end.rss_mib,
        "rss_mib_an_hour": mib_an_hour(watch.times_s, rss),
        "rss_trend": TREND,
        "threads_start": start.threads,
        "threads_end": end.threads,
        "descriptors_start": start.descriptors,
        "descriptors_end": end.descriptors,
        "report": str(statistics),
    }
    return {"what": facts, "values": values, "rss_mib": rss}


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    json.dump(run(Task(**{**given, "size_hw": tuple(given["size_hw"])})), sys.stdout)
