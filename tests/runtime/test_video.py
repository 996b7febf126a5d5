"""``python -m gidrn_runtime video``: every frame, its time, its colour, and all that comes along.

Sources are made by FFmpeg and PyAV in the tests; what comes out is read by ffprobe and PyAV.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gidrn_runtime import Upscaler
from gidrn_runtime.__main__ import main
from gidrn_runtime.video import VideoOptions, upscale_video
from gidrn_runtime.video.ahead import Ahead
from gidrn_runtime.video.library import import_av

av = import_av()  # untyped: its stubs ask for checks of what a test may take as given

REPOSITORY = Path(__file__).resolve().parents[2]
Program = Callable[[str], str]
Ffmpeg = Callable[..., Path]
PICTURE = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=0.8"]
TONE = ["-f", "lavfi", "-i", "sine=frequency=440:duration=0.8"]
SUBTITLES = "1\n00:00:00,100 --> 00:00:00,300\nHello\n\n2\n00:00:00,400 --> 00:00:00,700\nWorld\n"
CHAPTERS = (
    ";FFMETADATA1\ntitle=A walk\ncreation_time=2021-03-04T05:06:07.000000Z\n"
    "[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=300\ntitle=Out\n"
    "[CHAPTER]\nTIMEBASE=1/1000\nSTART=300\nEND=800\ntitle=Back\n"
)


@pytest.fixture
def ffmpeg(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ffmpeg:
    """Runs FFmpeg in the test's folder, which becomes the working folder; its last argument is the
    file that it makes."""
    monkeypatch.chdir(tmp_path)
    tool = program("ffmpeg")

    def run(*arguments: str) -> Path:
        subprocess.run([tool, "-v", "error", "-y", *arguments], check=True, timeout=60)
        return Path(arguments[-1])

    return run


@pytest.fixture
def probe(program: Program) -> Callable[[Path], dict[str, Any]]:
    """All that ffprobe tells of a file."""
    tool = program("ffprobe")

    def run(path: Path) -> dict[str, Any]:
        done = subprocess.run(
            [
                tool,
                "-v",
                "error",
                "-of",
                "json",
                "-show_streams",
                "-show_format",
                "-show_chapters",
                path,
            ],
            capture_output=True,
            check=True,
            timeout=60,
        )
        facts: dict[str, Any] = json.loads(done.stdout)
        return facts

    return run


def enlarge(source: Path, target: str, model: Path, *more: str) -> Path:
    """The command, which must succeed; half a second of video is several segments."""
    options = ["--model", str(model), "--threads", "1", "--segment-seconds", "0.3", *more]
    assert main(["video", str(source), "-o", target, *options]) == 0
    assert not Path(f"{target}.work").exists()
    return Path(target)


def refused(capfd: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    """The one line with which the command ends."""
    capfd.readouterr()
    assert main(["video", *arguments, "--threads", "1"]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(r"gidrn_runtime: [^\n]+\n", err), err
    return err


def frames_of(path: Path, pixel_format: str | None = None) -> list[tuple[Fraction, np.ndarray]]:
    """Time in seconds and, in the pixel format, values of each frame."""
    with av.open(str(path)) as container:
        found = []
        for frame in container.decode(video=0):
            assert frame.pts is not None
            values = frame.to_ndarray(format=pixel_format) if pixel_format else np.zeros(0)
            found.append((frame.pts * Fraction(frame.time_base), values))
    return found


def times_of(path: Path) -> list[Fraction]:
    return [time for time, _ in frames_of(path)]


def packets_of(path: Path, kind: str, number: int = 0) -> list[tuple[Fraction, bytes]]:
    """Time and data of the packets of one stream."""
    with av.open(str(path)) as container:
        stream = [s for s in container.streams if s.type == kind][number]
        return [
            (packet.pts * Fraction(packet.time_base), bytes(packet))
            for packet in container.demux(stream)
            if packet.size and packet.pts is not None
        ]


def write_video(
    path: Path,
    times: Sequence[int],
    *,
    time_base: Fraction = Fraction(1, 90000),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    size_hw: tuple[int, int] = (48, 64),
    tags: tuple[int, int, int, int] = (1, 1, 1, 1),
    matrix: Sequence[int] | None = None,
    seed: int = 0,
    codes: tuple[int, int] = (60, 200),
) -> list[np.ndarray]:
    """A video by PyAV of blocks of noise: frames at `times`, colour tagged; returns the lumas."""
    rng = np.random.default_rng(seed)
    bits = int(pixel_format[-4:-2]) if pixel_format.endswith("le") else 8
    dtype = np.uint8 if bits == 8 else np.uint16
    lumas = []
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options={"bf": "2"})
        stream.height, stream.width = size_hw
        stream.pix_fmt, stream.time_base = pixel_format, time_base
        context = stream.codec_context
        context.time_base = time_base
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = tags
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for pts in times:
            frame = av.VideoFrame(size_hw[1], size_hw[0], pixel_format)
            for number, plane in enumerate(frame.planes):
                rows = np.frombuffer(plane, dtype).reshape(plane.height, -1)[:, : plane.width]
                low, high = codes if number == 0 else (120, 136)
                small = rng.integers(low, high, (-(-plane.height // 8), -(-plane.width // 8)))
                noise = small.repeat(8, 0).repeat(8, 1)[: plane.height, : plane.width]
                rows[:] = noise * 2 ** (bits - 8)
                if number == 0:
                    lumas.append(rows.copy())
            frame.pts, frame.time_base = pts, time_base
            frame.colorspace, frame.color_range = tags[:2]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return lumas


# --- Frames and their times


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("in.mp4", "out.mp4"),
        ("in.mp4", "out.mkv"),
        ("in.mkv", "out.mov"),
        ("in.ts", "out.mp4"),
        ("in.ts", "out.mkv"),
    ],
)
def test_every_frame_at_its_time_with_its_sound(
    ffmpeg: Ffmpeg, tiny: Path, name: str, target: str, capfd: pytest.CaptureFixture[str]
) -> None:
    source = ffmpeg(*PICTURE, *TONE, "-c:v", "libx264", "-bf", "2", "-c:a", "aac", name)
    out = enlarge(source, target, tiny)
    origin = Fraction(0)
    if name == "in.ts":  # its clock begins anywhere
        origin = min(packets_of(source, kind)[0][0] for kind in ("video", "audio"))
    wanted = [time - origin for time in times_of(source)]
    came = times_of(out)
    assert len(came) == len(wanted) == 20
    # Matroska counts in milliseconds; shifts by its muxer, of AAC's priming, move all alike.
    shift = came[0] - wanted[0]
    assert max(abs(a - b - shift) for a, b in zip(came, wanted, strict=True)) <= Fraction(1, 1000)
    sound, before = packets_of(out, "audio"), packets_of(source, "audio")
    assert len(sound) == len(before)
    assert abs(sound[5][0] - (before[5][0] - origin) - shift) <= Fraction(1, 1000)
    if name != "in.ts":  # whose AAC has headers in each packet, which the others have not
        assert [data for _, data in sound] == [data for _, data in before]
    told = capfd.readouterr().out
    assert re.fullmatch(
        rf"{name} -> {target} 128x96: 20 frames in, 20 out, in \d+ s \([\d.]+ FPS, ort-cpu\), "
        r"[\d.]+ MB\n",
        told,
    )


def test_variable_frame_rate_is_kept_to_the_tick(tmp_path: Path, tiny: Path) -> None:
    """Segments begin where steps are long and short, where an encoder's own times would collide."""
    steps = np.random.default_rng(3).integers(900, 30000, 40)
    times = [int(t) for t in np.concatenate([[0], np.cumsum(steps)])]
    source = tmp_path / "vfr.mp4"
    write_video(source, times)
    out = enlarge(source, str(tmp_path / "out.mp4"), tiny)
    assert times_of(out) == times_of(source) == [Fraction(t, 90000) for t in times]
    matroska = enlarge(source, str(tmp_path / "out.mkv"), tiny)
    # Matroska counts in milliseconds, and so does everyone who writes it.
    errors = [abs(a - b) for a, b in zip(times_of(matroska), times_of(source), strict=True)]
    assert max(errors) <= Fraction(1, 2000) + min(errors)
    with av.open(str(out)) as container:
        decoding = [p.dts for p in container.demux(video=0) if p.size]
    assert decoding == sorted(set(decoding))


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1", "ffv1"])
def test_every_codec_resembles_the_source(tmp_path: Path, tiny: Path, codec: str) -> None:
    source = tmp_path / "in.mkv"
    lumas = write_video(source, range(0, 90000, 3600), codec="ffv1", size_hw=(64, 64))
    out = enlarge(source, str(tmp_path / "out.mkv"), tiny, "--codec", codec)
    with av.open(str(out)) as container:
        assert (
            container.streams.video[0].codec_context.name
            == {
                "libx264": "h264",
                "libx265": "hevc",
                "libsvtav1": container.streams.video[0].codec_context.name,
                "ffv1": "ffv1",
            }[codec]
        )
    found = [values[:128, :128] for _, values in frames_of(out, "gray")]
    assert len(found) == len(lumas)
    for values, luma in zip(found, lumas, strict=True):
        # Loss of the encoders at their usual quality; a frame out of place is off by some 50.
        wanted = (luma.repeat(2, 0).repeat(2, 1) - 16.0) * 255 / 219  # gray is of full range
        assert np.abs(values - wanted).mean() < 6


# --- Colour

CASES = [
    ("yuv420p", (1, 1, 1, 1), ("bt709", "tv", "bt709", "bt709")),
    ("yuv420p", (6, 2, 6, 6), ("smpte170m", "pc", "smpte170m", "smpte170m")),
    ("yuv420p10le", (9, 1, 9, 16), ("bt2020nc", "tv", "bt2020", "smpte2084")),
    ("yuv422p10le", (5, 1, 5, 1), ("bt470bg", "tv", "bt470bg", "bt709")),
    ("yuv444p12le", (1, 2, 1, 13), ("bt709", "pc", "bt709", "iec61966-2-1")),
]


@pytest.mark.parametrize(("pixel_format", "tags", "names"), CASES)
def test_colour_is_read_applied_and_tagged(
    tmp_path: Path,
    tiny: Path,
    probe: Any,
    pixel_format: str,
    tags: tuple[int, int, int, int],
    names: tuple[str, ...],
) -> None:
    """Through RGB and back, without loss: each luma within a code value, tags as they were."""
    source = tmp_path / "in.mkv"
    lumas = write_video(
        source, range(0, 400, 40), time_base=Fraction(1, 1000), codec="ffv1",
        pixel_format=pixel_format, tags=tags,
    )  # fmt: skip
    out = enlarge(source, str(tmp_path / "out.mkv"), tiny, "--codec", "ffv1")
    video = probe(out)["streams"][0]
    keys = ("color_space", "color_range", "color_primaries", "color_transfer")
    assert tuple(video[key] for key in keys) == names
    assert video["pix_fmt"] == pixel_format
    with av.open(str(out)) as container:
        for frame, luma in zip(container.decode(video=0), lumas, strict=True):
            plane: Any = frame.planes[0]
            rows = np.frombuffer(plane, luma.dtype).reshape(96, -1)[:, :128]
            high = luma.repeat(2, 0).repeat(2, 1).astype(int)
            assert np.abs(rows - high).max() <= 1


@pytest.mark.parametrize(("target", "codec"), [("out.mp4", "h264"), ("out.mkv", "h264")])
def test_tags_reach_players_of_lossy_video(
    tmp_path: Path, tiny: Path, probe: Any, target: str, codec: str
) -> None:
    write_video(tmp_path / "in.mp4", range(0, 36000, 3600), tags=(1, 2, 1, 13))
    out = enlarge(tmp_path / "in.mp4", str(tmp_path / target), tiny)
    video = probe(out)["streams"][0]
    assert video["codec_name"] == codec
    assert (video["color_space"], video["color_range"]) == ("bt709", "pc")
    assert (video["color_primaries"], video["color_transfer"]) == ("bt709", "iec61966-2-1")


def test_ten_bits_stay_ten(tmp_path: Path, tiny: Path, probe: Any) -> None:
    source = tmp_path / "in.mp4"
    write_video(source, range(0, 36000, 3600), codec="libx265", pixel_format="yuv420p10le")
    out = enlarge(source, str(tmp_path / "out.mp4"), tiny)
    video = probe(out)["streams"][0]
    assert (video["codec_name"], video["codec_tag_string"]) == ("hevc", "hvc1")
    assert video["pix_fmt"] == "yuv420p10le"


def test_what_frames_carry_and_lose_is_told(
    ffmpeg: Ffmpeg, tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    source = ffmpeg(
        *PICTURE, "-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-colorspace", "bt2020nc",
        "-color_trc", "smpte2084", "-color_primaries", "bt2020", "-x265-params",
        f"log-level=error:colormatrix=bt2020nc:master-display={display}", "in.mp4",
    )  # fmt: skip
    enlarge(source, "out.mp4", tiny)
    err = capfd.readouterr().err
    assert err == (
        "gidrn_runtime: in.mp4: the metadata of the mastering display (HDR10) are not kept\n"
    )


def test_what_is_not_tagged_is_guessed_and_told(
    tmp_path: Path, tiny: Path, probe: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "in.mp4", range(0, 36000, 3600), tags=(2, 0, 2, 2))
    out = enlarge(tmp_path / "in.mp4", str(tmp_path / "out.mp4"), tiny)
    assert "names no colour matrix; taken as BT.601" in capfd.readouterr().err
    assert probe(out)["streams"][0]["color_space"] == "smpte170m"
    told = enlarge(tmp_path / "in.mp4", str(tmp_path / "as709.mp4"), tiny, "--matrix", "709")
    assert capfd.readouterr().err == ""
    assert probe(told)["streams"][0]["color_space"] == "bt709"


# --- What comes along


def test_everything_else_is_kept_in_matroska(
    ffmpeg: Ffmpeg, tiny: Path, probe: Any, tmp_path: Path
) -> None:
    (tmp_path / "s.srt").write_text(SUBTITLES)
    (tmp_path / "meta.txt").write_text(CHAPTERS)
    source = ffmpeg(
        *PICTURE, *TONE, "-f", "lavfi", "-i", "sine=frequency=880:duration=0.8", "-i", "s.srt",
        "-i", "meta.txt", "-map", "0", "-map", "1", "-map", "2", "-map", "3",
        "-map_metadata", "4", "-c:v", "libx264", "-bf", "2", "-c:a:0", "aac", "-c:a:1", "flac",
        "-c:s", "srt", "-vf", "setsar=4/3", "-metadata:s:a:0", "language=eng",
        "-metadata:s:a:1", "language=fra", "-disposition:a:1", "comment",
        "-disposition:a:0", "default", "-metadata:s:s:0", "language=deu",
        "-disposition:s:0", "forced", "-attach", "s.srt", "-metadata:s:t", "mimetype=text/plain",
        "in.mkv",
    )  # fmt: skip
    out = enlarge(source, "out.mkv", tiny)
    before, after = probe(source), probe(out)
    assert len(after["streams"]) == len(before["streams"]) == 5
    for old, new in zip(before["streams"], after["streams"], strict=True):
        assert new["codec_type"] == old["codec_type"]
        assert new["disposition"] == old["disposition"]
        assert new.get("tags", {}).get("language") == old.get("tags", {}).get("language")
    assert after["streams"][0]["sample_aspect_ratio"] == "4:3"
    keys = ("start_time", "end_time", "tags")
    assert [[c[k] for k in keys] for c in after["chapters"]] == [
        [c[k] for k in keys] for c in before["chapters"]
    ]
    assert len(after["chapters"]) == 2
    tags = after["format"]["tags"]
    assert (tags["title"], tags["creation_time"]) == ("A walk", "2021-03-04T05:06:07.000000Z")
    for kind, number in (("audio", 0), ("audio", 1), ("subtitle", 0)):
        assert packets_of(out, kind, number) == packets_of(source, kind, number)
    with av.open(str(out)) as container:
        assert container.streams.attachments[0].data == SUBTITLES.encode()


def test_everything_else_is_kept_in_mp4(
    ffmpeg: Ffmpeg, tiny: Path, probe: Any, tmp_path: Path
) -> None:
    (tmp_path / "s.srt").write_text(SUBTITLES)
    (tmp_path / "meta.txt").write_text(CHAPTERS)
    ffmpeg("-f", "lavfi", "-i", "color=red:size=32x32", "-frames:v", "1", "cover.png")
    source = ffmpeg(
        *PICTURE, *TONE, "-i", "s.srt", "-i", "meta.txt", "-i", "cover.png", "-map", "0",
        "-map", "1", "-map", "2", "-map", "4", "-map_metadata", "3", "-c:v:0", "libx264",
        "-c:v:1", "png", "-disposition:v:1", "attached_pic", "-c:a", "aac", "-c:s", "mov_text",
        "-metadata:s:a:0", "language=jpn", "-metadata:s:s:0", "language=deu",
        "-timecode", "01:02:03:04", "in.mp4",
    )  # fmt: skip
    out = enlarge(source, "out.mp4", tiny)
    before, after = probe(source), probe(out)
    for facts in (before, after):  # apart from data, by which MOV tells time code and chapters
        kinds = sorted(stream["codec_type"] for stream in facts["streams"])
        assert [kind for kind in kinds if kind != "data"] == ["audio", "subtitle", "video", "video"]
    languages = {s["codec_type"]: s["tags"]["language"] for s in after["streams"] if "tags" in s}
    assert (languages["audio"], languages["subtitle"]) == ("jpn", "deu")
    assert [c["tags"]["title"] for c in after["chapters"]] == ["Out", "Back"]
    assert after["format"]["tags"]["title"] == "A walk"
    assert after["format"]["tags"]["creation_time"] == "2021-03-04T05:06:07.000000Z"
    assert after["streams"][0]["tags"]["timecode"] == "01:02:03:04"
    assert packets_of(out, "audio") == packets_of(source, "audio")
    texts = [data for _, data in packets_of(out, "subtitle")]
    assert b"\x00\x05Hello" in texts
    assert b"\x00\x05World" in texts
    matroska = enlarge(source, "out.mkv", tiny, "--drop", "subtitle", "--drop", "data")
    with av.open(str(matroska)) as container:  # where a cover is an attachment
        covers = [s for s in container.streams.video if s.disposition.name == "attached_pic"]
        assert len(covers) == 1


def test_what_a_container_cannot_hold_is_said_before_the_work(
    ffmpeg: Ffmpeg, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.srt").write_text(SUBTITLES)
    source = ffmpeg(*PICTURE, "-i", "s.srt", "-c:v", "libx264", "-c:s", "srt", "in.mkv")
    command = [str(source), "-o", "out.mp4", "--model", str(tiny), "--matrix", "601"]
    told = refused(capfd, *command)
    assert "out.mp4: .mp4 cannot hold stream 1 (subtitle: " in told
    assert "--drop 1" in told
    assert sorted(os.listdir()) == ["in.mkv", "s.srt", "tiny.onnx"]
    assert main(["video", *command, "--drop", "1"]) == 0
    assert "stream 1 (subtitle: " in capfd.readouterr().err
    assert "no such stream" in refused(capfd, *command[:2], "out2.mp4", *command[3:], "--drop", "7")


def test_metadata_without_a_place_is_told(
    ffmpeg: Ffmpeg, tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = ffmpeg(*PICTURE, "-metadata", "mood=sunny", "-metadata", "title=Sea", "in.mkv")
    enlarge(source, "out.mp4", tiny)
    assert ".mp4 has no place for the metadata MOOD" in capfd.readouterr().err
    enlarge(source, "out.mkv", tiny)
    assert "no place" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "matrix",
    [
        (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30),
        (-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30),
        (-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30),
    ],
    ids=["quarter", "half", "mirrored"],
)
@pytest.mark.parametrize("target", ["out.mp4", "out.mkv"])
def test_rotation_is_kept(tmp_path: Path, tiny: Path, matrix: tuple[int, ...], target: str) -> None:
    write_video(tmp_path / "in.mp4", range(0, 36000, 3600), matrix=matrix)
    out = enlarge(tmp_path / "in.mp4", str(tmp_path / target), tiny)

    def display(path: Path) -> list[int]:
        with av.open(str(path)) as container:
            frame: Any = next(container.decode(video=0))
            side = next(data for data in frame.side_data if data.type.name == "DISPLAYMATRIX")
            return [int(value) for value in np.frombuffer(side, np.int32)]

    assert (frames_of(out, "gray")[0][1].shape) == (96, 128)
    assert display(out) == display(tmp_path / "in.mp4")


def clap(path: Path) -> tuple[float, float]:
    """When the flash and the beep come, in seconds."""
    flash = next(float(t) for t, values in frames_of(path, "gray") if values.mean() > 128)
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            loud = np.flatnonzero(np.abs(frame.to_ndarray()).max(0) > 0.1)
            if len(loud):
                assert frame.pts is not None
                return flash, float(frame.pts * frame.time_base) + loud[0] / frame.sample_rate
    raise AssertionError("no beep")


@pytest.mark.parametrize(
    ("late", "name", "target"),
    [
        ("video", "in.mp4", "out.mp4"),
        ("audio", "in.mkv", "out.mp4"),
        ("video", "in.mkv", "out.mkv"),
        ("audio", "in.ts", "out.mp4"),
    ],
)
def test_sound_stays_with_the_picture(
    ffmpeg: Ffmpeg, tiny: Path, probe: Any, late: str, name: str, target: str
) -> None:
    """A flash and a beep at the same time, one stream beginning later than the other."""
    offset = ["-itsoffset", "0.25"]
    source = ffmpeg(
        *(offset if late == "video" else []),
        "-f", "lavfi", "-i", "color=black:size=64x48:rate=25:duration=1.2,"
        "drawbox=color=white:t=fill:enable='between(n,15,16)'",
        *(offset if late == "audio" else []),
        "-f", "lavfi", "-i", "aevalsrc='if(between(t,0.6,0.68),0.8*sin(2000*t),0)':d=1.2:s=48000",
        "-c:v", "libx264", "-c:a", "aac", name,
    )  # fmt: skip
    out = enlarge(source, target, tiny)
    (flash, beep), (old_flash, old_beep) = clap(out), clap(source)
    # A millisecond for Matroska's clock, one for the other stream's.
    assert abs((flash - beep) - (old_flash - old_beep)) < 0.002
    assert abs(abs(old_flash - old_beep) - 0.25) < 0.05  # the source is what it is meant to be
    length = float(probe(out)["format"]["duration"])
    # Priming of AAC, 1024 / 48000 s; and of a transport stream ffprobe does not know how long its
    # last packet of sound lasts, which is several frames of AAC.
    assert abs(length - float(probe(source)["format"]["duration"])) < (
        0.15 if "ts" in name else 0.06
    )


@pytest.mark.parametrize(("height", "width"), [(27, 35), (48, 35), (27, 64), (5, 9)])
def test_odd_sizes(tmp_path: Path, tiny: Path, height: int, width: int) -> None:
    source = tmp_path / "in.mkv"
    write_video(source, range(0, 18000, 3600), codec="ffv1", size_hw=(height, width))
    lossless = enlarge(source, str(tmp_path / "lossless.mkv"), tiny, "--codec", "ffv1")
    assert frames_of(lossless, "gray")[0][1].shape == (2 * height, 2 * width)
    if height > 8:
        out = enlarge(source, str(tmp_path / "out.mp4"), tiny)
        assert frames_of(out, "gray")[0][1].shape == (2 * height, 2 * width)


def test_an_odd_result_is_refused(
    tmp_path: Path, make_model: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    source, model = tmp_path / "in.mkv", make_model(scale=3)
    write_video(source, range(0, 18000, 3600), codec="ffv1", size_hw=(27, 35))
    told = refused(capfd, str(source), "-o", str(tmp_path / "out.mp4"), "--model", str(model))
    assert "105x81 has an odd side" in told


def test_files_named_by_their_time(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg takes what stands before a colon for a protocol."""
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "12:30.mp4", range(0, 9000, 3600))
    enlarge(Path("12:30.mp4"), "2026-11-26T12:30.mkv", tiny)
    assert len(times_of(tmp_path / "2026-11-26T12:30.mkv")) == 3


def test_gray_stays_gray(tmp_path: Path, make_model: Any) -> None:
    source = tmp_path / "in.mkv"
    write_video(source, range(0, 18000, 3600), codec="ffv1", pixel_format="gray")
    tints = make_model(gain=(0.5, 1, 0.8))
    out = enlarge(source, str(tmp_path / "out.mkv"), tints, "--codec", "ffv1")
    with av.open(str(out)) as container:
        for frame in container.decode(video=0):
            for plane in frame.planes[1:]:
                assert set(bytes(plane)) <= {128, 0}  # 0: padding of the rows


# --- Sources that are not whole, and disks that are full


def cut(path: Path, share: float, name: str) -> Path:
    """The file's beginning."""
    out = path.with_name(name)
    data = path.read_bytes()
    out.write_bytes(data[: int(len(data) * share)])
    return out


@pytest.mark.parametrize("name", ["in.mp4", "in.mkv"])
def test_a_file_cut_short(
    ffmpeg: Ffmpeg, tiny: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    long = [*PICTURE[:-1], PICTURE[-1].replace("0.8", "4")]
    whole = ffmpeg(*long, *TONE, "-c:v", "libx264", "-movflags", "+faststart", name)
    source = cut(whole, 0.6, f"cut{whole.suffix}")
    command = [str(source), "-o", "out.mp4", "--model", str(tiny), "--matrix", "601"]
    told = refused(capfd, *command)
    assert "cut short: it should last 4.0" in told
    assert "--allow-damaged" in told
    assert not Path("out.mp4").exists()
    assert main(["video", *command, "--threads", "1", "--allow-damaged"]) == 0
    out, err = capfd.readouterr()
    assert "1 pieces of the source damaged" in out
    assert "cut short" in err
    count = len(times_of(Path("out.mp4")))
    assert 5 < count < 100
    assert f"{count} frames in, {count} out" in out


def test_a_damaged_frame_is_never_dropped_silently(
    ffmpeg: Ffmpeg, tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = ffmpeg(*PICTURE, "-c:v", "libx264", "-bf", "0", "-qp", "10", "in.mp4")
    with av.open(str(whole)) as container:
        packet = [p for p in container.demux(video=0) if p.size][10]
        assert packet.pos is not None
        middle = packet.pos + packet.size // 2
        length = packet.size // 4
    data = bytearray(whole.read_bytes())
    data[middle : middle + length] = np.random.default_rng(0).bytes(length)
    Path("bad.mp4").write_bytes(data)
    command = ["bad.mp4", "-o", "out.mp4", "--model", str(tiny), "--matrix", "601"]
    told = refused(capfd, *command)
    assert "bad.mp4 is damaged: its video cannot be decoded at 0." in told
    assert "--allow-damaged" in told
    assert main(["video", *command, "--threads", "1", "--allow-damaged"]) == 0
    assert re.search(r"[1-9] pieces of the source damaged", capfd.readouterr().out)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "(0 bytes) is damaged, cut short or no video that FFmpeg can read"),
        (b"hello " * 1000, "(6000 bytes) is damaged, cut short or no video"),
    ],
)
def test_no_video_at_all(
    tmp_path: Path, tiny: Path, capfd: pytest.CaptureFixture[str], data: bytes, words: str
) -> None:
    (tmp_path / "in.mp4").write_bytes(data)
    command = [str(tmp_path / "in.mp4"), "-o", str(tmp_path / "out.mp4"), "--model", str(tiny)]
    assert words in refused(capfd, *command)


def test_sources_that_are_not_enlarged(
    ffmpeg: Ffmpeg, tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fields = ffmpeg(*PICTURE, "-flags", "+ilme+ildct", "-c:v", "mpeg2video", "fields.mpg")
    assert "is interlaced" in refused(capfd, str(fields), "-o", "o.mp4", "--model", str(tiny))
    sound = ffmpeg(*TONE, "sound.m4a")
    assert "has no video; what it holds is audio" in refused(
        capfd, str(sound), "-o", "o.mp4", "--model", str(tiny)
    )
    rgb = ffmpeg(*PICTURE, "-c:v", "ffv1", "-pix_fmt", "bgr0", "rgb.mkv")
    assert "no such pixels are read" in refused(
        capfd, str(rgb), "-o", "o.mp4", "--model", str(tiny)
    )
    two = ffmpeg(*PICTURE, *PICTURE, "-map", "0", "-map", "1", "two.mkv")
    told = refused(capfd, str(two), "-o", "o.mkv", "--model", str(tiny))
    assert "more than one video" in told
    assert "--drop 1" in told


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["-o", "out.avi"], "out.avi has '.avi'; videos are written as .mp4"),
        (["-o", "no/out.mp4"], "no is not a folder"),
        (["-o", "in.mp4", "--overwrite"], "is both input and output"),
        (["-o", "there.mp4"], "there.mp4 is there already; --overwrite"),
        (["-o", "o.mp4", "--codec", "h265"], "no codec 'h265' here; choose one of libx264"),
        (
            ["-o", "o.mp4", "--preset", "swift"],
            "libx264 has no preset 'swift'; choose one of ultrafast",
        ),
        (["-o", "o.mkv", "--codec", "ffv1", "--quality", "3"], "ffv1 writes without loss"),
        (["-o", "o.mp4", "--segment-seconds", "0"], "more than 0 seconds and has an end"),
        (["-o", "o.mp4", "--segment-seconds", "inf"], "more than 0 seconds and has an end"),
    ],
)
def test_what_is_asked_for_wrongly(
    tmp_path: Path,
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    more: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(Path("in.mp4"), range(0, 18000, 3600))
    Path("there.mp4").touch()
    assert words in refused(capfd, "in.mp4", *more, "--model", str(tiny))


def test_a_model_of_frames_is_refused(tmp_path: Path, tiny: Path) -> None:
    class OfFrames:
        def describe(self) -> dict[str, object]:
            return {"frames": "bgr"}

    model: Any = OfFrames()
    with pytest.raises(ValueError, match="exported without --frames"):
        upscale_video(model, tmp_path / "in.mp4", tmp_path / "out.mp4")


def test_without_pyav_the_remedy_is_told(run_python: Any, tmp_path: Path) -> None:
    (tmp_path / "in.mp4").touch()
    done = run_python(
        "from gidrn_runtime.__main__ import main\n"
        f"sys.exit(main(['video', {str(tmp_path / 'in.mp4')!r}, '-o', 'out.mp4']))",
        blocked=["av"],
    )
    assert done.returncode == 2
    assert 'pip install "gidrn[video]"' in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_ahead_hands_over_errors_and_stops() -> None:
    def items() -> Any:
        yield 1
        yield 2
        raise OSError("gone")

    taken = iter(Ahead(items(), 1))
    assert (next(taken), next(taken)) == (1, 2)
    with pytest.raises(OSError, match="gone"):
        next(taken)
    closed = []

    def endless() -> Any:
        try:
            while True:
                yield 0
        finally:
            closed.append(True)

    ahead = Ahead(endless(), 2)
    assert next(iter(ahead)) == 0
    ahead.stop()
    ahead.join()
    assert closed == [True]


def test_the_api_tells_what_was_done(tmp_path: Path, tiny: Path) -> None:
    source = tmp_path / "in.mp4"
    write_video(source, range(0, 36000, 3600))
    with Upscaler(tiny, threads=1) as upscale:
        result = upscale_video(upscale, source, tmp_path / "out.mp4", VideoOptions(preset="fast"))
    assert (result.frames_in, result.frames_out, result.resumed, result.damaged) == (10, 10, 0, 0)
    assert result.size_hw == (96, 128)
    assert result.file_bytes == (tmp_path / "out.mp4").stat().st_size
    assert set(result.stages_s) == {"decode", "to_rgb", "enlarge", "from_rgb", "encode", "join"}


def test_a_full_disk(tmp_path: Path, tiny: Path) -> None:
    """What the disk took is kept, so that the same command goes on when there is room."""
    source = tmp_path / "in.mkv"
    write_video(source, range(0, 90000, 3600), codec="ffv1", codes=(0, 255))
    command = [sys.executable, "-m", "gidrn_runtime", "video", str(source), "--model", str(tiny)]
    command += ["--codec", "ffv1", "--segment-seconds", "0.2", "--threads", "1"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "runtime")}

    def run(target: str, limit: int | None) -> subprocess.CompletedProcess[str]:
        def full() -> None:
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        return subprocess.run(
            [*command, "-o", str(tmp_path / target)],
            env=environment,
            preexec_fn=full,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    assert run("whole.mkv", None).returncode == 0
    size = (tmp_path / "whole.mkv").stat().st_size
    for limit in (size // 12, size // 2):  # in a segment; in the joining
        done = run("out.mkv", limit)
        assert done.returncode == 1, done.stderr
        assert re.fullmatch(r"(gidrn_runtime: [^\n]+\n)+", done.stderr), done.stderr
        assert re.search(r"cannot write .*: File too large\n$", done.stderr)
        assert not (tmp_path / "out.mkv").exists()
    assert run("out.mkv", None).returncode == 0
    assert (tmp_path / "out.mkv").read_bytes() == (tmp_path / "whole.mkv").read_bytes()
