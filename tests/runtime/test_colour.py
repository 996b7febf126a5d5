"""YCbCr to RGB and back: the standards' own figures, FFmpeg's, and every coding there and back."""

from __future__ import annotations

import subprocess
from typing import Any

import numpy as np
import pytest

from gidrn_runtime import Upscaler, colour_conformance, still_conformance
from gidrn_runtime.__main__ import main
from gidrn_runtime.colour import (
    PIXEL_FORMATS,
    SITINGS,
    Coding,
    pack,
    planes_from_rgb,
    rgb_from_planes,
    unpack,
)
from gidrn_runtime.colour_conformance import code_values
from gidrn_runtime.video.library import import_av

av = import_av()  # untyped: its stubs ask for checks of what a test may take as given

# 75 % bars, 8 bits, limited range. BT.601: the table of 75 % bars that ITU-R BT.801 and vendors of
# test signals print. BT.709: worked out by hand from Y = 0.2126 R + 0.7152 G + 0.0722 B, for
# yellow R = G = 0.75: Y = 0.69585, 219 Y + 16 = 168.39; Cb = (0 - Y) / 1.8556 = -0.375,
# 224 Cb + 128 = 44; Cr = (0.75 - Y) / 1.5748 = 0.03439, 224 Cr + 128 = 135.70.
BARS = {
    "white": (0.75, 0.75, 0.75),
    "yellow": (0.75, 0.75, 0),
    "cyan": (0, 0.75, 0.75),
    "green": (0, 0.75, 0),
    "magenta": (0.75, 0, 0.75),
    "red": (0.75, 0, 0),
    "blue": (0, 0, 0.75),
    "black": (0, 0, 0),
}
PUBLISHED = {
    "601": {
        "white": (180, 128, 128),
        "yellow": (162, 44, 142),
        "cyan": (131, 156, 44),
        "green": (112, 72, 58),
        "magenta": (84, 184, 198),
        "red": (65, 100, 212),
        "blue": (35, 212, 114),
        "black": (16, 128, 128),
    },
    "709": {
        "white": (180, 128, 128),
        "yellow": (168, 44, 136),
        "cyan": (145, 147, 44),
        "green": (133, 63, 52),
        "magenta": (63, 193, 204),
        "red": (51, 109, 212),
        "blue": (28, 212, 120),
        "black": (16, 128, 128),
    },
}
CODINGS = list(colour_conformance.codings())


def flat(codes: tuple[int, int, int], dtype: Any = np.uint8) -> list[np.ndarray]:
    return [np.full(hw, c, dtype) for hw, c in zip([(4, 6), (2, 3), (2, 3)], codes, strict=True)]


@pytest.mark.parametrize("matrix", PUBLISHED)
@pytest.mark.parametrize("bar", BARS)
def test_the_bars_of_the_standards(matrix: str, bar: str) -> None:
    published, rgb = PUBLISHED[matrix][bar], BARS[bar]
    coding = Coding(matrix, "limited")
    read = rgb_from_planes(flat(published), coding)[0, :, 0, 0]
    # Half a code value of each component, the worst of which is Cb in B: 1.8556 / 224 / 2.
    np.testing.assert_allclose(read, rgb, atol=0.0085)
    frame = np.empty((1, 3, 4, 6), np.float32)
    frame[0] = np.array(rgb, np.float32)[:, None, None]
    written = [int(p[0, 0]) for p in planes_from_rgb(frame, coding, (True, True))]
    assert written == list(published)
    r, g, b = (str(value) for value in rgb)
    assert code_values((r, g, b), coding) == published


@pytest.mark.parametrize(("coding", "pixel_format"), CODINGS, ids=str)
def test_every_coding_there_and_back(coding: Coding, pixel_format: str) -> None:
    finding = colour_conformance.deviation(coding, pixel_format)
    assert finding.ok, finding
    assert finding.worst <= 1


@pytest.mark.parametrize(("coding", "pixel_format"), CODINGS, ids=str)
def test_a_wrong_matrix_or_range_shows(coding: Coding, pixel_format: str) -> None:
    wrong = colour_conformance.misread(coding, pixel_format)
    assert not wrong.ok
    assert wrong.worst >= 6 * 2 ** (coding.bits - 8)  # several levels of 8 bits


def test_a_network_that_shifts_colour_fails_the_kit() -> None:
    findings = colour_conformance.examine(lambda rgb: rgb.repeat(2, 2).repeat(2, 3) * 0.98)
    assert not any(finding.ok for finding in findings)


def test_the_kit_through_an_engine(tiny: Any) -> None:
    with Upscaler(tiny) as upscale:
        assert all(finding.ok for finding in colour_conformance.examine(upscale.run_tensor))


def test_the_command_tells_each_coding(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["colour-check"]) == 0
    out = capfd.readouterr().out
    assert len(out.splitlines()) == 2 + len(CODINGS) + 3


@pytest.mark.parametrize("finding", still_conformance.examine(), ids=lambda finding: finding.kind)
def test_stills_come_back_and_usual_mistakes_show(
    finding: still_conformance.StillFinding,
) -> None:
    assert finding.ok, finding


def test_the_kit_finds_a_network_that_shifts_stills(monkeypatch: pytest.MonkeyPatch) -> None:
    shifted = lambda x: x.repeat(2, 2).repeat(2, 3) * np.float32(0.98)  # noqa: E731
    monkeypatch.setattr(still_conformance, "repeat_twice", shifted)
    assert not any(finding.ok for finding in still_conformance.examine())


def noise_planes(name: str, height: int = 24, width: int = 32) -> list[np.ndarray]:
    """Random luma and moderate chroma, so that no RGB is clipped."""
    rng = np.random.default_rng(0)
    layout = PIXEL_FORMATS[name]
    planes = []
    for number, hw in enumerate([(height, width), *[layout.chroma_hw(height, width)] * 2]):
        low, high = (60, 200) if number == 0 else (118, 138)
        steps = 2 ** (layout.bits - 8)
        planes.append(rng.integers(low * steps, high * steps, hw).astype(layout.dtype))
    return planes


@pytest.mark.parametrize("span", ["limited", "full"])
@pytest.mark.parametrize(("matrix", "number"), [("601", 5), ("709", 1), ("2020", 9)])
def test_swscale_makes_the_same_rgb(matrix: str, number: int, span: str) -> None:
    planes = noise_planes("yuv444p")
    frame = av.VideoFrame(32, 24, "yuv444p")
    for plane, codes in zip(frame.planes, planes, strict=True):
        np.frombuffer(plane, np.uint8).reshape(24, -1)[:, :32] = codes
    theirs = frame.reformat(
        format="rgb24",
        src_colorspace=number,
        src_color_range=2 if span == "full" else 1,
        dst_color_range=2,
    ).to_ndarray()
    ours = rgb_from_planes(planes, Coding(matrix, span))[0].transpose(1, 2, 0) * 255
    # Its rounding to 8 bits is half a level, its fixed point a fiftieth.
    assert np.abs(ours - theirs).max() < 0.52


@pytest.mark.parametrize("siting", SITINGS)
@pytest.mark.parametrize(
    ("matrix", "theirs", "span", "name"),
    [
        ("601", "170m", "limited", "yuv420p"),
        ("709", "709", "limited", "yuv420p10le"),
        ("709", "709", "full", "yuv420p"),
        ("2020", "2020_ncl", "limited", "yuv422p10le"),
        ("2020", "2020_ncl", "full", "yuv444p12le"),
    ],
)
def test_zimg_makes_the_same_rgb(
    program: Any, matrix: str, theirs: str, span: str, name: str, siting: str
) -> None:
    """With the same interpolation of chroma: bicubic of B = 0 and C = 1/2 is Catmull-Rom."""
    planes = noise_planes(name)
    convert = (
        f"zscale=matrixin={theirs}:rangein={span}:matrix=gbr:range=full"
        f":chromalin={siting.replace('centre', 'center')}"
        ":filter=bicubic:param_a=0:param_b=0.5,format=gbrpf32le"
    )
    done = subprocess.run(
        [
            *[program("ffmpeg"), "-v", "error", "-f", "rawvideo", "-pix_fmt", name, "-s", "32x24"],
            *["-i", "-", "-vf", convert, "-f", "rawvideo", "-"],
        ],
        input=pack(planes, PIXEL_FORMATS[name]),
        capture_output=True,
        check=True,
    )
    gbr = np.frombuffer(done.stdout, "<f4").reshape(3, 24, 32)
    ours = rgb_from_planes(planes, Coding(matrix, span, PIXEL_FORMATS[name].bits, siting))[0]
    inside = (slice(None), slice(4, -4), slice(4, -4))  # it mirrors at edges, we repeat
    # Roundings of float32.
    assert np.abs(ours - gbr[[2, 0, 1]])[inside].max() < 1e-6


@pytest.mark.parametrize("siting", SITINGS)
def test_chroma_lies_where_its_siting_says(siting: str) -> None:
    """A ramp of colour that is sampled at the siting comes back as the ramp."""
    beside, above = SITINGS[siting]
    for axis, coincides in ((1, beside), (0, above)):
        rows, columns = np.mgrid[0:16, 0:16].astype(float)
        where = 2 * (columns if axis == 1 else rows) + (0 if coincides else 0.5)
        cb = (2**15 - 1000 + 64 * where).astype(np.uint16)
        planes = [np.full((32, 32), 30000, np.uint16), cb, np.full((16, 16), 2**15, np.uint16)]
        coding = Coding("709", "full", 16, siting)
        rgb = rgb_from_planes(planes, coding)
        line = rgb[0, 1, :, 5] if axis == 0 else rgb[0, 1, 5]  # green falls as Cb rises
        steps = np.diff(line[6:26])
        np.testing.assert_allclose(steps, steps.mean(), rtol=2e-2)
        back = planes_from_rgb(rgb, coding, (True, True))[1]
        inside = (slice(3, -3), slice(3, -3))
        # Rounding of code values and float32, in units of 1/65535.
        assert np.abs(back[inside].astype(int) - cb[inside]).max() <= 2


@pytest.mark.parametrize("name", PIXEL_FORMATS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (4, 6), (7, 2)])
def test_memory_layouts_there_and_back(name: str, height: int, width: int) -> None:
    layout = PIXEL_FORMATS[name]
    rng = np.random.default_rng(0)
    words = rng.integers(
        0, 2**layout.bits, layout.frame_bytes(height, width) // layout.dtype.itemsize
    )
    data = (words.astype(layout.dtype) << layout.shift).view(np.uint8)
    planes = unpack(data, layout, height, width)
    assert pack(planes, layout) == data.tobytes()
    rgb = rgb_from_planes(planes, Coding("709", "full", layout.bits))
    assert rgb.shape == (1, 3, height, width)
    assert rgb.min() >= 0
    assert rgb.max() <= 1
    written = planes_from_rgb(rgb, Coding("709", "full", layout.bits), layout.halved_hw)
    assert [p.shape for p in written] == [p.shape for p in planes]
    assert [p.dtype for p in written] == [layout.dtype] * len(planes)


@pytest.mark.parametrize("name", ["yuv420p", "nv12", "p010le", "yuv422p10le", "gray"])
def test_layouts_are_ffmpegs(name: str) -> None:
    frame = av.VideoFrame(6, 4, "rgb24")
    for plane in frame.planes:
        np.frombuffer(plane, np.uint8)[:] = 90
    theirs = frame.reformat(format=name)
    parts = []
    for number, plane in enumerate(theirs.planes):
        pairs = 2 if name in ("nv12", "p010le") and number else 1
        item = PIXEL_FORMATS[name].dtype.itemsize
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
        parts.append(rows[:, : plane.width * pairs * item].tobytes())
    planes = unpack(np.frombuffer(b"".join(parts), np.uint8), PIXEL_FORMATS[name], 4, 6)
    if name == "gray":
        assert planes[0].shape == (4, 6)
        return
    gray = 16 + 219 * 90 / 255
    bits = PIXEL_FORMATS[name].bits
    assert abs(planes[0].mean() / 2 ** (bits - 8) - gray) < 1
    assert (np.abs(planes[1] / 2 ** (bits - 8) - 128) < 1).all()


def test_codes_of_no_colour_are_clipped() -> None:
    coding = Coding("709", "limited")
    rgb = rgb_from_planes(flat((254, 240, 240)), coding)
    assert rgb.max() == 1
    assert (rgb_from_planes(flat((0, 128, 128)), coding) == 0).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("470", "limited"), "a matrix is one of 601, 709, 2020"),
        (("709", "tv"), "a range is one of limited, full, not 'tv'"),
        (("709", "full", 7), "8 to 16 bits, not 7"),
        (("709", "full", 8, "middle"), "a siting is one of left, centre, topleft"),
    ],
)
def test_refuses_other_codings(arguments: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Coding(*arguments)


def test_refuses_planes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="whole or half of Y's"):
        rgb_from_planes(
            [np.zeros((4, 4), np.uint8), *[np.zeros((3, 2), np.uint8)] * 2], CODINGS[0][0]
        )
    with pytest.raises(ValueError, match="a frame of 6x4 has 36 bytes, not 35"):
        unpack(np.zeros(35, np.uint8), PIXEL_FORMATS["yuv420p"], 4, 6)
