"""Seconds per 100 training steps, as the paper's Table 6 has them, and where a step's time goes.

Every network trains by the project's own step, `gidrn.train.take_step`, on crops of generated
photos: no data is needed. G-IDRN takes it in several forms, then all networks in the plain and in
its fastest form; each of the two comparisons is one run in turns. Last, the profiler tells kinds of
layer apart in plain steps.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch._dynamo.config as _dynamo_config

from benchmarks import (
    complexity,
    layer_kinds,
    published,
    records,
    train_speed_tables,
    training_steps,
)
from benchmarks.layer_kinds import KINDS
from benchmarks.progress import Progress
from benchmarks.records import Commit, Figure, How, Record, Value, What, Where
from benchmarks.training_steps import (
    EAGER,
    EVERY_FORM_COMPILED,
    PHASES,
    Form,
    Sample,
    Trainee,
    parse_form,
)
from gidrn import command_line, world, zoo
from gidrn.crops import CropStore
from gidrn.merged_groups import has_groups
from gidrn.recipes import Recipe
from gidrn_runtime import processor

REFERENCE = "gidrn"
"""The network whose forms are compared, where it takes part; else the first one named."""

CPU_FORMS = "eager,channels_last,merge3,compile"
CPU_BF16_FORMS = "bf16,compile+bf16,compile+bf16+merge3"
CUDA_FORMS = (
    "eager,bf16,bf16+channels_last,bf16+merge_all,compile,compile+bf16,compile+bf16+channels_last,"
    "compile+bf16+merge3,compile+bf16+merge_all,graphs+bf16,graphs+bf16+merge_all"
)
BF16_ARITHMETIC = {"avx512_bf16", "amx_tile", "bf16"}
"""Vector extensions of a CPU with which bf16 is not slower than fp32."""

DEFAULT_SAMPLES = {"cpu": 5, "cuda": 10}
LEAST_SAMPLES = 3
"""Two have no middle, and show no spread."""
STEPS_A_SAMPLE = {"cpu": 1, "cuda": 10}
"""Steps between two readings of the clock. A GPU's queue fills over several, as it does in
training."""

PROFILED_STEPS = 5

PAPER_BATCH, PAPER_PATCH = 16, 64
"""What a run must have to stand beside Table 6's column."""

PROTOCOL = (
    "gidrn.train.take_step and the drawing of its crops: forward, loss, backward, clipping, Adam, "
    "averaged weights; fresh weights, generated photos on the device; runs in turns, the order "
    "moving on by one a round, the device synchronised at the clock's ends"
)
PROFILE_PROTOCOL = (
    "torch.profiler over one such step, eager and without autocast, the networks in turns: time of "
    "each op on its own, by the kind of layer that ran it or whose gradient it computes; on a GPU "
    "the time of its kernels"
)


@dataclass(frozen=True)
class Plan:
    """What a run measures, checked."""

    models: tuple[str, ...]
    scale: int
    batch: int
    patch: int
    """Side of a low-resolution crop, pixels."""
    device: str
    """cpu, cuda or cuda:1."""
    threads: int
    """CPU threads."""
    forms: tuple[Form, ...]
    """The reference's; the first is the plain one, which the others are compared with."""
    samples: int
    """Timed rounds."""

    def __post_init__(self) -> None:
        if not self.models or not self.forms:
            raise ValueError("--models and --forms each want at least one name")
        for name in self.models:
            zoo.find(name)
        if self.scale not in zoo.SCALES:
            raise ValueError(f"--scale is one of {', '.join(map(str, zoo.SCALES))}")
        for flag, least in (("batch", 1), ("patch", 4), ("threads", 1), ("samples", LEAST_SAMPLES)):
            if getattr(self, flag) < least:
                raise ValueError(f"--{flag} is at least {least}, not {getattr(self, flag)}")
        for form in self.forms:
            if form.compiled == "graphs" and not self.device.startswith("cuda"):
                raise ValueError(f"{form.name} wants a CUDA device: leave it out of --forms")

    @property
    def reference(self) -> str:
        """The network whose forms are compared."""
        return REFERENCE if REFERENCE in self.models else self.models[0]

    @property
    def kind(self) -> str:
        """The device's kind: cpu or cuda."""
        return torch.device(self.device).type

    def recipe(self, network: str) -> Recipe:
        """The recipe that a network's steps follow: the paper's, its gradients clipped."""
        return Recipe(
            network,
            self.scale,
            batch=self.batch,
            patch=self.patch,
            clip_gradient_norm=1.0,
        )


@dataclass(frozen=True)
class Stamp:
    """Machine and source, looked up before anything is timed."""

    where: Where
    commit: Commit


@dataclass(frozen=True)
class Counts:
    """What a network is made of."""

    parameters: int
    convolutions: int
    """Calls of convolutions in a forward pass, one after another or side by side."""
    multiply_adds: int
    """Of one step's forward pass."""
    by_kind: dict[str, int]
    """The same by KINDS."""


def count(plan: Plan, name: str) -> Counts:
    """Count a network at the plan's batch and patch, without making its weights."""
    size_hw = (plan.patch, plan.patch)
    with torch.device("meta"):
        network = zoo.create(name, plan.scale)
        found = complexity.count(network, size_hw)
        kinds = layer_kinds.multiply_adds(network, size_hw)
    return Counts(
        found.parameters,
        found.convolutions,
        found.multiply_adds * plan.batch,
        {kind: number * plan.batch for kind, number in kinds.items()},
    )


def default_forms(device: str, network: str) -> str:
    """Forms worth comparing on a device: those with bf16 or merged groups where there are such."""
    if device.startswith("cuda"):
        chosen = CUDA_FORMS
    elif BF16_ARITHMETIC & set(records.here().arithmetic):
        chosen = f"{CPU_FORMS},{CPU_BF16_FORMS}"
    else:
        chosen = CPU_FORMS
    with torch.device("meta"):
        grouped = has_groups(zoo.create(network, 2))
    return ",".join(form for form in chosen.split(",") if grouped or "merge" not in form)


def precision(form: Form, device: str) -> str:
    """The arithmetic of the convolutions, in words."""
    if form.autocast == "bf16":
        return "bf16 autocast"
    tf32 = device.startswith("cuda") and torch.backends.cudnn.allow_tf32
    return "fp32, TF32 convolutions" if tf32 else "fp32"


def published_figures(plan: Plan, name: str) -> dict[str, Value]:
    """What Table 6 prints for a network; nothing at another scale, batch or patch than its."""
    if (plan.batch, plan.patch) != (PAPER_BATCH, PAPER_PATCH):
        return {}
    rows = {row.method: row for row in published.table6() if row.scale == plan.scale}
    row = rows.get(published.METHODS.get(name, ""))
    if row is None or row.train_s_per_100_iter is None:
        return {}
    return {"train_s_per_100_iter": row.train_s_per_100_iter, "gpu": row.gpu}


def timed_record(
    plan: Plan, stamp: Stamp, table: str, trainee: Trainee, samples: Sequence[Sample]
) -> Record:
    """One network in one form: seconds per 100 steps, and milliseconds of each phase."""
    name, form = trainee.run.recipe.network, trainee.form
    counts = count(plan, name)
    return records.record(
        _what(plan, name, form),
        How(
            PROTOCOL,
            clock="time.perf_counter_ns; phases on a GPU by CUDA events",
            copies="none: photos lie on the device",
            warm_up=trainee.warm_up(),
            samples=len(samples),
        ),
        figures=[
            Figure.of("s_per_100_steps", [round(100 * s.step_s, 5) for s in samples]),
            *(
                Figure.of(f"{phase}_ms", [round(s.phases_ms[phase], 4) for s in samples])
                for phase in PHASES
            ),
        ],
        values={
            "table": table,
            "form": form.name,
            "first_step_s": trainee.first_step_s,
            "steps_a_sample": STEPS_A_SAMPLE[plan.kind],
            "parameters": counts.parameters,
            "convolutions": counts.convolutions,
            "multiply_adds": counts.multiply_adds,
        },
        published=published_figures(plan, name),
        where=stamp.where,
        commit=stamp.commit,
    )


def profiled_record(
    plan: Plan, stamp: Stamp, trainee: Trainee, steps: Sequence[Mapping[str, float]]
) -> Record:
    """One network's plain steps by kind of layer, each in ms."""
    name = trainee.run.recipe.network
    return records.record(
        _what(plan, name, trainee.form),
        How(
            PROFILE_PROTOCOL,
            clock="torch.profiler",
            warm_up=trainee.warm_up(),
            samples=len(steps),
        ),
        figures=[
            Figure.of(f"{kind}_ms", [round(step[kind], 4) for step in steps]) for kind in KINDS
        ],
        values={
            "table": "kinds",
            "form": trainee.form.name,
            **{f"{kind}_multiply_adds": n for kind, n in count(plan, name).by_kind.items()},
        },
        where=stamp.where,
        commit=stamp.commit,
    )


def _what(plan: Plan, name: str, form: Form) -> What:
    return What(
        name,
        plan.scale,
        f"torch-{plan.kind}",
        precision=precision(form, plan.device),
        size_hw=(plan.patch, plan.patch),
        batch=plan.batch,
        weights=f"random (seed {plan.recipe(name).seed})",
        input="generated stand-ins",
    )


def measure(
    plan: Plan, store: CropStore, keep: Callable[[list[Record]], None] = lambda found: None
) -> list[Record]:
    """The reference's forms, then all networks in the plain and its fastest form, then kinds.

    `keep` is handed everything that has been found, after each of the three.
    """
    stamp = Stamp(records.here(plan.threads), records.commit_of(records.PROJECT))
    reference, steps = plan.reference, STEPS_A_SAMPLE[plan.kind]
    names = (reference, *(name for name in plan.models if name != reference))
    made: dict[tuple[str, Form], Trainee] = {}

    def trainee(name: str, form: Form) -> Trainee:
        form = fitting(plan, name, form) if name != reference else form
        if (name, form) not in made:
            made[name, form] = Trainee(plan.recipe(name), form, store)
        return made[name, form]

    forms = {form.name: trainee(reference, form) for form in plan.forms}
    with Progress("turn") as tick, _dynamo_config.patch(EVERY_FORM_COMPILED):
        timed = training_steps.in_turns(forms, samples=plan.samples, steps=steps, tick=tick)
        found = [timed_record(plan, stamp, "forms", forms[key], timed[key]) for key in forms]
        keep(found)
        fastest = min(plan.forms, key=lambda form: _median_s(timed[form.name]))
        compared = list(dict.fromkeys((plan.forms[0], fastest)))
        entrants = {
            f"{name}, {form.name}": trainee(name, form) for form in compared for name in names
        }
        timed = training_steps.in_turns(entrants, samples=plan.samples, steps=steps, tick=tick)
        found += [
            timed_record(plan, stamp, "networks", entrants[key], timed[key]) for key in entrants
        ]
        keep(found)
        plain = {name: trainee(name, EAGER) for name in names}
        tick("", 0, PROFILED_STEPS * len(names))
        profiled: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for name in plain:
            plain[name].warm_up()
        for turn in range(PROFILED_STEPS):
            for name in training_steps.order(names, turn):
                profiled[name].append(layer_kinds.profiled_step(plain[name]))
                tick(f"layers of {name}", 1, 0)
        found += [profiled_record(plan, stamp, plain[name], profiled[name]) for name in names]
        keep(found)
    return found


def fitting(plan: Plan, name: str, form: Form) -> Form:
    """The reference's form for another network: without merging where that has no groups."""
    with torch.device("meta"):
        grouped = has_groups(zoo.create(name, plan.scale))
    return form if grouped else dataclasses.replace(form, merge=1)


def _median_s(samples: Sequence[Sample]) -> float:
    return statistics.median(sample.step_s for sample in samples)


def _out(plan: Plan) -> Path:
    slug = records.cpu_slug()
    if plan.kind == "cuda":
        slug = re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name(plan.device).lower())
    return records.RESULTS / "local" / f"train_speed_x{plan.scale}_{slug}.json"


def main(
    models: str = "gidrn,idrn,imdn,rfdn_l",
    scale: int = 4,
    batch: int = PAPER_BATCH,
    patch: int = PAPER_PATCH,
    device: str = "auto",
    threads: int | None = None,
    forms: str | None = None,
    samples: int | None = None,
    out: Path | None = None,
) -> None:
    """Measure seconds per 100 training steps, beside the paper's Table 6, and where they go.

    Args:
        models: networks of the zoo, with commas between.
        scale: 2, 3 or 4.
        batch: crops a step.
        patch: side of a low-resolution crop in pixels.
        device: auto, cpu, cuda or cuda:1.
        threads: CPU threads; all cores by default.
        forms: how G-IDRN is computed, with commas between, the plain form first. A form is eager,
            or parts with + between: bf16, channels_last, compile, graphs (CUDA graphs), merge3
            (three groups of a convolution as one), merge_all. By default those that fit the device.
        samples: timed rounds, at least 3; by default 5 on a CPU, 10 (of 10 steps) on a GPU.
        out: the JSON file to write; benchmarks/results/local/train_speed_... by default.
    """
    device = world.choose_device(device)
    names, kind = command_line.words(models), torch.device(device).type
    for name in names:
        zoo.find(name)
    if forms is None:
        forms = default_forms(device, REFERENCE if REFERENCE in names else (*names, REFERENCE)[0])
    plan = Plan(
        names,
        scale,
        batch,
        patch,
        device,
        processor.usable_cores() if threads is None else threads,
        tuple(dict.fromkeys(parse_form(form) for form in command_line.words(forms))),
        DEFAULT_SAMPLES[kind] if samples is None else samples,
    )
    path = out or _out(plan)
    records.check_writable(path)
    before = torch.get_num_threads()
    torch.set_num_threads(plan.threads)
    try:
        store = training_steps.stand_in_store(scale, patch, device)
        found = measure(plan, store, keep=functools.partial(records.write_records, path))
    finally:
        torch.set_num_threads(before)
    print(f"{train_speed_tables.report(found)}\n\nwritten to {path}")


if __name__ == "__main__":
    command_line.run(main)
