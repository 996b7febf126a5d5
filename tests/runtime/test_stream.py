"""`Stream` and its threads: policies, sinks, errors, stopping, and what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from gidrn_runtime import Stream, Upscaler
from gidrn_runtime.streams import sinks, stream
from gidrn_runtime.streams.ledger import (
    LATE_IN,
    LATE_OUT,
    OVERTAKEN_OUT,
    STOPPED,
)
from gidrn_runtime.streams.sinks import FolderSink, RawSink, Shown
from gidrn_runtime.streams.sources import FrameFeed
from tests.runtime.one_by_one import OneByOne, until

REPOSITORY = Path(__file__).resolve().parents[2]


def double(frame: np.ndarray) -> np.ndarray:
    """The fastest upscaler there is."""
    return frame.repeat(2, axis=0).repeat(2, axis=1)


def numbered(count: int, size_hw: tuple[int, int] = (3, 5)) -> list[np.ndarray]:
    """Frames whose value is their number."""
    return [np.full((*size_hw, 3), number, np.uint8) for number in range(count)]


def endless() -> Iterator[np.ndarray]:
    """A camera that runs as fast as it is read."""
    while True:
        yield np.zeros((4, 6, 3), np.uint8)


def balanced(one: Stream) -> bool:
    """The rule, at the end."""
    counts = one.ledger.counts()
    return counts.inside == 0 and (
        counts.frames_in == counts.frames_out + counts.dropped + counts.failed
    )


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No test leaves one of the stream's threads behind."""
    yield
    until(lambda: not [one for one in threading.enumerate() if one.name.startswith("gidrn")])


def test_a_file_loses_nothing_and_keeps_the_order(upscale: Upscaler) -> None:
    with Stream(numbered(50), upscale, "file", queue=2) as one:
        shown = list(one)
    assert [each.number for each in shown] == list(range(50))
    assert [each.frame[0, 0, 0] for each in shown] == list(range(50))
    assert {each.frame.shape for each in shown} == {(6, 10, 3)}
    assert {each.made_by for each in shown} == {"tiny_x2"}
    assert all(each.time_in <= each.time_out for each in shown)
    assert balanced(one)
    assert one.ledger.counts().frames_out == 50


def test_odd_and_changing_sizes(upscale: Upscaler) -> None:
    sizes = [(1, 1), (3, 7), (3, 7), (120, 159), (2, 1), (5, 4)]
    frames = [np.full((*size, 3), 7, np.uint8) for size in sizes]
    with Stream(frames, upscale, "file") as one:
        assert [each.frame.shape[:2] for each in one] == [(2 * h, 2 * w) for h, w in sizes]


def test_a_slow_sink_makes_a_file_wait() -> None:
    """While the sink holds a frame, the source is read no further than the queues reach."""
    read: list[int] = []

    def source() -> Iterator[np.ndarray]:
        for number, frame in enumerate(numbered(40)):
            read.append(number)
            yield frame

    with Stream(source(), double, "file", queue=2) as one:
        for shown in one:
            if shown.number < 30:
                # 2 are ready, 2 wait, and this one.
                until(lambda number=shown.number: len(read) >= number + 5)  # type: ignore[misc]
            assert len(read) <= shown.number + 5
    assert balanced(one)
    assert one.ledger.counts().frames_out == 40


def test_a_slow_sink_makes_a_camera_drop_and_gets_the_newest() -> None:
    with Stream(endless(), double, age_ms=60_000) as one:
        shown = iter(one)
        next(shown)
        for _ in range(3):
            counts = one.ledger.counts()
            # The first two overtaken may be from before; the third was taken after, as the newest.
            goal = counts.dropped_by.get(OVERTAKEN_OUT, 0) + 3
            until(lambda goal=goal: one.ledger.counts().dropped_by.get(OVERTAKEN_OUT, 0) >= goal)  # type: ignore[misc]
            # At most one frame is ready, one runs, one waits: what comes next is nearly the newest.
            assert one.ledger.counts().inside <= 3
            assert next(shown).number >= counts.frames_in
    dropped = one.ledger.counts().dropped_by
    assert dropped[OVERTAKEN_OUT] >= 9
    assert balanced(one)


def test_a_frame_older_than_the_budget_is_not_handed_over() -> None:
    camera = OneByOne(numbered(10))

    def enlarge(frame: np.ndarray) -> np.ndarray:
        camera.now += 0.3 if frame[0, 0, 0] % 2 else 0.1
        return double(frame)

    with Stream(camera, enlarge, age_ms=200, clock=camera.clock) as one:
        camera.stream = one
        shown = list(one)
    assert [each.number for each in shown] == [0, 2, 4, 6, 8]
    assert [each.age_ms for each in shown] == pytest.approx([100] * 5)
    assert one.ledger.counts().dropped_by == {LATE_OUT: 5}
    statistics = one.statistics()
    assert statistics.age_ms is not None
    assert statistics.age_ms.most == pytest.approx(100)
    assert "in 10, out 5, dropped 5 (too old before output 5), failed 0" in str(statistics)


def test_a_frame_that_ages_while_the_sink_is_busy_is_not_handed_over() -> None:
    now = [0.0]

    def source() -> Iterator[np.ndarray]:
        yield from numbered(1)
        until(lambda: one.ledger.counts().frames_out == 1)
        yield from numbered(1)

    with Stream(source(), double, age_ms=200, clock=lambda: now[0]) as one:
        shown = iter(one)
        next(shown)
        until(lambda: one.ledger.counts().inside == 1)
        now[0] = 1.0
        assert list(shown) == []
    assert set(one.ledger.counts().dropped_by) <= {LATE_IN, LATE_OUT}
    assert one.ledger.counts().dropped == 1
    assert balanced(one)


def test_the_latency_bound_holds_on_an_overloaded_machine() -> None:
    """Every core burns; every other frame takes longer than the budget, at any speed."""
    budget_ms = 200.0

    def source() -> Iterator[np.ndarray]:
        while one.ledger.counts().dropped_by.get(LATE_OUT, 0) < 5:
            yield np.zeros((64, 64, 3), np.uint8)

    calls = iter(range(1_000_000))

    def enlarge(frame: np.ndarray) -> np.ndarray:
        if next(calls) % 2:
            time.sleep(1.5 * budget_ms / 1000)
        return double(frame)

    burn = [sys.executable, "-c", "while True: pass"]
    burners = [subprocess.Popen(burn) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        with Stream(source(), enlarge, age_ms=budget_ms) as one:
            ages_ms = [shown.age_ms for shown in one]
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    assert all(age_ms <= budget_ms for age_ms in ages_ms)
    told = one.statistics().age_ms
    assert told is None or told.most <= budget_ms
    assert balanced(one)


def test_an_upscalers_error_ends_a_file_and_earlier_frames_still_go_out() -> None:
    def enlarge(frame: np.ndarray) -> np.ndarray:
        if frame[0, 0, 0] == 5:
            raise ArithmeticError("five")
        return double(frame)

    seen: list[int] = []
    with pytest.raises(ArithmeticError, match="five"), Stream(numbered(20), enlarge, "file") as one:
        seen.extend(shown.number for shown in one)
    assert seen == [0, 1, 2, 3, 4]
    counts = one.ledger.counts()
    assert (counts.frames_out, counts.failed) == (5, 1)
    assert set(counts.dropped_by) <= {STOPPED}
    assert [entry.cause for entry in one.ledger.entries if entry.fate == "failed"] == [
        "ArithmeticError: five"
    ]
    assert balanced(one)


def test_a_camera_goes_on_after_an_upscalers_error() -> None:
    camera = OneByOne(numbered(30))

    def enlarge(frame: np.ndarray) -> np.ndarray:
        if frame[0, 0, 0] % 3 == 0:
            raise ArithmeticError("threes")
        return double(frame)

    with Stream(camera, enlarge, age_ms=60_000) as one:
        camera.stream = one
        assert len(list(one)) == 20
    assert one.ledger.counts().failed == 10
    assert balanced(one)


def test_a_camera_gives_up_when_nothing_can_be_enlarged() -> None:
    def enlarge(frame: np.ndarray) -> np.ndarray:
        raise ArithmeticError("never")

    with pytest.raises(ArithmeticError, match="never"), Stream(endless(), enlarge) as one:
        list(one)
    assert one.ledger.counts().failed == stream.MOST_FAILURES
    assert balanced(one)


def test_an_upscaler_that_asks_to_exit_is_obeyed() -> None:
    """Not an Exception: nothing goes on after it, and nobody waits for ever."""

    def enlarge(frame: np.ndarray) -> np.ndarray:
        raise SystemExit(3)

    one = Stream(endless(), enlarge)
    with pytest.raises(SystemExit):
        one.run(lambda frame: None)
    assert one.ledger.counts().failed == 1
    assert balanced(one)


def test_failures_may_be_counted_in_a_file_too() -> None:
    def enlarge(frame: np.ndarray) -> np.ndarray:
        if frame[0, 0, 0] == 1:
            raise ArithmeticError("one")
        return double(frame)

    with Stream(numbered(3), enlarge, "file", on_failure="count") as one:
        assert [shown.number for shown in one] == [0, 2]


def test_a_sources_error_reaches_the_caller_after_its_frames() -> None:
    def source() -> Iterator[np.ndarray]:
        yield from numbered(3)
        raise OSError("the cable is out")

    seen: list[int] = []
    with Stream(source(), double, "file") as one, pytest.raises(OSError, match="cable"):
        seen.extend(shown.number for shown in one)
    assert seen == [0, 1, 2]
    assert balanced(one)


def test_a_sinks_error_reaches_the_caller_and_its_frame_failed() -> None:
    class Full:
        closed = 0

        def write(self, frame: np.ndarray) -> None:
            if frame[0, 0, 0] == 2:
                raise OSError("disk full")

        def close(self) -> None:
            self.closed += 1

    sink = Full()
    one = Stream(numbered(20), double, "file")
    with pytest.raises(OSError, match="disk full"):
        one.run(sink)
    assert sink.closed == 1
    counts = one.ledger.counts()
    assert (counts.frames_out, counts.failed) == (2, 1)
    assert balanced(one)


def test_a_sink_that_returns_false_ends_the_stream() -> None:
    seen = []

    def sink(frame: np.ndarray) -> bool:
        seen.append(frame)
        return len(seen) < 3

    one = Stream(numbered(20), double, "file")
    statistics = one.run(sink)
    assert len(seen) == 3
    assert statistics.counts.frames_out == 3
    assert balanced(one)


@pytest.mark.parametrize("policy", ["live", "file"])
def test_any_thread_may_stop(policy: str) -> None:
    one = Stream(endless(), double, policy)
    threads = [threading.Thread(target=one.stop) for _ in range(4)]
    for shown in one:
        if shown.number > 10 and not threads[0].ident:
            for thread in threads:
                thread.start()
    for thread in threads:
        thread.join()
    assert balanced(one)
    with pytest.raises(RuntimeError, match="runs once"):
        next(iter(one))


def test_stop_from_within_the_upscaler_and_leaving_the_loop() -> None:
    def enlarge(frame: np.ndarray) -> np.ndarray:
        one.stop()
        return frame

    one = Stream(endless(), enlarge)
    assert list(one) == []
    assert balanced(one)
    with Stream(endless(), double) as other:
        for _ in other:
            break
    assert balanced(other)


def test_stopped_before_it_ran() -> None:
    with Stream(endless(), double) as one:
        pass
    one.stop()
    assert list(one) == []
    assert balanced(one)
    assert str(one.statistics()).startswith("in 0, out 0, dropped 0, failed 0; 0.0 FPS")


def test_an_upscaler_that_does_not_return_does_not_hold_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "GRACE_S", 0.05)
    release, entered = threading.Event(), threading.Event()

    def stuck(frame: np.ndarray) -> np.ndarray:
        entered.set()
        release.wait()
        return frame

    one = Stream(endless(), stuck)
    threading.Thread(target=_stop_when, args=(entered, one)).start()
    with pytest.raises(TimeoutError, match="gidrn inference did not return"):
        list(one)
    assert balanced(one)
    release.set()


def _stop_when(event: threading.Event, one: Stream) -> None:
    event.wait()
    with suppress(TimeoutError):
        one.stop()


def test_a_callback_may_push_frames() -> None:
    feed = FrameFeed()

    def camera() -> None:
        for frame in numbered(20):
            assert feed.push(frame)
        feed.close()

    pusher = threading.Thread(target=camera)
    with Stream(feed, double, "file") as one:
        pusher.start()
        assert [shown.frame[0, 0, 0] for shown in one] == list(range(20))
    pusher.join()
    assert not feed.push(numbered(1)[0])


def test_stopping_closes_a_feed_that_is_silent() -> None:
    feed = FrameFeed()
    with Stream(feed, double, age_ms=60_000) as one:
        feed.push(numbered(1)[0])
        for _ in one:
            break
    assert not feed.push(numbered(1)[0])
    assert balanced(one)


def test_a_generator_is_closed() -> None:
    closed = []

    def source() -> Iterator[np.ndarray]:
        try:
            yield from endless()
        finally:
            closed.append(threading.current_thread().name)

    with Stream(source(), double) as one:
        next(iter(one))
    assert closed == ["gidrn capture"]


INTERRUPTED = """
import signal, sys, threading, time
import numpy as np
from gidrn_runtime import Stream

def camera():
    while True:
        time.sleep(0.001)
        yield np.zeros((4, 6, 3), np.uint8)

one = Stream(camera(), lambda frame: frame)
try:
    with one:
        for shown in one:
            if shown.number > 3 and not sys.stdout.closed:
                print("ready", flush=True)
                sys.stdout.close()
except KeyboardInterrupt:
    counts = one.ledger.counts()
    assert counts.inside == 0 and counts.balanced
    assert threading.enumerate() == [threading.main_thread()]
    sys.exit(77)
"""


def test_ctrl_c_stops_cleanly() -> None:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "runtime")}
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 77, err


def test_no_threads_or_descriptors_are_left_after_many_streams(
    tmp_path: Path, upscale: Upscaler
) -> None:
    clip = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 25, (16, 12))
    for frame in numbered(5, (12, 16)):
        writer.write(frame)
    writer.release()

    def cycle() -> None:
        assert Stream(clip, upscale, "file").run(lambda frame: None).counts.frames_out == 5
        with Stream(endless(), upscale) as one:
            next(iter(one))
        assert balanced(one)

    def held() -> tuple[int, int]:
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    cycle()
    before = held()
    for _ in range(50):
        cycle()
    assert held() == before


def test_a_folder_of_image_files(tmp_path: Path) -> None:
    with Stream(numbered(3), double, "file") as one:
        one.run(FolderSink(tmp_path / "new"))
    names = sorted(os.listdir(tmp_path / "new"))
    assert names == ["000000.png", "000001.png", "000002.png"]
    image = cv2.imread(str(tmp_path / "new" / names[2]))
    np.testing.assert_array_equal(image, np.full((6, 10, 3), 2))
    with pytest.raises(FileExistsError, match=r"000000\.png is there"):
        Stream(numbered(1), double, "file").run(FolderSink(tmp_path / "new"))
    Stream(numbered(1), double, "file").run(FolderSink(tmp_path / "new", overwrite=True))
    with pytest.raises(ValueError, match="images are written as"):
        FolderSink(tmp_path, extension=".mp3")


def test_raw_frames_are_of_one_size(tmp_path: Path) -> None:
    with (tmp_path / "raw").open("wb") as file:
        Stream(numbered(3), double, "file").run(RawSink(file))
    assert (tmp_path / "raw").read_bytes() == b"".join(
        double(frame).tobytes() for frame in numbered(3)
    )
    with (tmp_path / "raw").open("wb") as file, pytest.raises(ValueError, match="of one size"):
        Stream([*numbered(2), *numbered(1, (9, 9))], double, "file").run(RawSink(file))


def test_what_a_sink_may_be() -> None:
    class Own:
        def put(self, shown: Shown) -> None:
            assert shown.made_by == "double"

        def close(self) -> None:
            pass

    Stream(numbered(3), double, "file").run(Own())
    with pytest.raises(ValueError, match="a sink is a function"):
        sinks.find(3)


def test_a_window_needs_an_opencv_that_has_them() -> None:
    if "GUI:                           NONE" not in cv2.getBuildInformation():
        pytest.skip("this OpenCV has windows")
    with pytest.raises(ImportError, match="pip install opencv-python"):
        sinks.WindowSink()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"policy": "fast"}, "policy is 'live' or 'file'"),
        ({"policy": "file", "age_ms": 5}, "age_ms has no meaning"),
        ({"policy": "file", "ladder": object()}, "ladder has no meaning"),
        ({"queue": 4}, "queue has no meaning"),
        ({"age_ms": 0}, "age budget"),
        ({"policy": "file", "queue": 0}, "queue is a whole number"),
        ({"upscale": 3}, "upscale is a function"),
        ({"on_failure": "ignore"}, "on_failure is"),
        ({"timeout_s": 0}, "timeout_s is above 0"),
        ({"source": 3.5}, "a source is a camera's index"),
        ({"source": True}, "a source is a camera's index"),
        ({"keep": -1}, "keeps 0 entries"),
        ({"reopen": True}, "reopen has no meaning"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Stream(**{"source": [], "upscale": double, **arguments})


def test_frames_that_are_none_are_told(upscale: Upscaler) -> None:
    with pytest.raises(ValueError, match="a frame is uint8"):
        Stream([np.zeros((4, 5), np.uint8)], upscale, "file").run(lambda frame: None)


def test_an_upscaler_that_returns_nothing_is_told() -> None:
    def forgets(frame: np.ndarray) -> None:
        frame.sum()

    with pytest.raises(ValueError, match="forgets returned NoneType and no frame"):
        Stream(numbered(3), forgets, "file").run(lambda frame: None)  # type: ignore[arg-type]


def test_statistics_tell_each_stage() -> None:
    statistics = Stream(numbered(5), double, "file").run(lambda frame: time.sleep(0.001))
    assert set(statistics.stage_ms) == {"decode", "copy", "infer", "sink"}
    assert statistics.stage_ms["sink"].p50 >= 0.99  # 1 ms, less the histogram's error
    assert statistics.fps > 0
    line = str(statistics)
    for word in ("in 5, out 5", "FPS", "age p50", "decode", "infer", "sink"):
        assert word in line
