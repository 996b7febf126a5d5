"""What FP16 costs in quality: PSNR on the benchmark sets of the FP16 graph, emulated, beside FP32.

The graph is that of `export/to_onnx.py --dtype fp16`: the same parts in FP32, chosen in the same
way. It runs in `export.fp16`'s emulation, so that no GPU is needed; how a GPU's convolutions add up
is emulated in either way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from benchmarks import arguments, quality, records
from benchmarks.markdown_table import markdown_table
from benchmarks.records import Figure, How, Record, What
from export import precision, proof, to_onnx
from export.fp16 import Accumulation, Emulator
from gidrn import benchmark_sets, checkpoints, command_line, zoo
from gidrn.evaluation import to_image, to_tensor
from gidrn.images import as_rgb, read_image
from gidrn.metrics import luma, psnr
from gidrn.resize import crop_to_multiple, downscale

PROTOCOL = (
    "{network}; FP16 emulated on the CPU: every operation computed in FP32 and rounded, "
    "convolutions adding up in {accumulation}"
)


@dataclass(frozen=True)
class Pair:
    """A network with its shipped weights, and what an FP16 export makes of it."""

    name: str
    scale: int
    network: nn.Module
    half: nn.Module
    plan: precision.Plan


def open_pair(name: str, scale: int) -> Pair:
    """Load a network and choose its FP32 parts. Raises ValueError where no weights ship."""
    network = zoo.load(name, scale).eval()
    photos = proof.read_photos()
    on = proof.small(proof.cases(photos, scale))
    rewritten, _ = to_onnx.rewritten(network, "curve", on)
    half, plan = precision.to_fp16(rewritten, scale, photos, on)
    return Pair(name, scale, network, half, plan)


@torch.inference_mode()
def measure(pair: Pair, dataset: str, paths: list[Path], accumulation: Accumulation) -> Record:
    """Both on one set: a sample an image."""
    name, scale = pair.name, pair.scale
    scores: dict[str, list[float]] = {"fp32": [], "fp16": []}
    levels = []
    for path in tqdm(paths, desc=f"{name} x{scale} {dataset}", leave=False, disable=None):
        high = as_rgb(crop_to_multiple(read_image(path), scale))
        low = to_tensor(downscale(high, scale))
        wanted = pair.network(low)
        with Emulator(accumulation=accumulation):
            came = pair.half(low).float()
        levels.append(float((came - wanted).abs().max()) * 255)
        for dtype, output in (("fp32", wanted), ("fp16", came)):
            scores[dtype].append(psnr(luma(to_image(output)), luma(high), border=scale))
    change = np.subtract(scores["fp16"], scores["fp32"])
    labels = [path.name for path in paths]
    protocol = PROTOCOL.format(network=quality.PROTOCOLS["network"], accumulation=accumulation)
    return records.record(
        What(
            name,
            scale,
            "torch-cpu",
            precision="fp16 emulated",
            weights="shipped",
            input=dataset,
        ),
        How(protocol, samples=len(paths)),
        figures=[
            Figure.of(f"psnr_y_border{scale}_fp32_db", scores["fp32"], labels),
            Figure.of(f"psnr_y_border{scale}_fp16_db", scores["fp16"], labels),
            Figure.of("largest_difference_levels", levels, labels),
        ],
        values={
            "accumulation": accumulation,
            "psnr_fp32_db": float(np.mean(scores["fp32"])),
            "psnr_fp16_db": float(np.mean(scores["fp16"])),
            "change_db": float(np.mean(change)),
            "largest_change_db": float(np.abs(change).max()),
            "largest_difference_levels": max(levels),
            "precision_plan": pair.plan.as_json(),
            "weights_sha256": checkpoints.sha256(zoo.shipped_weights(name, scale)),
        },
    )


def table(found: list[Record]) -> str:
    """A line a set, factor and way of adding up, as Markdown."""
    rows = [
        [
            f"{entry.what.model} x{entry.what.scale}",
            f"{entry.what.input} ({entry.how.samples})",
            str(entry.values["accumulation"]),
            *(f"{float(str(entry.values[key])):.3f}" for key in ("psnr_fp32_db", "psnr_fp16_db")),
            f"{float(str(entry.values['change_db'])):+.4f}",
            f"{float(str(entry.values['largest_change_db'])):.4f}",
            f"{float(str(entry.values['largest_difference_levels'])):.2f}",
        ]
        for entry in found
    ]
    header = [
        *("network", "set (images)", "convolutions add up in", "FP32, dB", "FP16, dB"),
        *("change, dB", "largest change of an image, dB", "largest difference, levels"),
    ]
    return markdown_table(header, rows)


def main(
    models: str = "gidrn",
    dataset: str = "Set5,Set14,B100",
    scale: str = "4",
    accumulation: str = "fp32",
    images: int | None = None,
    data_root: Path | None = None,
    out: Path = records.RESULTS / "local" / "fp16_quality.json",
) -> None:
    """Measure what FP16 changes in PSNR on the benchmark sets, emulated.

    Args:
        models: networks with shipped weights, with commas between.
        dataset: among Set5, Set14, B100, Urban100 and Manga109, with commas between.
        scale: factors, with commas between.
        accumulation: how convolutions add up, fp32 or fp16 (ten times as slow) or both with a
            comma between.
        images: take only so many of a set's images, spread over it.
        data_root: folder with the sets' high-resolution images; else the variable GIDRN_DATA.
        out: the JSON file to write.
    """
    ways = [way for way in precision.ACCUMULATIONS if way in command_line.words(accumulation)]
    if len(ways) != len(command_line.words(accumulation)) or not ways:
        raise ValueError(f"--accumulation is fp32, fp16 or fp32,fp16, not {accumulation!r}")
    if images is not None and images < 1:
        raise ValueError(f"--images is at least 1, not {images}")
    scales, root = arguments.scales(scale), benchmark_sets.data_root(data_root)
    sets = benchmark_sets.parse_names(dataset)
    paths = {(one, s): benchmark_sets.find_images(one, root, s) for one in sets for s in scales}
    for name in command_line.words(models):
        for s in scales:
            zoo.shipped_weights(name, s)  # raises where there are none
    records.check_writable(out)
    found = []
    for s in scales:
        for name in command_line.words(models):
            pair = open_pair(name, s)
            for one in sets:
                every = paths[one, s]
                count = len(every) if images is None else min(images, len(every))
                chosen = [every[i * len(every) // count] for i in range(count)]
                found += [measure(pair, one, chosen, way) for way in ways]
                records.write_records(out, found)
    print(f"{table(found)}\n\nwritten to {out}")


if __name__ == "__main__":
    command_line.run(main)
