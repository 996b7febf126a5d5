"""Frames per second of the networks, as the paper's Table 6 has them, on this machine.

Every network is exported by our own exporter and run by `gidrn_runtime`, or run by PyTorch, all in
one process and in turns, on the low-resolution images of a benchmark set: real ones where the
photos are there, else generated stand-ins of exactly B100's 100 sizes, which say so in the table
and in the JSON. `--sizes` times generated pictures of other sizes, `--batch` several at once.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from tqdm import tqdm

from benchmarks import (
    contenders,
    device_floor,
    exported_models,
    low_images,
    peak_memory,
    published,
    records,
    turns,
)
from benchmarks.contenders import Choice
from benchmarks.device_floor import Rates
from benchmarks.exported_models import ExportedModel
from benchmarks.low_images import LowImages
from benchmarks.markdown_table import markdown_table
from benchmarks.peak_memory import PeakMemory
from benchmarks.progress import Progress
from benchmarks.records import Figure, How, Record, Value, What
from benchmarks.turns import Samples
from export.profiles import PRESETS_HW
from export.proof import NotProvedError
from export.rewrites import RefusedError
from export.to_onnx import parse_size
from gidrn import benchmark_sets, command_line, zoo
from gidrn_runtime import engines, processor

REFERENCE = "gidrn"
"""The network that the others are compared with."""

PLAIN = "torch-fp32"
"""The engine that the others are compared with, where it took part."""

TURNS_A_SIZE = 200
"""Timed turns of a size of --sizes at most."""

LEGEND = (
    "End to end: a uint8 frame in host memory to a uint8 frame in host memory. Device: one run on "
    "the GPU, its input there already and its output left there, PyTorch's and TensorRT's by the "
    "GPU's events, ONNX Runtime's by the host's clock; engines of the runtime convert from and to "
    f"uint8 in it. Times over {REFERENCE}'s are medians over pairs on the same image in the same "
    "run. Peak memory is that of a process of its own, on the run's largest number of threads; the "
    "baseline is what it had before it opened the model. Floor: the least time of the convolutions "
    "and matrix products by the device's own measured rates. The paper's columns are what its "
    "Table 6 prints for another machine and PyTorch. Networks without weights here have random "
    "ones: their speed is the same, their pictures are not shown."
)


@dataclass(frozen=True)
class Plan:
    """What a run measures, checked."""

    dataset: str
    scale: int
    models: tuple[str, ...]
    engines: tuple[Choice, ...]
    threads: tuple[int, ...]
    images: int | None
    """How many images at most; None for all."""
    seconds: float
    """Timed runs a model, engine and number of threads."""
    sizes_hw: tuple[tuple[int, int], ...] = ()
    """Generated inputs in the place of the set's; () for the set."""
    batches: tuple[int, ...] = (1,)
    floor: bool = False
    """Whether the device's rates are measured, and each network's least time by them."""

    def __post_init__(self) -> None:
        if self.scale not in zoo.SCALES:
            raise ValueError(f"--scale is one of {', '.join(map(str, zoo.SCALES))}")
        for name in self.models:
            zoo.find(name)
        if not self.models or not self.engines or not self.threads or not self.batches:
            raise ValueError("--models, --engines, --threads and --batch each want at least one")
        if any(count < 1 for count in self.threads):
            raise ValueError("--threads wants numbers of 1 and more, such as 1,2")
        if any(count < 1 for count in self.batches):
            raise ValueError("--batch wants numbers of 1 and more, such as 1,8")
        if self.images is not None and self.images < 1:
            raise ValueError(f"--images is at least 1, not {self.images}")
        if not 0 < self.seconds < float("inf"):
            raise ValueError(f"--seconds is a time above 0, not {self.seconds}")


@dataclass(frozen=True)
class Entrant:
    """A network, as one engine wants it."""

    weights: str
    parameters: int
    network: nn.Module
    file: ExportedModel | None
    """None where PyTorch runs it."""


@dataclass(frozen=True)
class Round:
    """What is timed in turns: one engine on some inputs."""

    choice: Choice
    threads: int | None
    """None where the engine decides."""
    batch: int
    low: LowImages


def numbers(text: str, flag: str) -> tuple[int, ...]:
    """Numbers from "1,2"."""
    parts = command_line.words(text)
    if not all(part.isdecimal() for part in parts):
        raise ValueError(f"{flag} wants numbers of 1 and more, such as 1,2, not {text!r}")
    return tuple(int(part) for part in parts)


def thread_counts(threads: str | None) -> tuple[int, ...]:
    """Numbers from "1,2"; all cores where nothing is said."""
    return (processor.usable_cores(),) if threads is None else numbers(threads, "--threads")


def parse_sizes(text: str) -> tuple[tuple[int, int], ...]:
    """Heights and widths from "540p,80x120"."""
    return tuple(PRESETS_HW.get(word) or parse_size(word) for word in command_line.words(text))


def inputs_of(plan: Plan, low: LowImages | None) -> list[tuple[int, LowImages]]:
    """Batch and images of each comparison: the set's, or those of each size."""
    if low is not None:
        return [(batch, low.in_batches(batch)) for batch in plan.batches]
    return [
        (batch, low_images.of_size(size_hw, batch, TURNS_A_SIZE))
        for size_hw in plan.sizes_hw
        for batch in plan.batches
    ]


def rounds_of(plan: Plan, inputs: list[tuple[int, LowImages]]) -> list[Round]:
    """Every engine on every input, each number of threads where it takes one."""
    return [
        Round(choice, threads, batch, low)
        for choice in plan.engines
        for batch, low in inputs
        for threads in ((None,) if choice.on_gpu else plan.threads)
    ]


def enter(
    plan: Plan, choice: Choice, weights_root: Path | None, left_out: list[str]
) -> dict[str, Entrant]:
    """The networks of a run for one engine: files on the GPU take frames, in its precision.

    One that cannot be exported so is added to `left_out` with the reason.
    """
    found: dict[str, Entrant] = {}
    for name in tqdm(plan.models, choice.name, unit="model", disable=None, leave=False):
        network, weights, _ = exported_models.with_weights(name, plan.scale, weights_root)
        file = None
        if not choice.is_torch:
            try:
                file = exported_models.exported(
                    name,
                    plan.scale,
                    weights_root=weights_root,
                    dtype=choice.dtype,
                    frames="bgr" if choice.on_gpu else None,
                )
            except (RefusedError, NotProvedError) as error:
                left_out.append(f"{name} on {choice.name}, {choice.dtype}: {error}")
                continue
            if refusal := engines.engine_class(choice.name).refusal(file.path):
                left_out.append(f"{name} on {choice.name}: {refusal}")
                continue
            weights = file.weights
        parameters = sum(parameter.numel() for parameter in network.parameters())
        found[name] = Entrant(weights, parameters, network, file)
    return found


def time_models(
    plan: Plan,
    entrants: dict[str, Entrant],
    round_: Round,
    progress: Progress,
    left_out: Callable[[str, str], None],
) -> tuple[dict[str, Samples], dict[str, str]]:
    """Samples of every model in turns on one engine, and the precision of each."""
    with ExitStack() as stack:
        opened, precision = contenders.open_all(
            round_.choice,
            {name: entrant.network for name, entrant in entrants.items()},
            {name: entrant.file.path for name, entrant in entrants.items() if entrant.file},
            stack,
            threads=round_.threads,
            scale=plan.scale,
            sizes_hw=list(dict.fromkeys(round_.low.sizes_hw)),
            batch=round_.batch,
            cache=exported_models.CACHE,
            left_out=left_out,
        )
        samples = turns.in_turns(
            opened,
            round_.low,
            seconds=plan.seconds,
            tick=progress,
            left_out=left_out,
            rest_s=rest_s(round_.choice),
        )
    return samples, precision


def peak_memories(
    plan: Plan,
    entered: Mapping[Choice, dict[str, Entrant]],
    sizes_hw: list[tuple[int, int]],
    progress: Progress,
) -> dict[tuple[Choice, str], PeakMemory]:
    """Of every file that runs on the CPU."""
    files = [
        (choice, name, entrant.file.path)
        for choice, entrants in entered.items()
        if not choice.on_gpu
        for name, entrant in entrants.items()
        if entrant.file
    ]
    progress("memory", 0, len(files))
    found = {}
    for choice, name, path in files:
        progress(f"memory {name}", 0, 0)
        found[choice, name] = peak_memory.peak_memory(
            path, engine=choice.name, threads=max(plan.threads), sizes_hw=sizes_hw
        )
        progress(f"memory {name}", 1, 0)
    return found


def measure(
    plan: Plan,
    entered: Mapping[Choice, dict[str, Entrant]],
    inputs: list[tuple[int, LowImages]],
    left_out: list[str],
    keep: Callable[[list[Record]], None] = lambda _found: None,
) -> list[Record]:
    """Memory and times of every model, engine, input and number of threads: a record each.

    What does not fit into memory, or is refused by an engine, is added to `left_out` with the
    reason. `keep` hears of all records after each comparison, so that a run which is cut short has
    the ones before. Raises ValueError where nothing could be measured.
    """
    commit = records.commit_of(records.PROJECT)
    found: list[Record] = []
    sizes_hw = list(dict.fromkeys(size for _, low in inputs for size in low.sizes_hw))
    with Progress() as progress:
        memory = peak_memories(plan, entered, sizes_hw, progress)
        rates: dict[tuple[str, str], Rates] = {}
        for round_ in rounds_of(plan, inputs):
            choice = round_.choice
            kind = (choice.device, choice.dtype)
            if plan.floor and kind not in rates:
                with contenders.torch_settings(round_.threads):
                    rates[kind] = device_floor.measure_rates(
                        choice.device, contenders.DTYPES[choice.dtype]
                    )
                contenders.free()
            where = records.here(round_.threads)
            state = [records.gpu_state()]
            where_not = f"{choice.name}, {choice.dtype}, {round_.low.label}, batch {round_.batch}"

            def tell(name: str, reason: str, where_not: str = where_not) -> None:
                left_out.append(f"{name} on {where_not}: {reason}")

            samples, precision = time_models(plan, entered[choice], round_, progress, tell)
            contenders.free()
            state.append(records.gpu_state())
            for name in samples:
                entrant = entered[choice][name]
                values: dict[str, Value] = {
                    "parameters": entrant.parameters,
                    "images_per_s": len(samples[name].images)
                    * round_.batch
                    / (sum(samples[name].end_to_end_ms) / 1000),
                    "sizes_hw": sizes_in_words(round_.low, samples[name].images),
                }
                if entrant.file is not None:
                    values["proof_levels"] = entrant.file.proof_levels
                if choice.on_gpu:
                    values |= {"gpu_before": state[0], "gpu_after": state[1]}
                if (peak := memory.get((choice, name))) is not None:
                    values |= {
                        "peak_memory_mib": peak.peak_mib,
                        "memory_baseline_mib": peak.baseline_mib,
                        "memory_threads": max(plan.threads),
                        "memory_method": peak_memory.METHOD,
                    }
                if kind in rates:
                    values |= floor_values(entrant.network, round_, samples[name], rates[kind])
                found.append(
                    records.record(
                        What(
                            name,
                            plan.scale,
                            choice.name,
                            precision=precision[name],
                            size_hw=only_size(round_.low),
                            batch=round_.batch,
                            weights=entrant.weights,
                            input=round_.low.label,
                        ),
                        How(
                            turns.protocol(round_.batch, rest_s(choice)),
                            clock=turns.CLOCK,
                            copies=turns.COPIES,
                            warm_up=samples[name].warm_up,
                            samples=len(samples[name].images),
                        ),
                        figures=figures_of(samples, name, round_.low),
                        values=values,
                        published=published_figures(name, plan.scale, plan.dataset)
                        if round_.batch == 1 and not plan.sizes_hw
                        else {},
                        where=where,
                        commit=commit,
                    )
                )
            if samples:
                keep(found)
    if not found:
        raise ValueError(f"nothing could be measured: {'; '.join(left_out)}")
    return found


def rest_s(choice: Choice) -> float:
    """Rest before each timed run: a GPU would lower its clocks."""
    return 0.0 if choice.on_gpu else turns.PAUSE_SECONDS


def only_size(low: LowImages) -> tuple[int, int] | None:
    """The size of all images, or None where there are several."""
    sizes = set(low.sizes_hw)
    return sizes.pop() if len(sizes) == 1 else None


def floor_values(
    network: nn.Module, round_: Round, samples: Samples, rates: Rates
) -> dict[str, Value]:
    """The device's rates and the least time of a run by them, the median over the images."""
    dtype = contenders.DTYPES[round_.choice.dtype]
    sizes_hw = [round_.low.sizes_hw[i] for i in samples.images]
    floors = {
        size_hw: device_floor.floor_ms(
            device_floor.work_of(network, size_hw, round_.batch, dtype), rates
        )
        for size_hw in set(sizes_hw)
    }
    return {
        "floor_ms": round(statistics.median(floors[size_hw] for size_hw in sizes_hw), 5),
        "copy_gb_s": round(rates.copy_gb_s, 1),
        "matmul_tflops": round(rates.matmul_tflops, 3),
        "floor_method": " ".join((device_floor.__doc__ or "").split()),
    }


def figures_of(samples: dict[str, Samples], name: str, low: LowImages) -> list[Figure]:
    """Every sample of one model, and its paired ratios to the reference where that took part."""
    own = samples[name]
    labels = [low.names[i] for i in own.images]
    kinds = {
        "end_to_end_ms": own.end_to_end_ms,
        "network_only_ms": own.network_only_ms,
        "device_ms": own.device_ms,
    }
    figures = [
        Figure.of(kind, [round(t, 4) for t in taken], labels)
        for kind, taken in kinds.items()
        if taken
    ]
    if REFERENCE in samples:
        for kind, ratios in (
            (f"time_over_{REFERENCE}", turns.paired_ratios(own, samples[REFERENCE])),
            (f"device_over_{REFERENCE}", turns.device_ratios(own, samples[REFERENCE])),
        ):
            if ratios:
                taken = [round(ratio, 5) for ratio in ratios.values()]
                figures.append(Figure.of(kind, taken, [low.names[i] for i in ratios]))
    return figures


def sizes_in_words(low: LowImages, images: Iterable[int]) -> str:
    """ "77 of 80x120, 23 of 120x80", height first."""
    count: dict[tuple[int, int], int] = {}
    for i in images:
        count[low.sizes_hw[i]] = count.get(low.sizes_hw[i], 0) + 1
    return ", ".join(f"{n} of {height}x{width}" for (height, width), n in count.items())


def published_figures(name: str, scale: int, dataset: str) -> dict[str, str | float]:
    """What Table 6 prints for a network on the same set."""
    rows = {row.method: row for row in published.table6() if row.scale == scale}
    row = rows.get(published.METHODS.get(name, ""))
    if row is None or row.dataset != dataset:
        return {}
    found: dict[str, str | float] = {"inference_s": row.inference_s, "gpu": row.gpu}
    reference = rows.get(published.METHODS[REFERENCE])
    if reference is not None:
        found[f"time_over_{REFERENCE}"] = round(row.inference_s / reference.inference_s, 3)
    return found


def table(found: list[Record]) -> str:
    """The records of a run as Markdown: a section for each comparison in turns."""
    sections: dict[tuple[object, ...], list[Record]] = {}
    for entry in found:
        what = entry.what
        key = (what.engine, what.precision, entry.where.threads, what.input, what.batch)
        sections.setdefault(key, []).append(entry)
    parts = [_section(entries) for entries in sections.values()]
    if len({(entry.what.engine, entry.what.precision) for entry in found}) > 1:
        parts.append(best_table(found))
    return "\n\n".join(parts)


def _section(entries: list[Record]) -> str:
    first = entries[0]
    threads = first.where.threads
    cores = "1 thread" if threads == 1 else f"{threads} threads"
    machine = (
        f"{cores} of {first.where.cpu} ({first.where.cores} cores)"
        if threads is not None
        else str(first.where.gpu)
    )
    gpus = sorted({str(entry.published["gpu"]) for entry in entries if entry.published})
    gpu = gpus[0] if gpus else "its GPU"
    title = (
        f"x{first.what.scale}, {first.what.input}"
        + (f", batch {first.what.batch}" if first.what.batch > 1 else "")
        + f"; {first.what.engine}, {first.what.precision}, {machine}, {first.commit.in_words}"
    )
    rows = [_row(entry, gpu) for entry in entries]
    header = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    return f"### {title}\n\n" + markdown_table(
        header, [[row[name] or "-" for name in header] for row in rows]
    )


def _row(entry: Record, gpu: str) -> dict[str, str | None]:
    """A column's name and cell; None where there is nothing to say."""
    whole = entry.figure("end_to_end_ms")
    middle = {figure.name: figure.p50 for figure in entry.figures}
    values, paper = entry.values, entry.published

    def cell(name: str, digits: int) -> str | None:
        return f"{middle[name]:.{digits}f}" if name in middle else None

    floor = values.get("floor_ms")
    peak = values.get("peak_memory_mib")
    digits = 1 if entry.where.threads is not None else 3
    return {
        "network": entry.what.model,
        "weights": entry.what.weights,
        "images": str(entry.how.samples * entry.what.batch),
        "end to end p50 / p90 / p99, ms": " / ".join(
            f"{ms:.{digits}f}" for ms in (whole.p50, whole.p90, whole.p99)
        ),
        "FPS (1 / p50)": f"{1000 * entry.what.batch / whole.p50:.2f}",
        "images / s (n / sum)": f"{values['images_per_s']:.2f}",
        "network only p50, ms": cell("network_only_ms", digits),
        "device p50, ms": cell("device_ms", 4),
        "floor, ms": None if floor is None else f"{floor:.4f}",
        f"time / {REFERENCE}'s": cell(f"time_over_{REFERENCE}", 2) or "-",
        f"device / {REFERENCE}'s": cell(f"device_over_{REFERENCE}", 2),
        "peak MiB (baseline)": (
            None if peak is None else f"{peak:.0f} ({values['memory_baseline_mib']:.0f})"
        ),
        f"the paper, {gpu}: s": f"{paper['inference_s']:.4f}" if paper else "-",
        f"the paper: time / {REFERENCE}'s": (
            f"{paper[f'time_over_{REFERENCE}']:.2f}" if paper else "-"
        ),
    }


def best_table(found: list[Record]) -> str:
    """Each network on its own fastest engine, beside PLAIN and REFERENCE on theirs."""
    fastest: dict[tuple[str, int], dict[str, tuple[float, Record]]] = {}
    plain: dict[tuple[str, int, str], float] = {}
    for entry in found:
        where, model = (entry.what.input, entry.what.batch), entry.what.model
        ms = _kernel_ms(entry)
        if entry.what.engine == PLAIN:
            plain[(*where, model)] = ms
        of_models = fastest.setdefault(where, {})
        if model not in of_models or ms < of_models[model][0]:
            of_models[model] = ms, entry
    rows = []
    for where, of_models in fastest.items():
        for model, (ms, entry) in of_models.items():
            eager = plain.get((*where, model))
            rows.append(
                [
                    where[0],
                    str(where[1]),
                    model,
                    f"{entry.what.engine}, {entry.what.precision}",
                    f"{ms:.4f}",
                    "-" if eager is None else f"{eager / ms:.2f}",
                    f"{ms / of_models[REFERENCE][0]:.2f}" if REFERENCE in of_models else "-",
                ]
            )
    header = [
        *("input", "batch", "network", "fastest engine", "device (on a CPU: end to end) p50, ms"),
        *(f"times faster than {PLAIN}", f"time / {REFERENCE}'s"),
    ]
    return f"### Each network on its fastest engine\n\n{markdown_table(header, rows)}"


def _kernel_ms(entry: Record) -> float:
    """The device's time where there is one, else end to end."""
    names = [figure.name for figure in entry.figures]
    return entry.figure("device_ms" if "device_ms" in names else "end_to_end_ms").p50


def main(
    dataset: str = "B100",
    models: str = "gidrn,imdn,rfdn_l,rcan,edsr",
    scale: int = 4,
    engines: str = "ort-cpu",
    sizes: str | None = None,
    batch: str = "1",
    device: str = "cuda",
    threads: str | None = None,
    data_root: Path | None = None,
    weights_root: Path | None = None,
    out: Path | None = None,
    images: int | None = None,
    seconds: float = 60.0,
    floor: bool = False,
) -> None:
    """Measure frames per second, latency and memory, beside the paper's Table 6.

    Args:
        dataset: the one benchmark set whose low-resolution sizes are fed.
        models: networks of the zoo, with commas between.
        scale: 2, 3 or 4.
        engines: with commas between: engines of gidrn_runtime (ort-cpu, ort-cuda, tensorrt,
            tensorrt-rtx), and torch-fp32, torch-fp16, torch-compile, torch-graphs. Those of the
            runtime run FP16 on a GPU and FP32 on a CPU; ort-cuda:fp32 is the other.
        sizes: in place of the set: 540p, 720p, 1080p or HEIGHTxWIDTH of the low-resolution input,
            with commas between; generated pictures.
        batch: frames at once, such as 1,8 for a section each.
        device: where PyTorch runs: cuda or cpu.
        threads: CPU threads, such as 1,2 for two sections in one run; all cores by default.
        data_root: folder with the benchmark sets; GIDRN_DATA by default, and without either
            generated stand-ins for B100.
        weights_root: folder with files such as imdn_x4.safetensors; GIDRN_WEIGHTS by default.
        out: the JSON file to write; benchmarks/results/local/fps_... by default.
        images: take so many images of the set only (but one of each size).
        seconds: timed runs a model and number of threads; at least three images of each size.
        floor: measure the device's copy and matrix rates too, and show the least time by them.
    """
    dataset = benchmark_sets.canonical(dataset)
    if device not in ("cuda", "cpu"):
        raise ValueError(f"--device is cuda or cpu, not {device!r}")
    plan = Plan(
        dataset,
        scale,
        command_line.words(models),
        tuple(contenders.choose(name, device) for name in command_line.words(engines)),
        thread_counts(threads),
        images,
        seconds,
        () if sizes is None else parse_sizes(sizes),
        numbers(batch, "--batch"),
        floor,
    )
    if out is None:
        gpu = any(choice.on_gpu for choice in plan.engines)
        name = sizes.replace(",", "_") if sizes else dataset
        machine = records.gpu_slug() if gpu else records.cpu_slug()
        out = records.RESULTS / "local" / f"fps_{name}_x{scale}_{machine}.json"
    records.check_writable(out)
    if floor:
        contenders.check_rates(plan.engines)
    low = None
    if not plan.sizes_hw:
        low = low_images.low_images(dataset, scale, data_root)
        if plan.images is not None:
            low = low.only(low_images.spread(low.sizes_hw, plan.images, least=1))
    inputs = inputs_of(plan, low)
    left_out: list[str] = []
    entered = {choice: enter(plan, choice, weights_root, left_out) for choice in plan.engines}
    found = measure(
        plan, entered, inputs, left_out, keep=lambda found: records.write_records(out, found)
    )
    print(table(found))
    if left_out:
        print("\nLeft out:\n" + "\n".join(f"- {line}" for line in left_out))
    print(f"\n{LEGEND}\n\nwritten to {out}")


if __name__ == "__main__":
    command_line.run(main)
