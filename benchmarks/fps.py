"""Frames per second of the networks, as the paper's Table 6 has them, on this machine.

Every network is exported by our own exporter and run by `gidrn_runtime`, all in one process and in
turns, on the low-resolution images of a benchmark set: real ones where the photos are there, else
generated stand-ins of exactly B100's 100 sizes, which say so in the table and in the JSON.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from benchmarks import exported_models, low_images, peak_memory, published, records, turns
from benchmarks.exported_models import ExportedModel
from benchmarks.low_images import LowImages
from benchmarks.markdown_table import markdown_table
from benchmarks.peak_memory import PeakMemory
from benchmarks.progress import Progress
from benchmarks.records import Figure, How, Record, What
from benchmarks.turns import Samples
from gidrn import benchmark_sets, command_line, zoo
from gidrn_runtime import Upscaler, engines

REFERENCE = "gidrn"
"""The network that the others are compared with."""

LEGEND = (
    "End to end: a uint8 frame in host memory to a uint8 frame in host memory. Times over "
    f"{REFERENCE}'s are medians over pairs on the same image in the same run. Peak memory is that "
    "of a process of its own, on the run's largest number of threads; the baseline is what it "
    "had before it opened the model. The paper's "
    "columns are what its Table 6 prints for another machine and PyTorch. Networks without weights "
    "here have random ones: their speed is the same, their pictures are not shown."
)


@dataclass(frozen=True)
class Plan:
    """What a run measures, checked."""

    dataset: str
    scale: int
    models: tuple[str, ...]
    engines: tuple[str, ...]
    threads: tuple[int, ...]
    images: int | None
    """How many images at most; None for all."""
    seconds: float
    """Timed runs a model, engine and number of threads."""

    def __post_init__(self) -> None:
        if self.scale not in zoo.SCALES:
            raise ValueError(f"--scale is one of {', '.join(map(str, zoo.SCALES))}")
        for name in self.models:
            zoo.find(name)
        for engine in self.engines:
            if engine == "auto":
                raise ValueError("--engines wants names, since results say what ran: not auto")
            status = engines.status(engine)
            if not status.available:
                raise ValueError(f"{engine} is not available here: {status.reason}")
        if not self.models or not self.engines or not self.threads:
            raise ValueError("--models, --engines and --threads each want at least one")
        if any(count < 1 for count in self.threads):
            raise ValueError("--threads wants numbers of 1 and more, such as 1,2")
        if self.images is not None and self.images < 1:
            raise ValueError(f"--images is at least 1, not {self.images}")
        if not 0 < self.seconds < float("inf"):
            raise ValueError(f"--seconds is a time above 0, not {self.seconds}")


def thread_counts(threads: str | None) -> tuple[int, ...]:
    """Numbers from "1,2"; all cores where nothing is said."""
    if threads is None:
        return (records.usable_cores(),)
    parts = command_line.words(threads)
    if not all(part.isdecimal() for part in parts):
        raise ValueError(f"--threads wants numbers of 1 and more, such as 1,2, not {threads!r}")
    return tuple(int(part) for part in parts)


def open_checked(path: Path, engine: str, threads: int) -> Upscaler:
    """Open a model, and raise ValueError where what runs is not what was asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # random weights are named in the table
        upscale = Upscaler(path, engine=engine, threads=threads)
    told = upscale.describe()
    used = (told.get("engine"), told.get("threads"))
    if used != (engine, threads):
        upscale.close()
        raise ValueError(
            f"{engine} on {threads} threads was asked for, and {used[0]} on {used[1]} runs"
        )
    return upscale


def time_models(
    plan: Plan,
    models: dict[str, ExportedModel],
    low: LowImages,
    engine: str,
    threads: int,
    progress: Progress,
) -> tuple[dict[str, Samples], dict[str, str]]:
    """Samples of every model in turns on one engine, and the precision of each."""
    with ExitStack() as stack:
        opened = {
            name: stack.enter_context(open_checked(model.path, engine, threads))
            for name, model in models.items()
        }
        for name, upscale in opened.items():
            if upscale.scale != plan.scale:
                raise ValueError(f"{name} enlarges x{upscale.scale}, not x{plan.scale}")
        precision = {name: str(opened[name].describe()["precision"]) for name in opened}
        samples = turns.in_turns(opened, low, seconds=plan.seconds, tick=progress)
    return samples, precision


def measure(plan: Plan, models: dict[str, ExportedModel], low: LowImages) -> list[Record]:
    """Memory and times of every model, engine and number of threads: a record each."""
    commit = records.commit_of(records.PROJECT)
    sizes_hw = list(dict.fromkeys(low.sizes_hw))
    found: list[Record] = []
    with Progress() as progress:
        progress("memory", 0, len(models) * len(plan.engines))
        most = max(plan.threads)
        memory: dict[tuple[str, str], PeakMemory] = {}
        for engine in plan.engines:
            for name, model in models.items():
                progress(f"memory {name}", 0, 0)
                memory[engine, name] = peak_memory.peak_memory(
                    model.path, engine=engine, threads=most, sizes_hw=sizes_hw
                )
                progress(f"memory {name}", 1, 0)
        for engine in plan.engines:
            for threads in plan.threads:
                where = records.here(threads)
                samples, precision = time_models(plan, models, low, engine, threads, progress)
                for name, model in models.items():
                    found.append(
                        records.record(
                            What(
                                name,
                                plan.scale,
                                engine,
                                precision=precision[name],
                                weights=model.weights,
                                input=low.label,
                            ),
                            How(
                                turns.PROTOCOL,
                                clock=turns.CLOCK,
                                copies=turns.COPIES,
                                warm_up=samples[name].warm_up,
                                samples=len(samples[name].images),
                            ),
                            figures=figures_of(samples, name, low),
                            values={
                                "parameters": model.parameters,
                                "proof_levels": model.proof_levels,
                                "images_per_s": len(samples[name].images)
                                / (sum(samples[name].end_to_end_ms) / 1000),
                                "sizes_hw": sizes_in_words(low, samples[name].images),
                                "peak_memory_mib": memory[engine, name].peak_mib,
                                "memory_baseline_mib": memory[engine, name].baseline_mib,
                                "memory_threads": most,
                                "memory_method": peak_memory.METHOD,
                            },
                            published=published_figures(name, plan.scale, plan.dataset),
                            where=where,
                            commit=commit,
                        )
                    )
    return found


def figures_of(samples: dict[str, Samples], name: str, low: LowImages) -> list[Figure]:
    """Every sample of one model, and its paired ratios to the reference where that took part."""
    own = samples[name]
    labels = [low.names[i] for i in own.images]
    figures = [
        Figure.of("end_to_end_ms", [round(t, 4) for t in own.end_to_end_ms], labels),
        Figure.of("network_only_ms", [round(t, 4) for t in own.network_only_ms], labels),
    ]
    if REFERENCE in samples:
        ratios = turns.paired_ratios(own, samples[REFERENCE])
        figures.append(
            Figure.of(
                f"time_over_{REFERENCE}",
                [round(ratio, 5) for ratio in ratios.values()],
                [low.names[i] for i in ratios],
            )
        )
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
    """The records of a run as Markdown: a section for each engine and number of threads."""
    sections: dict[tuple[str, int | None], list[Record]] = {}
    for entry in found:
        sections.setdefault((entry.what.engine, entry.where.threads), []).append(entry)
    return "\n\n".join(_section(entries) for entries in sections.values())


def _section(entries: list[Record]) -> str:
    first = entries[0]
    threads = first.where.threads
    cores = "1 thread" if threads == 1 else f"{threads} threads"
    gpus = sorted({str(entry.published["gpu"]) for entry in entries if entry.published})
    gpu = gpus[0] if gpus else "its GPU"
    title = (
        f"x{first.what.scale}, {first.what.input}; {first.what.engine}, {first.what.precision}, "
        f"{cores} of {first.where.cpu} ({first.where.cores} cores), "
        f"{first.commit.in_words}"
    )
    header = [
        "network",
        "weights",
        "images",
        "end to end p50 / p90 / p99, ms",
        "FPS (1 / p50)",
        "images / s (n / sum)",
        "network only p50, ms",
        f"time / {REFERENCE}'s",
        "peak MiB (baseline)",
        f"the paper, {gpu}: s",
        f"the paper: time / {REFERENCE}'s",
    ]
    return f"### {title}\n\n{markdown_table(header, [_row(entry) for entry in entries])}"


def _row(entry: Record) -> list[str]:
    whole = entry.figure("end_to_end_ms")
    ratio_name = f"time_over_{REFERENCE}"
    ratios = [figure.p50 for figure in entry.figures if figure.name == ratio_name]
    values, paper = entry.values, entry.published
    return [
        entry.what.model,
        entry.what.weights,
        str(entry.how.samples),
        f"{whole.p50:.1f} / {whole.p90:.1f} / {whole.p99:.1f}",
        f"{1000 / whole.p50:.2f}",
        f"{values['images_per_s']:.2f}",
        f"{entry.figure('network_only_ms').p50:.1f}",
        f"{ratios[0]:.2f}" if ratios else "-",
        f"{values['peak_memory_mib']:.0f} ({values['memory_baseline_mib']:.0f})",
        f"{paper['inference_s']:.4f}" if paper else "-",
        f"{paper[ratio_name]:.2f}" if paper else "-",
    ]


def main(
    dataset: str = "B100",
    models: str = "gidrn,imdn,rfdn_l,rcan,edsr",
    scale: int = 4,
    engines: str = "ort-cpu",
    threads: str | None = None,
    data_root: Path | None = None,
    weights_root: Path | None = None,
    out: Path | None = None,
    images: int | None = None,
    seconds: float = 60.0,
) -> None:
    """Measure frames per second, latency and memory, beside the paper's Table 6.

    Args:
        dataset: the one benchmark set whose low-resolution sizes are fed.
        models: networks of the zoo, with commas between.
        scale: 2, 3 or 4.
        engines: engines of gidrn_runtime, with commas between.
        threads: CPU threads, such as 1,2 for two sections in one run; all cores by default.
        data_root: folder with the benchmark sets; GIDRN_DATA by default, and without either
            generated stand-ins for B100.
        weights_root: folder with files such as imdn_x4.safetensors; GIDRN_WEIGHTS by default.
        out: the JSON file to write; benchmarks/results/local/fps_... by default.
        images: take so many images of the set only (but one of each size).
        seconds: timed runs a model and number of threads; at least three images of each size.
    """
    dataset = benchmark_sets.canonical(dataset)
    plan = Plan(
        dataset,
        scale,
        command_line.words(models),
        command_line.words(engines),
        thread_counts(threads),
        images,
        seconds,
    )
    if out is None:
        name = f"fps_{dataset}_x{scale}_{records.cpu_slug()}.json"
        out = records.RESULTS / "local" / name
    records.check_writable(out)
    low = low_images.low_images(dataset, scale, data_root)
    if plan.images is not None:
        low = low.only(low_images.spread(low.sizes_hw, plan.images, least=1))
    exports = {
        name: exported_models.exported(name, scale, weights_root=weights_root)
        for name in tqdm(plan.models, "export", unit="model", disable=None, leave=False)
    }
    found = measure(plan, exports, low)
    records.write_records(out, found)
    print(table(found))
    print(f"\n{LEGEND}\n\nwritten to {out}")


if __name__ == "__main__":
    command_line.run(main)
