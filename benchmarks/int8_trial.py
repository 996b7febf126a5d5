"""INT8 on a CPU, tried: what it costs in quality, and whether ONNX Runtime gains time by it.

ONNX Runtime's static quantisation in its QDQ form: weights per channel and symmetric, activations
per tensor with a zero point, ranges from photos. The first and the last convolutions, ANRB and the
contrast attention's gate stay FP32. A form quantises every other convolution, or those of 1x1
alone. With `reduced` weights have seven bits: AVX2 without VNNI adds two products of eight bits in
sixteen and saturates where weights have eight.
"""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from tqdm import tqdm

from benchmarks import contenders, file_forms, fps, operator_times, quality, records
from benchmarks.markdown_table import markdown_table
from benchmarks.records import Figure, How, Record, What
from export.to_onnx import parse_size
from gidrn import benchmark_sets, command_line, zoo
from gidrn.images import as_rgb, read_image
from gidrn.metrics import luma, psnr
from gidrn.photos import find_photos
from gidrn.resize import crop_to_multiple, downscale
from gidrn_runtime import Upscaler, models

Image = npt.NDArray[np.uint8]
Tensor = npt.NDArray[np.float32]

FORMS = ("all", "1x1")
"""Which convolutions are quantised: all that do not stay FP32, or those of 1x1 among them."""

BITS = {"reduced": True, "full": False}
"""Whether weights have seven bits, by the name of the choice."""

KEPT = ("shallow.", "coarse.", "fine.", "anrb.", ".attention.")
"""Parts of the weights' names whose convolutions stay FP32."""

RANGES = ("minmax", "percentile")
"""How an activation's range is taken from what was seen: all of it, or 99.999 % of it."""

SIDE = 64
"""Of the squares that ranges are taken from, in low-resolution pixels."""

PLAIN = {"fp32 ort-cpu": "ort-cpu", "fp32 native": "native"}
"""What the quantised files are timed beside: the FP32 file on these engines, the first of which is
the reference."""


@dataclass(frozen=True)
class Quantised:
    """A quantised file and how it was made."""

    path: Path
    form: str
    bits: str
    ranges: str
    convolutions: int
    """How many are quantised."""

    @property
    def name(self) -> str:
        return f"int8 {self.form}, {self.bits}, {self.ranges}"


def convolutions(model: onnx.ModelProto, form: str) -> list[str]:
    """Names of the nodes to quantise. Raises ValueError where the network has none such."""
    sides = {one.name: tuple(one.dims[2:]) for one in model.graph.initializer if len(one.dims) == 4}
    named = [
        node.name
        for node in model.graph.node
        if node.op_type == "Conv"
        and not any(part in node.input[1] for part in KEPT)
        and (form == "all" or sides.get(node.input[1]) == (1, 1))
    ]
    if not named:
        raise ValueError("this network has no convolution that the trial quantises")
    return named


def calibration(folder: Path, scale: int, count: int) -> list[Tensor]:
    """Squares of `count` photos, made small: (1, 3, SIDE, SIDE) in [0, 1].

    Raises ValueError where the folder has fewer photos, or one is too small.
    """
    paths = find_photos([folder])
    if len(paths) < count:
        raise ValueError(f"{folder} has {len(paths)} photos and --photos wants {count}")
    random = np.random.default_rng(0)
    made = []
    for i in range(count):
        path = paths[i * len(paths) // count]
        high = as_rgb(read_image(path))
        side = SIDE * scale
        room = [have - side for have in high.shape[:2]]
        if min(room) < 0:
            raise ValueError(f"{path} has {high.shape[1]}x{high.shape[0]} pixels, under {side}")
        y, x = (int(random.integers(0, most + 1)) for most in room)
        made.append(as_tensor(downscale(high[y : y + side, x : x + side], scale)))
    return made


def as_tensor(frame: Image) -> Tensor:
    """RGB (H, W, 3) -> (1, 3, H, W) in [0, 1]."""
    return np.ascontiguousarray(frame.transpose(2, 0, 1)[None], np.float32) / np.float32(255)


def quantise(
    source: Path, target: Path, form: str, bits: str, inputs: Sequence[Tensor], ranges: str
) -> Quantised:
    """Write `source` with the form's convolutions in INT8, ranges as on `inputs`."""
    from onnxruntime import quantization

    class Inputs(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, of: Iterable[Tensor]) -> None:
            self.rest: Iterator[Tensor] = iter(of)

        def get_next(self) -> dict[str, Tensor] | None:
            x = next(self.rest, None)
            return None if x is None else {"input": x}

    nodes = convolutions(onnx.load(source), form)
    quantization.quantize_static(
        source,
        target,
        Inputs(inputs),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        nodes_to_quantize=nodes,
        per_channel=True,
        reduce_range=BITS[bits],
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        calibrate_method=quantization.CalibrationMethod[
            "MinMax" if ranges == "minmax" else "Percentile"
        ],
        extra_options={
            "WeightSymmetric": True,
            "ActivationSymmetric": False,
            "CalibPercentile": 99.999,
        },
    )
    model = onnx.load(target)
    facts = {one.key: one.value for one in onnx.load(source).metadata_props}
    facts.pop("golden", None)  # of the FP32 file
    facts["dtype"] = "int8"
    onnx.helper.set_model_props(model, facts)
    onnx.save(model, target)
    return Quantised(target, form, bits, ranges, len(nodes))


def scores(upscale: Upscaler, paths: Sequence[Path], title: str) -> list[float]:
    """PSNR on Y of each image in dB, as many pixels as the factor cut from each side."""
    found = []
    for path in tqdm(paths, desc=title, leave=False, disable=None):
        high = as_rgb(crop_to_multiple(read_image(path), upscale.scale))
        made = upscale(downscale(high, upscale.scale))
        found.append(psnr(luma(made), luma(high), border=upscale.scale))
    return found


def score(
    model: str, source: Path, made: Sequence[Quantised], sets: dict[str, list[Path]], threads: int
) -> list[Record]:
    """A record a set and quantised file: its PSNR beside that of the FP32 file."""
    found = []
    for dataset, paths in sets.items():
        where = records.here(threads)
        with Upscaler(source, engine="ort-cpu", color="rgb", threads=threads) as upscale:
            scale = upscale.scale
            plain = scores(upscale, paths, f"{dataset} FP32")
        for one in made:
            with Upscaler(one.path, engine="ort-cpu", color="rgb", threads=threads) as upscale:
                came = scores(upscale, paths, f"{dataset} {one.name}")
            change = np.subtract(came, plain)
            labels = [path.name for path in paths]
            found.append(
                records.record(
                    What(model, scale, "ort-cpu", "int8", weights="shipped", input=dataset),
                    How(quality.PROTOCOLS["network"], samples=len(paths)),
                    figures=[
                        Figure.of(f"psnr_y_border{scale}_fp32_db", plain, labels),
                        Figure.of(f"psnr_y_border{scale}_int8_db", came, labels),
                    ],
                    values=facts_of(one)
                    | {
                        "psnr_fp32_db": float(np.mean(plain)),
                        "psnr_int8_db": float(np.mean(came)),
                        "change_db": float(np.mean(change)),
                        "largest_loss_db": float(-change.min()),
                        "bytes_fp32": source.stat().st_size,
                    },
                    where=where,
                )
            )
    return found


def facts_of(one: Quantised) -> dict[str, records.Value]:
    """What tells a quantised file from the others."""
    return {
        "name": one.name,
        "form": one.form,
        "weight_bits": one.bits,
        "ranges": one.ranges,
        "quantised_convolutions": one.convolutions,
        "bytes": one.path.stat().st_size,
    }


def clock(
    source: Path,
    made: Sequence[Quantised],
    size_hw: tuple[int, int],
    threads: int,
    runs: int,
) -> list[Record]:
    """A record a file, all in turns: times, and with one thread those of its operators."""
    quantised = {one.name: one for one in made}
    files = {name: (source, engine) for name, engine in PLAIN.items()}
    files |= {one.name: (one.path, "ort-cpu") for one in made}
    found = []
    for one in file_forms.clock(files, size_hw, threads, runs):
        name = str(one.values["name"])
        values = dict(one.values)
        if name in quantised:
            values |= facts_of(quantised[name])
        if threads == 1 and one.what.engine == "ort-cpu":
            for kind in operator_times.profiled(files[name][0], size_hw, threads, runs=3):
                values[f"ms of {kind.kind}"] = round(kind.p50_ms, 2)
        found.append(dataclasses.replace(one, values=values))
    return found


def table(found: Sequence[Record]) -> str:
    """Quality, then time, as Markdown."""
    scored = [
        [
            str(one.values["name"]),
            f"{one.what.input} ({one.how.samples})",
            *(f"{one.values[key]:.3f}" for key in ("psnr_fp32_db", "psnr_int8_db")),
            f"{one.values['change_db']:+.3f}",
            f"{one.values['largest_loss_db']:.3f}",
            f"{int(str(one.values['bytes'])) / 1e6:.2f}",
        ]
        for one in found
        if "change_db" in one.values
    ]
    clocked = [one for one in found if "time_over_reference" in one.values]
    quality_header = ["file", "set (images)", "FP32, dB", "INT8, dB", "change, dB"]
    quality_header += ["largest loss of an image, dB", "file, MB"]
    parts = [markdown_table(quality_header, scored)] if scored else []
    parts += [file_forms.table(clocked)] if clocked else []
    return "\n\n".join(parts)


def _among(text: str, kind: str, known: Iterable[str]) -> tuple[str, ...]:
    """The names in "a,b". Raises ValueError for none, and for unknown ones, with the nearest."""
    names = command_line.words(text)
    for name in names:
        if name not in known:
            raise zoo.unknown(kind, name, known)
    if not names:
        raise ValueError(f"no {kind} is named: there are {', '.join(known)}")
    return names


def main(
    train: Path,
    *,
    model: str = "gidrn_x4",
    forms: str = "all,1x1",
    bits: str = "reduced,full",
    ranges: str = "minmax",
    dataset: str = "Set5,B100",
    data_root: Path | None = None,
    photos: int = 24,
    sizes: str = "80x120",
    threads: str = "1,2",
    runs: int = 11,
    out: Path | None = None,
) -> int:
    """Quantise a shipped G-IDRN to INT8, score it, and time it beside FP32.

    Args:
        train: Folder of photos that the ranges are taken from.
        model: A shipped model: gidrn_x2, gidrn_x3 or gidrn_x4.
        forms: all (but the first and last, ANRB and gates), 1x1, or both with a comma between.
        bits: Of the weights: reduced (seven), full (eight), or both.
        ranges: Of activations: minmax, percentile, or both.
        dataset: Benchmark sets to score on, with commas between; "" for none.
        data_root: Folder with the sets' images; else the variable GIDRN_DATA.
        photos: How many photos of `train` are taken.
        sizes: HEIGHTxWIDTH of the inputs timed, with commas between; "" for none.
        threads: CPU threads, with commas between.
        runs: Timed runs of each file, size and number of threads.
        out: The JSON file to write; benchmarks/results/local/int8_... by default.
    """
    if photos < 1 or runs < 1:
        raise ValueError(f"--photos and --runs are at least 1, not {photos} and {runs}")
    chosen = [
        (form, choice, how)
        for form in _among(forms, "form", FORMS)
        for choice in _among(bits, "choice of bits", BITS)
        for how in _among(ranges, "way to take ranges", RANGES)
    ]
    counts = fps.numbers(threads, "--threads")
    sizes_hw = [parse_size(word) for word in command_line.words(sizes)]
    source = models.find(model)
    with Upscaler(source, engine="ort-cpu") as upscale:
        scale = upscale.scale
        network = file_forms.metadata_of(upscale)["model"]
    names = benchmark_sets.parse_names(dataset) if dataset else ()
    root = benchmark_sets.data_root(data_root) if names else Path()
    sets = {name: benchmark_sets.find_images(name, root, scale) for name in names}
    path = out or records.RESULTS / "local" / f"int8_{model}_{records.cpu_slug()}.json"
    records.check_writable(path)
    for engine in PLAIN.values():
        contenders.choose(engine, "cpu")
    found: list[Record] = []
    inputs = calibration(train, scale, photos)
    with tempfile.TemporaryDirectory() as folder:
        with _quiet():
            made = [
                quantise(source, Path(folder, f"{i}.onnx"), form, choice, inputs, how)
                for i, (form, choice, how) in enumerate(chosen)
            ]
        found += score(network, source, made, sets, max(counts))
        records.write_records(path, found)
        for size_hw in sizes_hw:
            for count in counts:
                found += clock(source, made, size_hw, count, runs)
                records.write_records(path, found)
    print(f"{table(found)}\n\nwritten to {path}")
    return 0


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser logs on the root logger that it would like a pre-processing."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


if __name__ == "__main__":
    command_line.run(main)
