"""How far a frame in tiles is from the frame in one, and what tiles cost in time.

Plain tiles know nothing of each other: over overlaps, cut in their middle (crop) or blended by
linear ramps. Told tiles know the frame's statistics: over rounds. See `gidrn_runtime.tiles`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks import arguments, records
from benchmarks.markdown_table import markdown_table
from benchmarks.records import Figure, How, Record, What
from benchmarks.turns import PAUSE_SECONDS
from gidrn import benchmark_sets, command_line
from gidrn.evaluation import to_image, to_tensor
from gidrn.images import as_rgb, read_image
from gidrn.metrics import luma, psnr
from gidrn.resize import crop_to_multiple, downscale
from gidrn_runtime import Upscaler, engines, models, tiles

PROTOCOL = (
    "float tensors before rounding; the whole frame in one run beside the same frame in tiles, "
    "both by ONNX Runtime; levels are 8-bit, changed = another rounded level"
)
COST = "uint8 frame to uint8 frame, whole and in tiles in turns; one warm-up run of each"

FloatImage = NDArray[np.float32]
Blend = Literal["crop", "ramp"]


@dataclass(frozen=True)
class Manner:
    """A way of making tiles."""

    form: Literal["plain", "told"]
    halo: int
    blend: Blend = "crop"
    rounds: int = 0

    @property
    def in_words(self) -> str:
        """For tables."""
        how = f"{self.rounds} rounds" if self.form == "told" else self.blend
        return f"{self.form}, halo {self.halo}, {how}"


@dataclass
class Found:
    """What one manner gave, image by image."""

    levels: list[float] = field(default_factory=list)
    changed: list[float] = field(default_factory=list)
    psnr_db: list[float] = field(default_factory=list)
    """Between tiled and whole, all channels, before rounding."""
    truth_change_db: list[float] = field(default_factory=list)
    """Of the luma's PSNR against the photo; empty where the frame is the photo itself."""


def ramps(spans: Sequence[tiles.Span], length: int) -> NDArray[np.float64]:
    """Weights (tiles, length) that fall linearly towards a window's inner ends, and sum to 1."""
    pixel = np.arange(length) + 0.5
    found = []
    for span in spans:
        start, stop = span.window.start, span.window.stop
        rise = np.full(length, np.inf) if start == 0 else pixel - start
        fall = np.full(length, np.inf) if stop == length else stop - pixel
        found.append(np.clip(np.minimum(np.minimum(rise, fall), length), 0, None))
    weights = np.stack(found)
    return np.asarray(weights / weights.sum(axis=0))


def plain(
    run: Callable[[FloatImage], FloatImage],
    image: FloatImage,
    side: int,
    manner: Manner,
    scale: int,
) -> FloatImage:
    """The whole frame from tiles that know nothing of each other."""
    height, width = image.shape[2:]
    rows, columns = (tiles.spans(length, side, manner.halo) for length in (height, width))
    high = np.zeros((1, 3, scale * height, scale * width))
    weights = [
        np.repeat(_weights(spans, length, manner.blend), scale, axis=1)
        for spans, length in ((rows, height), (columns, width))
    ]
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            part = run(np.ascontiguousarray(image[:, :, y.window, x.window]))
            at = tiles.scaled(y.window, scale), tiles.scaled(x.window, scale)
            weight = weights[0][i, at[0], None] * weights[1][j, at[1]]
            high[:, :, at[0], at[1]] += part * weight
    return high.astype(np.float32)


def _weights(spans: Sequence[tiles.Span], length: int, blend: Blend) -> NDArray[np.float64]:
    if blend == "ramp":
        return ramps(spans, length)
    found = np.zeros((len(spans), length))
    for one, span in zip(found, spans, strict=True):
        one[span.core] = 1
    return found


def compare(
    upscale: Upscaler,
    tile_file: tiles.TileFile,
    images: Sequence[tuple[FloatImage, NDArray[np.uint8] | None]],
    side: int,
    manners: Sequence[Manner],
    tick: Callable[[], object],
) -> dict[Manner, Found]:
    """Every manner on every image, each with the photo that it was made of, or None."""
    scale = upscale.scale
    found = {manner: Found() for manner in manners}
    for image, truth in images:
        whole = upscale.run_tensor(image)
        for manner, into in found.items():
            if manner.form == "told":
                tiled = tiles.enlarge_tensor(tile_file, image, (side, side), manner.rounds)
            else:
                tiled = plain(upscale.run_tensor, image, side, manner, scale)
            apart = np.abs(tiled.astype(np.float64) - whole)
            levels = [np.rint(np.clip(x, 0, 1) * 255) for x in (tiled, whole)]
            into.levels.append(float(apart.max()) * 255)
            into.changed.append(float((levels[0] != levels[1]).mean()))
            into.psnr_db.append(float(-10 * np.log10(max(np.square(apart).mean(), 1e-20))))
            if truth is not None:
                scores = [
                    psnr(luma(_picture(x)), luma(truth), border=scale) for x in (tiled, whole)
                ]
                into.truth_change_db.append(scores[0] - scores[1])
            tick()
    return found


def _picture(tensor: FloatImage) -> NDArray[np.uint8]:
    return to_image(torch.from_numpy(tensor))


def cost(
    model: str, side: int, rounds: Sequence[int], frame: NDArray[np.uint8], runs: int
) -> dict[int, tuple[list[float], list[float]]]:
    """Seconds of a whole frame and of the same in tiles, in turns, by rounds."""
    found: dict[int, tuple[list[float], list[float]]] = {}
    for count in rounds:
        with (
            Upscaler(model, "ort-cpu", tiles="never") as whole,
            Upscaler(model, "ort-cpu", tiles=(side, side), tile_rounds=count) as tiled,
        ):
            samples: tuple[list[float], list[float]] = ([], [])
            for turn in range(runs + 1):
                for which in (0, 1) if turn % 2 else (1, 0):
                    time.sleep(PAUSE_SECONDS)
                    began = time.perf_counter()
                    (whole, tiled)[which](frame)
                    if turn:
                        samples[which].append(time.perf_counter() - began)
            found[count] = samples
    return found


def table(found: Sequence[Record]) -> str:
    """A line a manner, factor and side, as Markdown."""
    rows = []
    for entry in found:
        values = entry.values
        if "ratio_p50" in values:
            continue
        change = values["largest_truth_change_db"]
        rows.append(
            [
                f"{entry.what.model} x{entry.what.scale}",
                f"{entry.what.input} ({entry.how.samples})",
                str(values["side"]),
                str(values["manner"]),
                f"{float(str(values['most_levels'])):.3f}",
                f"{float(str(values['changed_share'])):.2%}",
                f"{float(str(values['least_psnr_db'])):.1f}",
                "" if change is None else f"{float(str(change)):.5f}",
            ]
        )
    header = ["network", "frames", "side", "tiles", "most levels", "changed (mean)"]
    return markdown_table([*header, "least PSNR to whole, dB", "most change to truth, dB"], rows)


def main(
    model: str = "gidrn",
    scale: str = "2,4",
    dataset: str = "B100",
    images: int = 5,
    original: bool = False,
    sides: str = "64",
    halos: str = "0,8,16,32,38",
    rounds: str = "0,1,2,3,10",
    runs: int = 0,
    folder: Path = models.MODELS_DIR,
    data_root: Path | None = None,
    out: Path = records.RESULTS / "local" / "tiles.json",
) -> None:
    """Measure tiles against whole frames, with the weights that ship.

    Args:
        model: a network whose plain file and tile file are in --folder.
        scale: factors, with commas between.
        dataset: Set5, Set14 or B100.
        images: so many of the set's images, spread over it.
        original: enlarge the photos themselves; without it, what they become made low.
        sides: of the tiles, in pixels, with commas between.
        halos: of plain tiles, in pixels, with commas between.
        rounds: of told tiles, with commas between.
        runs: timed runs of the first image whole and in tiles of the first side; 0 for none.
        folder: where MODEL_xSCALE.onnx and MODEL_xSCALE_tiles.onnx are.
        data_root: folder with the sets' images; else the variable GIDRN_DATA.
        out: the JSON file to write.
    """
    numbers = {}
    for name, text in (("sides", sides), ("halos", halos), ("rounds", rounds)):
        words = command_line.words(text)
        if not all(word.isdecimal() for word in words):
            raise ValueError(f"--{name} wants whole numbers with commas between, not {text!r}")
        numbers[name] = [int(word) for word in words]
    if images < 1 or runs < 0:
        raise ValueError("--images is at least 1, and --runs at least 0")
    root, name = benchmark_sets.data_root(data_root), benchmark_sets.canonical(dataset)
    records.check_writable(out)
    found: list[Record] = []
    for s in arguments.scales(scale):
        path = folder / f"{model}_x{s}.onnx"
        tile_path = folder / f"{model}_x{s}{models.TILES_SUFFIX}"
        every = benchmark_sets.find_images(name, root, s)
        chosen = [every[i * len(every) // images] for i in range(min(images, len(every)))]
        frames = [_frame(file, s, original) for file in chosen]
        tile_file = tiles.TileFile(engines.open_engine("ort-cpu", tile_path), tile_path)
        manners = [
            Manner("plain", halo, blend)
            for halo in numbers["halos"]
            for blend in (("crop", "ramp") if halo else ("crop",))
        ]
        manners += [Manner("told", tile_file.reach, rounds=r) for r in numbers["rounds"]]
        what = What(model, s, "ort-cpu", weights="shipped", input=f"{name}{' HR' * original}")
        labels = [file.name for file in chosen]
        total = len(manners) * len(frames) * len(numbers["sides"])
        with (
            Upscaler(path, "ort-cpu", tiles="never") as upscale,
            tqdm(total=total, desc=f"x{s}", leave=False, disable=None) as bar,
        ):
            for side in numbers["sides"]:
                made = compare(upscale, tile_file, frames, side, manners, bar.update)
                found += [_record(what, side, m, one, labels) for m, one in made.items()]
                records.write_records(out, found)
        tile_file.close()
        if runs:
            frame = np.ascontiguousarray(
                np.rint(frames[0][0][0].transpose(1, 2, 0) * 255).astype(np.uint8)
            )
            side = numbers["sides"][0]
            timed = cost(str(path), side, [tiles.ROUNDS], frame, runs)
            for count, (whole_s, tiled_s) in timed.items():
                ratios = np.divide(tiled_s, whole_s)
                found.append(
                    records.record(
                        what,
                        How(COST, "time.perf_counter", "in and out", 1, runs),
                        figures=[Figure.of("whole_s", whole_s), Figure.of("tiled_s", tiled_s)],
                        values={
                            "side": side,
                            "rounds": count,
                            "height": frame.shape[0],
                            "width": frame.shape[1],
                            "ratio_p50": float(np.median(ratios)),
                        },
                    )
                )
                print(f"x{s}: tiles take {np.median(ratios):.2f} times as long, {count} rounds")
            records.write_records(out, found)
    print(f"{table(found)}\n\nwritten to {out}")


def _frame(file: Path, scale: int, original: bool) -> tuple[FloatImage, NDArray[np.uint8] | None]:
    """A frame as a tensor (1, 3, H, W), and the photo that its output should be."""
    photo = as_rgb(read_image(file))
    if original:
        return to_tensor(photo).numpy(), None
    photo = crop_to_multiple(photo, scale)
    return to_tensor(downscale(photo, scale)).numpy(), photo


def _record(what: What, side: int, manner: Manner, one: Found, labels: list[str]) -> Record:
    figures = [
        Figure.of("largest_difference_levels", one.levels, labels),
        Figure.of("changed_share", one.changed, labels),
        Figure.of("psnr_to_whole_db", one.psnr_db, labels),
    ]
    if one.truth_change_db:
        figures.append(Figure.of("truth_psnr_change_db", one.truth_change_db, labels))
    return records.record(
        what,
        How(PROTOCOL, samples=len(labels)),
        figures=figures,
        values={
            "side": side,
            "manner": manner.in_words,
            "form": manner.form,
            "halo": manner.halo,
            "blend": manner.blend,
            "rounds": manner.rounds,
            "most_levels": max(one.levels),
            "changed_share": float(np.mean(one.changed)),
            "least_psnr_db": min(one.psnr_db),
            "largest_truth_change_db": float(np.abs(one.truth_change_db).max())
            if one.truth_change_db
            else None,
        },
    )


if __name__ == "__main__":
    command_line.run(main)
