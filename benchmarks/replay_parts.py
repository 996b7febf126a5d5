"""What `replay.py` measures, in parts that are kept on their own: a part is one file of records.

Each part calls the command that measures such things (`complexity`, `quality`, `fps`,
`cpu_engines`, `peak_memory`, `train_speed`, `ablations`); nothing is measured another way here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks import (
    ablations,
    comparisons,
    complexity,
    contenders,
    cpu_engines,
    exported_models,
    fps,
    frequencies,
    low_images,
    peak_memory,
    published,
    quality,
    records,
    train_speed,
    training_steps,
    weight_files,
)
from benchmarks.journal import Journal
from benchmarks.records import How, Record, Value, What
from export.rewrites import attention
from gidrn import benchmark_sets, checkpoints, photos, recipes, zoo
from gidrn.images import as_rgb, read_image
from gidrn.losses import HighPass
from gidrn.networks.anrb import ANRB
from gidrn.networks.gidrn import DenseShortcut
from gidrn.resize import crop_to_multiple, downscale
from gidrn_runtime import engines

PIXELS = {
    "Set5": 113_000,
    "Set14": 231_000,
    "B100": 154_401,
    "Urban100": 775_000,
    "Manga109": 966_000,
}
"""About how many pixels a photo of each set has, for the forecast of a part's time."""

MULTIPLY_ADDS_A_SECOND = 6e9
"""Of networks in PyTorch on two cores, for the same forecast; the parts' own times correct it."""

PRINTED = {row.method for row in published.table4()} | {row.method for row in published.table6()}
"""The methods whose quality the paper prints."""

LEFT = "left for the next run"
"""How the reason begins for a part that the budget did not reach."""

NO_WEIGHTS = "no weights ship, and none lie in the folder of --weights-root (such as rfdn_l_x4.pth)"

FIRST_SETS = ("Set5", "Set14")
"""Scored before anything is timed, since they take little time."""

TIMED = ("gidrn", "imdn", "rfdn_l", "idrn")
"""Table 6's networks that a CPU runs in fractions of a second, and PAN where it has weights."""
SLOW = ("edsr", "rcan")

TIMED_SECONDS = 20.0
"""Timed runs a network."""

MEMORY_SIZES_HW = ((80, 120), (180, 320), (270, 480))

SHOWN = ("bicubic", "imdn", "rfdn_l", "gidrn")
"""The methods of the picture comparisons, in the paper's order."""

FIGURE_6 = ("barbara", 3)
"""The photo of Set14, and the factor."""

KNOTS = 256
"""Of the curve that stands in Table 2's place for the attention over all points: fresh weights are
run, whose pictures mean nothing, and more knots change memory by kilobytes."""

MANGA_HW = (413, 585)
"""Average size of Manga109's low-resolution images at x2, at which the paper ran out of memory."""


@dataclass(frozen=True)
class Sources:
    """What there is to measure with, checked."""

    device: str
    """cpu, or a CUDA device."""
    threads: int
    data_root: Path | None
    weights_root: Path | None
    photos: tuple[Path, ...] = ()
    """Folders to train Section 3.3's ablations on."""


@dataclass(frozen=True)
class Part:
    """A piece of the replay."""

    name: str
    """The stem of its file."""
    title: str
    kind: str
    """What sort of records it gives: see `report_evidence`."""
    seconds: float
    """Forecast, on two cores of a server."""
    settings: Mapping[str, object]
    """All that its figures depend on, the code and the machine apart."""
    measure: Callable[[Path], list[Record]]
    """Called with the path of its file, beside which a journal may lie."""


@dataclass(frozen=True)
class Parts:
    """What can be measured here, in order, and by name what cannot, with the reason."""

    here: tuple[Part, ...]
    absent: Mapping[str, str]


def all_parts(sources: Sources) -> Parts:
    """Everything of the paper that this machine and these sources can do, the quickest first."""
    methods, skipped = quality.open_all([2, 3, 4], sources.weights_root)
    absent: dict[str, str] = {}
    sets = _sets(sources, absent)
    for one in skipped:
        for dataset in published.DATASETS:
            reason = one.reason if one.is_fault else NO_WEIGHTS
            absent[quality_name(one.name, one.scale, dataset)] = reason
    scored = {key: one for key, one in methods.items() if published.METHODS[key[0]] in PRINTED}
    scores = [part for name in sets for part in _quality_parts(scored, name, sets)]
    first = [part for part in scores if part.settings["scale"] == 4 and _is_small(part)]
    late = [part for part in scores if part not in first]
    timed = (*TIMED, *(["pan"] if ("pan", 4) in methods else []))
    here = [
        _counts(),
        _ablation_counts(),
        *_frequencies(methods, sets, absent),
        *_pictures(sources, methods, sets, absent),
        *_engines(sources, absent),
        *first,
        _speed(sources, timed, "speed"),
        _memory(sources),
        *sorted(late, key=lambda part: part.seconds),
        _train_speed(sources),
        _speed(sources, ("gidrn", *SLOW), "speed_slow"),
        *_ablation_runs(sources, absent),
    ]
    return Parts(tuple(here), absent)


def _is_small(part: Part) -> bool:
    return part.settings["dataset"] in FIRST_SETS


def quality_name(model: str, scale: int, dataset: str) -> str:
    """The name of the part that scores one network on one set."""
    return f"quality_{model}_x{scale}_{dataset}"


def _sets(sources: Sources, absent: dict[str, str]) -> dict[str, list[Path]]:
    """The images of each benchmark set that is here; of the others why not, under their names."""
    found = {}
    for name in published.DATASETS:
        try:
            root = benchmark_sets.data_root(sources.data_root)
            found[name] = benchmark_sets.find_images(name, root, 4)
        except FileNotFoundError:
            absent[name] = f"no images of {name} under --data-root"
        except ValueError as error:  # no root, or a set that is not whole
            folder = str(sources.data_root) if sources.data_root else ""
            absent[name] = str(error).replace(folder, "--data-root") if folder else str(error)
    return found


def _digest(paths: Sequence[Path]) -> str:
    """Of several files, in this order."""
    return hashlib.sha256("".join(map(checkpoints.sha256, paths)).encode()).hexdigest()


def _counts() -> Part:
    names, scales = list(complexity.CONFIGS), [2, 3, 4]
    return Part(
        "counts",
        "Parameters and multiply-adds of every network (Tables 4, 5, 6; Figures 1, 12)",
        "counts",
        30,
        {"names": names, "scales": scales, "size_hw": complexity.PAPER_SIZE_HW},
        lambda _path: complexity.measure(names, scales, complexity.PAPER_SIZE_HW),
    )


def _ablation_counts() -> Part:
    return Part(
        "ablation_counts",
        "Parameters of Tables 1 and 2, memory of Table 2",
        "ablation_counts",
        15,
        {"manga_hw": MANGA_HW, "knots": KNOTS},
        lambda _path: [*table1_counts(), *table2_memory()],
    )


def table1_counts() -> list[Record]:
    """Parameters of Table 1's rows, the shortcuts' scalars apart, which the paper leaves out."""
    where, found = records.here(), []
    for (row, recipe), printed in zip(
        recipes.ABLATIONS[1].items(), published.table1(), strict=True
    ):
        network = _on_meta(recipe)
        shortcuts = [part for part in network.modules() if isinstance(part, DenseShortcut)]
        scalars = sum(p.numel() for shortcut in shortcuts for p in shortcut.weights)
        weights = sum(p.numel() for p in network.parameters()) - scalars
        found.append(
            records.record(
                What(recipe.network, recipe.scale, "none"),
                How("parameters of the network built on PyTorch's meta device"),
                values={"row": row, "table": 1, "parameters": weights, "scalars": scalars},
                published={"Table 1 params_k": printed.params_k},
                where=where,
            )
        )
    return found


def table2_memory() -> list[Record]:
    """Bytes that Table 2's networks hold at once, exact and as a curve, at its two sizes and more.

    Counted by `complexity.KernelGraph` without running anything, weights added; the attention over
    all points as a curve is also run for real at MANGA_HW.
    """
    where, found = records.here(), []
    for (row, recipe), printed in zip(
        recipes.ABLATIONS[2].items(), published.table2(), strict=True
    ):
        has_attention = bool(recipe.config.get("anrb"))
        for form in ("exact", "curve") if has_attention else ("exact",):
            for size_hw in ((128, 128), (180, 180), MANGA_HW):
                with torch.device("meta"):
                    network = _built(recipe)
                    if form == "curve":
                        attention.apply(network, lambda: attention.CurveAttention(KNOTS))
                counts = complexity.count(network, size_hw)
                values: dict[str, Value] = {
                    "row": row,
                    "table": 2,
                    "attention": form if has_attention else "none",
                    "activations_mib": round(counts.peak_memory_mib, 2),
                    "weights_mib": round(counts.parameters * 4 / 2**20, 2),
                    "attention_mib": round(_attention_mib(network, size_hw), 2),
                }
                if (printed.samples, form, size_hw) == ("infinite", "curve", MANGA_HW):
                    values["ran_s"] = round(_seconds_of_a_run(recipe, size_hw), 2)
                square = size_hw[0] == size_hw[1]
                found.append(
                    records.record(
                        What(recipe.network, recipe.scale, "none", size_hw=size_hw),
                        How(complexity.PROTOCOL),
                        values=values,
                        published={"Table 2 memory_mb": printed.memory_mb[size_hw[0]]}
                        if square
                        else {},
                        where=where,
                    )
                )
    return found


def _attention_mib(network: nn.Module, size_hw: tuple[int, int]) -> float:
    """What ANRB alone holds at once beside its input, in MiB; 0 without one. On the meta device."""
    for part in network.modules():
        if isinstance(part, ANRB | attention.ExportedANRB):
            x = torch.zeros(1, part.expand.out_channels, *size_hw, device="meta")
            graph = complexity.KernelGraph(x)
            with torch.no_grad(), graph:
                part(x)
            return (graph.peak_bytes - x.nbytes) / 2**20
    return 0.0


def _built(recipe: recipes.Recipe) -> nn.Module:
    return zoo.create(recipe.network, recipe.scale, config=recipe.network_config)


def _on_meta(recipe: recipes.Recipe) -> nn.Module:
    with torch.device("meta"):
        return _built(recipe)


def _seconds_of_a_run(recipe: recipes.Recipe, size_hw: tuple[int, int]) -> float:
    """Of one image through a network with fresh weights and the curve."""
    network = _built(recipe).eval()
    attention.apply(network, lambda: attention.CurveAttention(KNOTS))
    began = time.monotonic()
    with torch.inference_mode():
        output = network(torch.rand(1, 3, *size_hw))
    if not torch.isfinite(output).all():
        raise ValueError(f"{recipe.network} gives numbers that are not finite at {size_hw}")
    return time.monotonic() - began


def _quality_parts(
    methods: Mapping[tuple[str, int], quality.Method],
    dataset: str,
    sets: Mapping[str, Sequence[Path]],
) -> Iterator[Part]:
    """Every method at every factor on one set, x4 first; nothing where the set is not here."""
    if dataset not in sets:
        return
    digest = _digest(sets[dataset])
    for name, scale in sorted(methods, key=lambda key: (-key[1], list(methods).index(key))):
        method, paths = methods[name, scale], list(sets[dataset])
        forecast = len(paths) * (
            0.2 + _multiply_adds(name, scale, dataset) / MULTIPLY_ADDS_A_SECOND
        )

        def measure(
            path: Path,
            method: quality.Method = method,
            scale: int = scale,
            paths: list[Path] = paths,
        ) -> list[Record]:
            journal = Journal(path.with_name(f"{path.name}.journal"))
            found = [quality.measure(method, dataset, scale, paths, journal)]
            journal.remove()
            return found

        yield Part(
            quality_name(name, scale, dataset),
            f"PSNR and SSIM of {published.METHODS[name]} x{scale} on {dataset} (Table 4)",
            "quality",
            forecast,
            {
                "model": name,
                "scale": scale,
                "dataset": dataset,
                "images_sha256": digest,
                "weights_sha256": method.weights_sha256,
            },
            measure,
        )


def _multiply_adds(name: str, scale: int, dataset: str) -> float:
    if name == "bicubic":
        return 0.0
    side = 32
    counted = complexity.count_model(name, scale, (side, side)).multiply_adds
    return counted / side**2 * PIXELS[dataset] / scale**2


def _frequencies(
    methods: Mapping[tuple[str, int], quality.Method],
    sets: Mapping[str, Sequence[Path]],
    absent: dict[str, str],
) -> Iterator[Part]:
    """Figures 6 and 7."""
    if "Set14" not in sets:
        absent["frequencies"] = absent["Set14"]
        return
    stem, scale = FIGURE_6
    path = next(path for path in sets["Set14"] if path.stem.lower().startswith(stem))
    chosen = {name: method for (name, at), method in methods.items() if at == scale}
    yield Part(
        "frequencies",
        "Low and high frequencies of barbara x3, and the low-pass pictures (Figures 6, 7)",
        "frequencies",
        15,
        {"image_sha256": _digest([path]), "weights": _weights(chosen)},
        lambda out: frequency_records(path, scale, chosen, out.parent / "pictures"),
    )


def frequency_records(
    path: Path, scale: int, methods: Mapping[str, quality.Method], pictures: Path
) -> list[Record]:
    """The parts' PSNR of every method, and pictures of the truth's low and high frequencies."""
    where, high_pass = records.here(), HighPass()
    truth = as_rgb(crop_to_multiple(read_image(path), scale))
    low = downscale(truth, scale)
    filter_words = f"Gaussian {high_pass.taps.numel()}x{high_pass.taps.numel()}, sigma 1"
    found = []
    pictures.mkdir(parents=True, exist_ok=True)
    at = comparisons.most_lined(truth)
    for name, method in methods.items():
        made = comparisons.enlarged(method.network, low, scale)
        near = frequencies.nearness(made, truth, high_pass, border=scale)
        found.append(
            records.record(
                What(name, scale, "torch-cpu", weights=method.weights, input=f"Set14 {path.stem}"),
                How(f"Y, {scale} pixels cut from each side, peak 255; {filter_words}"),
                values={**dataclasses.asdict(near), "filter": filter_words},
                where=where,
            )
        )
    files = comparisons.write_frequencies(truth, at, high_pass, pictures, f"figure_7_{path.stem}")
    found[0] = dataclasses.replace(found[0], values={**found[0].values, **files})
    return found


def _weights(methods: Mapping[str, quality.Method]) -> dict[str, str]:
    return {name: method.weights_sha256 or "none" for name, method in methods.items()}


def _pictures(
    sources: Sources,
    methods: Mapping[tuple[str, int], quality.Method],
    sets: Mapping[str, Sequence[Path]],
    absent: dict[str, str],
) -> Iterator[Part]:
    """Figures 2, 10 and 11: the paper's own photos, or others of the sets that are here."""
    chosen = {name: methods[name, 4] for name in SHOWN if (name, 4) in methods}
    wanted = {
        "figure_2": ["img024", "img_024"],
        "figure_10": ["img005", "img020", "img_005", "img_020"],
    }
    for figure, stems in wanted.items():
        if "Urban100" in sets:
            paths = [p for p in sets["Urban100"] if p.stem.lower().split("_src")[0] in stems]
            origin = "Urban100, the paper's own"
        else:
            paths, origin = [], ""
        if not paths:
            name = next((name for name in ("B100", "Set14", "Set5") if name in sets), None)
            if name is None:
                absent[figure] = absent["Set5"]
                continue
            ranked = comparisons.by_lines(sets[name])
            paths = ranked[:1] if figure == "figure_2" else ranked[1:3]
            origin = (
                f"{name}, in place of the paper's photos of Urban100, which is not here: "
                "those with the most lines"
            )
        yield _picture_part(figure, paths, origin, chosen, has_truth=True)
    root = sources.data_root / "RealSR" if sources.data_root else None
    found = (
        sorted(root.rglob("*LR4*.*")) or sorted(root.rglob("*.png"))
        if root and root.is_dir()
        else []
    )
    if not found:
        absent["figure_11"] = (
            "RealSR is not here: put photos into RealSR/ under --data-root (PNG, or *LR4*)"
        )
        return
    yield _picture_part("figure_11", found[:2], "RealSR", chosen, has_truth=False)


def _picture_part(
    figure: str,
    paths: Sequence[Path],
    origin: str,
    methods: Mapping[str, quality.Method],
    *,
    has_truth: bool,
) -> Part:
    def measure(out: Path) -> list[Record]:
        pictures = out.parent / "pictures"
        pictures.mkdir(parents=True, exist_ok=True)
        networks = {name: method.network for name, method in methods.items()}
        make = comparisons.compare if has_truth else comparisons.enlarge_real
        found = []
        for path in paths:
            where = records.here()
            made = make(path, 4, networks)
            for name, image in made.parts.items():
                comparisons.write(pictures / f"{figure}_{path.stem}_{name}.webp", image)
            found.append(
                records.record(
                    What("gidrn", 4, "torch-cpu", input=f"{origin}: {path.stem}"),
                    How(" ".join((comparisons.__doc__ or "").split())),
                    values={
                        "photo": path.stem,
                        "origin": origin,
                        "top": made.at[0],
                        "left": made.at[1],
                        "shown": " ".join(made.parts),
                        **{f"{name}_psnr_db": db for name, db in made.psnr_db.items()},
                        **{
                            f"{name}_file": f"{figure}_{path.stem}_{name}.webp"
                            for name in made.parts
                        },
                    },
                    where=where,
                )
            )
        return found

    return Part(
        figure,
        f"Pictures for {figure.replace('_', ' ').title()}",
        "pictures",
        8.0 * len(paths),
        {"images_sha256": _digest(paths), "weights": _weights(methods), "origin": origin},
        measure,
    )


def _engine_choices(device: str) -> list[contenders.Choice]:
    """The engines of a device that are here, PyTorch in FP32 first on a GPU."""
    if not device.startswith("cuda"):
        return [contenders.choose("ort-cpu", "cpu")]
    found = []
    for name in ("torch-fp32", "torch-graphs", "ort-cuda", "tensorrt"):
        with contextlib.suppress(ValueError):  # it is not here, and the report's list says so
            found.append(contenders.choose(name, "cuda"))
    return found


def _speed(sources: Sources, models: Sequence[str], name: str) -> Part:
    """Table 6's inference times: all networks in turns on each engine."""
    choices = _engine_choices(sources.device)
    plan = fps.Plan(
        "B100", 4, tuple(models), tuple(choices), (sources.threads,), None, TIMED_SECONDS
    )

    def measure(path: Path) -> list[Record]:
        low = low_images.low_images("B100", 4, sources.data_root)
        left_out: list[str] = []
        entered = {
            choice: fps.enter(plan, choice, sources.weights_root, left_out) for choice in choices
        }
        found = fps.measure(plan, entered, fps.inputs_of(plan, low), left_out)
        for line in left_out:
            print(f"left out: {line}")
        return found

    return Part(
        name,
        f"Frames per second of {', '.join(published.METHODS[m] for m in models)} (Table 6)",
        "speed",
        (120.0 if name == "speed" else 420.0) * len(choices),
        {
            "models": list(models),
            "engines": [f"{choice.name} {choice.dtype}" for choice in choices],
            "threads": sources.threads,
            "images": "B100" if sources.data_root else "stand-ins",
            "seconds": TIMED_SECONDS,
            "weights": _weight_files(sources, models, 4),
        },
        measure,
    )


def _weight_files(sources: Sources, models: Sequence[str], scale: int) -> dict[str, str]:
    found = {}
    for name in models:
        for path in weight_files.names(sources.weights_root, name, scale):
            if path.is_file():
                found[name] = checkpoints.sha256(path)
    return found


def _engines(sources: Sources, absent: dict[str, str]) -> Iterator[Part]:
    """Frames per second by engine, in turns, on a CPU; on a GPU `_speed` has every engine."""
    if sources.device.startswith("cuda"):
        return
    status = engines.status("native")
    if not status.available:
        absent["engines"] = f"the native engine is not available: {status.reason}"
        return
    pairs = cpu_engines.parse_pairs("gidrn:native,gidrn:ort-cpu,imdn:ort-cpu,rfdn_l:ort-cpu")
    threads, runs, size_hw = sources.threads, 11, (80, 120)
    yield Part(
        "engines",
        "Frames per second by engine",
        "engines",
        75,
        {"threads": threads, "runs": runs, "size_hw": size_hw},
        lambda _path: cpu_engines.compare(pairs, 4, size_hw, threads, runs, sources.weights_root),
    )


def _memory(sources: Sources) -> Part:
    """Peak memory of a process over the frame's size, by network and engine of the CPU."""
    wanted = [("gidrn", "ort-cpu"), ("imdn", "ort-cpu"), ("rfdn_l", "ort-cpu")]
    if engines.status("native").available:
        wanted.insert(0, ("gidrn", "native"))
    return Part(
        "memory",
        "Peak memory over the frame's size",
        "memory",
        6.0 * len(wanted) * len(MEMORY_SIZES_HW),
        {"pairs": wanted, "sizes_hw": MEMORY_SIZES_HW, "threads": sources.threads},
        lambda _path: memory_records(wanted, sources),
    )


def memory_records(wanted: Sequence[tuple[str, str]], sources: Sources) -> list[Record]:
    """One record a network, engine and size."""
    found = []
    for model, engine in wanted:
        file = exported_models.exported(model, 4, weights_root=sources.weights_root)
        for size_hw in MEMORY_SIZES_HW:
            where = records.here(sources.threads)
            peak = peak_memory.peak_memory(
                file.path, engine=engine, threads=sources.threads, sizes_hw=[size_hw]
            )
            found.append(
                records.record(
                    What(model, 4, engine, size_hw=size_hw, weights=file.weights, input="gray"),
                    How(peak_memory.METHOD),
                    values={
                        "peak_memory_mib": peak.peak_mib,
                        "memory_baseline_mib": peak.baseline_mib,
                    },
                    where=where,
                )
            )
    return found


def _train_speed(sources: Sources) -> Part:
    """Table 6's training times: the plain form of each network."""
    on_cpu = not sources.device.startswith("cuda")
    plan = train_speed.Plan(
        ("gidrn", "idrn", "imdn", "rfdn_l"),
        4,
        train_speed.PAPER_BATCH,
        train_speed.PAPER_PATCH,
        sources.device,
        sources.threads,
        (training_steps.EAGER,),
        train_speed.LEAST_SAMPLES if on_cpu else train_speed.DEFAULT_SAMPLES["cuda"],
    )

    def measure(_path: Path) -> list[Record]:
        with contenders.torch_settings(sources.threads):
            store = training_steps.stand_in_store(plan.scale, plan.patch, plan.device)
            return train_speed.measure(plan, store)

    return Part(
        "train_speed",
        "Seconds of 100 training steps (Table 6)",
        "train_speed",
        900.0 if on_cpu else 120.0,
        {
            "models": plan.models,
            "batch": plan.batch,
            "patch": plan.patch,
            "device": plan.device,
            "threads": plan.threads,
            "samples": plan.samples,
        },
        measure,
    )


def _ablation_runs(sources: Sources, absent: dict[str, str]) -> Iterator[Part]:
    """Tables 1, 2 and 3 at a small budget, where there are photos to train on."""
    budget = {"steps": 600, "batch": 4, "patch": 32, "held_out": 20}
    for table in (1, 2, 3):
        name = f"ablations_table{table}"
        if not sources.photos:
            absent[name] = "no photos to train on are given (--photos)"
            continue

        def measure(path: Path, table: int = table) -> list[Record]:
            plan = ablations.make_plan(
                table,
                sources.photos,
                ablations.benchmark_photos(None, sources.data_root),
                **budget,
                seeds=(0, 1),
                autocast=None,
                compiled=False,
                device=sources.device,
            )
            journal = path.with_name(f"{path.stem}_runs.json")
            found, failed = ablations.measure_missing(plan, journal)
            if failed:
                raise ValueError("; ".join(failed))
            return found

        rows = len(recipes.ABLATIONS[table])
        yield Part(
            name,
            f"Directions of Table {table}, {budget['steps']} steps a row",
            name,
            rows * 2 * (420.0 if sources.device == "cpu" else 40.0),
            {
                **budget,
                "photos_sha256": _digest([p.high for p in photos.find_pairs(sources.photos, 2)]),
            },
            measure,
        )
