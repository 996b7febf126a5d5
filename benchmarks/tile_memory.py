"""Peak memory of frames whole and in tiles, beside what the runtime forecasts.

Each size in a process of its own: see `peak_memory`. Without a budget a frame runs whole, which is
what `gidrn_runtime.memory.BYTES_PER_PIXEL` is read off; with one, in the tiles that fit it.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import peak_memory, records
from benchmarks.markdown_table import markdown_table
from benchmarks.records import How, Record, What
from export import to_onnx
from gidrn import command_line
from gidrn_runtime import Upscaler, memory, models

PROTOCOL = "one uint8 frame to uint8 frame, the output's array included"


def main(
    model: str = "gidrn",
    scale: int = 2,
    sizes: str = "240x320,360x480",
    budget_mib: int | None = None,
    side: str | None = None,
    rounds: int | None = None,
    repeats: int = 1,
    folder: Path = models.MODELS_DIR,
    out: Path = records.RESULTS / "local" / "tile_memory.json",
) -> None:
    """Measure peak memory of whole frames, or of frames in tiles, on ort-cpu.

    Args:
        model: a network whose plain file (and tile file) is in --folder.
        scale: the factor.
        sizes: HEIGHTxWIDTH of the frames, with commas between.
        budget_mib: MiB that enlarging may take: larger frames are cut into tiles.
        side: HEIGHTxWIDTH of the tiles; without it and --budget-mib, frames run whole.
        rounds: of the tiles' statistics; without it the runtime's default.
        repeats: how often the frame is enlarged in the one process.
        folder: where MODEL_xSCALE.onnx and MODEL_xSCALE_tiles.onnx are.
        out: the JSON file to write; records of a file that is there are kept.
    """
    sizes_hw = [to_onnx.parse_size(size) for size in command_line.words(sizes)]
    records.check_writable(out)
    found: list[Record] = records.read_records(out) if out.exists() else []
    path = folder / f"{model}_x{scale}.onnx"
    wish: str | tuple[int, int] = "never" if budget_mib is None else "auto"
    if side is not None:
        wish = to_onnx.parse_size(side)
    with Upscaler(path, "ort-cpu") as upscale:
        metadata = upscale.describe()["metadata"]
        assert isinstance(metadata, dict)
    whole = memory.bytes_per_pixel(metadata, "ort-cpu", tile=False)
    for height, width in sizes_hw:
        peak = peak_memory.peak_memory(
            path,
            engine="ort-cpu",
            threads=None,
            sizes_hw=[(height, width)] * repeats,
            tiles=wish,
            memory_mib=budget_mib,
            tile_rounds=rounds,
        )
        pixels = height * width
        taken = peak.peak_mib - peak.baseline_mib
        forecast = None if whole is None else (memory.FIXED_BYTES + whole * pixels) / 2**20
        found.append(
            records.record(
                What(model, scale, "ort-cpu", size_hw=(height, width), weights="shipped"),
                How(PROTOCOL, samples=repeats),
                values={
                    "tiles": wish if isinstance(wish, str) else "x".join(map(str, wish)),
                    "rounds": rounds,
                    "budget_mib": budget_mib,
                    "baseline_mib": peak.baseline_mib,
                    "peak_memory_mib": peak.peak_mib,
                    "taken_mib": round(taken, 1),
                    "output_mib": round(3 * pixels * scale**2 / 2**20, 1),
                    "bytes_per_pixel": round(taken * 2**20 / pixels),
                    "forecast_whole_mib": None if forecast is None else round(forecast, 1),
                    "memory_method": peak_memory.METHOD,
                },
            )
        )
        records.write_records(out, found)
    rows = [
        [
            f"x{entry.what.scale} {entry.what.size_hw[0]}x{entry.what.size_hw[1]}"
            if entry.what.size_hw
            else "",
            *(
                str(entry.values[key])
                for key in (
                    *("tiles", "budget_mib", "taken_mib", "output_mib"),
                    *("bytes_per_pixel", "forecast_whole_mib"),
                )
            ),
        ]
        for entry in found
    ]
    header = ["frame", "tiles", "budget, MiB", "taken, MiB", "of it output"]
    print(markdown_table([*header, "bytes a pixel", "forecast whole, MiB"], rows))
    print(f"\nwritten to {out}")


if __name__ == "__main__":
    command_line.run(main)
