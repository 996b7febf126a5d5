"""Table 2's memory: G-IDRN and ANRB alone, by how many points ANRB samples, exact and as a curve.

For each number of points S of Table 2, infinity among them, the ONNX file of G-IDRN x2 with such an
ANRB is run by ONNX Runtime's CPU provider, the attention as Equation 9 has it or read off a curve
(`export/rewrites/attention.py`), and so is ANRB alone, on a feature map of as many channels. Memory
is measured as `peak_memory` says, each file and size in processes of their own. Beside it stands
what PyTorch's tensors hold at once, counted (`complexity.KernelGraph`), which needs no memory and
so has no limit. What would not fit the memory that is free is not run, and says what it needs.

The paper measured PyTorch on a GPU, and does not name its network; the rows' differences are what
can be compared.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import psutil
import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks import (
    arguments,
    complexity,
    exported_models,
    peak_memory,
    published,
    records,
)
from benchmarks.markdown_table import markdown_table
from benchmarks.records import Figure, How, Record, What
from export import proof, to_onnx
from export.rewrites import attention, shortcut_scalars, single_shuffle
from export.rewrites.attention import Attention
from gidrn import command_line, zoo
from gidrn.evaluation import to_tensor
from gidrn.networks.anrb import ANRB
from gidrn_runtime import engines

SCALE = 2
"""Table 2's factor."""

ENGINE = "ort-cpu"

PAPER_SIZES = "128x128,180x180"

UNSAMPLED_SIZE = "413x585"
"""The mean low-resolution size of Manga109, at which the paper ran out of 11 GB."""

OPSET = 17
"""The exporter for it is the faster one; both write the same operations of the attention."""

PROOF_HW = (61, 83)
"""Where each file is held against PyTorch, and the curve's knots are chosen: an odd size whose
N x N matrix is small."""

FREE_SHARE = 0.8
"""Of the memory that is free, what a run may be expected to take."""

PROTOCOL = (
    "one float32 tensor to a float32 tensor in a fresh process; taken_mib: peak resident memory "
    "over that with the engine's library imported; counted_mib: storages of PyTorch's tensors "
    "alive at once, without weights and workspaces"
)

Part = Literal["whole", "anrb"]


class Alone(nn.Module):
    """ANRB on a feature map that repeats the input: (N, 3, H, W) -> (N, C, H, W)."""

    def __init__(self, block: ANRB) -> None:
        super().__init__()
        self.repeats, odd = divmod(block.query.in_channels, 3)
        if odd:
            raise ValueError(f"ANRB alone wants channels in threes, not {block.query.in_channels}")
        self.anrb = block

    def forward(self, x: Tensor) -> Tensor:
        mapped: Tensor = self.anrb(x.repeat(1, self.repeats, 1, 1))
        return mapped


@dataclass(frozen=True)
class Case:
    """What is measured at one size."""

    row: published.Table2Row
    part: Part
    how: Attention | None
    """None without ANRB, where there is no attention."""

    @property
    def name(self) -> str:
        """A file's stem."""
        return f"{self.part}_{self.row.samples}_{self.how or 'none'}"


def cases(rows: Sequence[published.Table2Row]) -> Iterator[Case]:
    """Both parts and both forms of every row; without ANRB there is but the whole network."""
    for row in rows:
        if row.samples == "none":
            yield Case(row, "whole", None)
            continue
        for part in get_args(Part):
            for how in get_args(Attention):
                yield Case(row, part, how)


def with_sampling(network: nn.Module, row: published.Table2Row) -> nn.Module:
    """A copy of `network` whose ANRB samples as a row of Table 2, or is not there.

    Raises ValueError for a network without exactly one ANRB, as its `anrb`.
    """
    blocks = [part for part in network.modules() if isinstance(part, ANRB)]
    if len(blocks) != 1 or getattr(network, "anrb", None) is not blocks[0]:
        raise ValueError(f"{type(network).__name__} has {len(blocks)} ANRBs, and one is wanted")
    sampled = copy.deepcopy(network).eval()
    if row.samples == "none":
        sampled.anrb = nn.Identity()
    else:
        assert isinstance(sampled.anrb, ANRB)
        sampled.anrb.pool_sizes = row.pool_sizes
    return sampled


def exported(network: nn.Module, case: Case, path: Path) -> tuple[nn.Module, int | None]:
    """Write a case's file; returns what it computes, in PyTorch, and the curve's knots.

    `to_onnx.export` would prove it on photos, whose exact attention without sampling does not fit
    any memory: here it is held against PyTorch at PROOF_HW. Raises proof.NotProvedError.
    """
    sampled = with_sampling(network, case.row)
    knots = None
    if case.how == "curve":
        photo = proof.read_photos()[0][: PROOF_HW[0], : PROOF_HW[1]]
        knots = attention.choose_knots(sampled, [to_tensor(photo.copy())]).knots
    if case.part == "anrb":
        assert isinstance(sampled.anrb, ANRB)
        sampled = Alone(sampled.anrb).eval()
    changed = copy.deepcopy(sampled)
    attention.apply(
        changed,
        attention.ExactAttention if knots is None else lambda: attention.CurveAttention(knots),
    )
    if case.part == "whole":
        shortcut_scalars.apply(changed)
        changed = single_shuffle.rewrite(changed).eval()
    model = to_onnx.to_model(changed, SCALE if case.part == "whole" else 1, opset=OPSET)
    path.write_bytes(model.SerializeToString())
    check(sampled, path)
    return changed, knots


@torch.inference_mode()
def check(network: nn.Module, path: Path) -> None:
    """Raise proof.NotProvedError where a file is more than a level from PyTorch on noise."""
    tensor = torch.rand(1, 3, *PROOF_HW, generator=torch.Generator().manual_seed(0))
    engine = engines.engine_class(ENGINE)(path)
    try:
        levels = float(np.abs(engine.run(tensor.numpy()) - network(tensor).numpy()).max()) * 255
    finally:
        engine.close()
    if not levels <= proof.LIMIT_LEVELS:
        raise proof.NotProvedError(f"{path.name} is {levels:.3g} levels from PyTorch")


def counted_mib(network: nn.Module, size_hw: tuple[int, int]) -> float:
    """What PyTorch's tensors hold at once, with nothing computed."""
    return complexity.count(copy.deepcopy(network).to("meta"), size_hw).peak_memory_mib


def free_mib() -> float:
    """Memory that could be taken now."""
    return float(psutil.virtual_memory().available) / 2**20


def measure(
    path: Path, size_hw: tuple[int, int], counted: float, threads: int, runs: int
) -> tuple[list[float], str | None]:
    """MiB over the baseline, run by run; none, and why, where it does not fit."""
    room = FREE_SHARE * free_mib()
    if counted > room:
        return [], f"needs {counted / 1024:,.0f} GiB and {room / 1024:,.0f} GiB may be taken"
    taken = []
    for _ in range(runs):
        found = peak_memory.peak_memory(
            path, engine=ENGINE, threads=threads, sizes_hw=[size_hw], tensors=True
        )
        taken.append(round(found.peak_mib - found.baseline_mib, 1))
    return taken, None


def table(found: Sequence[Record]) -> str:
    """A row a record, as Markdown."""
    rows = []
    for entry in found:
        size, printed = entry.what.size_hw, entry.published.get("memory_mb")
        taken = entry.figures[0] if entry.figures else None
        rows.append(
            [
                str(entry.values["row"]),
                "x".join(str(side) for side in size or ()),
                {"whole": entry.what.model, "anrb": "ANRB alone"}[str(entry.values["part"])],
                str(entry.values["attention"]),
                f"{taken.p50:,.1f}" if taken else f"not run: {entry.values['not_run']}",
                f"{min(taken.samples):,.1f} to {max(taken.samples):,.1f}" if taken else "",
                f"{entry.values['counted_mib']:,.1f}",
                "" if printed is None else f"{printed:,}",
            ]
        )
    header = ["S", "input", "what", "attention", "taken, MiB", "least to most"]
    return markdown_table([*header, "PyTorch's tensors, counted, MiB", "the paper, MB"], rows)


def records_of(
    case: Case,
    network: nn.Module,
    sizes_hw: Sequence[tuple[int, int]],
    what: What,
    threads: int,
    runs: int,
) -> Iterator[Record]:
    """A case's records, size by size; `what` is theirs but for the size."""
    where, commit = records.here(threads), records.commit_of(records.PROJECT)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{case.name}.onnx"
        changed, knots = exported(network, case, file)
        for size_hw in sizes_hw:
            counted = counted_mib(changed, size_hw)
            taken, reason = measure(file, size_hw, counted, threads, runs)
            square = size_hw[0] == size_hw[1] and case.part == "whole"
            printed = case.row.memory_mb.get(size_hw[0]) if square else None
            yield records.record(
                dataclasses.replace(what, size_hw=size_hw),
                How(PROTOCOL, samples=len(taken)),
                figures=[Figure.of("taken_mib", taken)] if taken else [],
                values={
                    "row": case.row.samples,
                    "part": case.part,
                    "attention": case.how or "none",
                    "pool_sizes": " ".join(map(str, case.row.pool_sizes)),
                    "knots": knots,
                    "counted_mib": round(counted, 2),
                    "not_run": reason,
                    "memory_method": peak_memory.METHOD,
                },
                published={} if printed is None else {"memory_mb": printed},
                where=where,
                commit=commit,
            )


def rows_of(text: str) -> list[published.Table2Row]:
    """Rows of Table 2 from "all" or "none,110,infinite", in that order."""
    by_name = {row.samples: row for row in published.table2()}
    names = list(by_name) if text.strip() == "all" else list(command_line.words(text))
    for name in names:
        if name not in by_name:
            raise zoo.unknown("row of Table 2", name, by_name)
    if not names:
        raise ValueError(f"--rows wants all, or rows among {', '.join(by_name)}")
    return [by_name[name] for name in names]


def main(
    model: str = "gidrn",
    rows: str = "all",
    sizes: str = PAPER_SIZES,
    unsampled: str = UNSAMPLED_SIZE,
    threads: int | None = None,
    runs: int = 5,
    out: Path | None = None,
) -> None:
    """Measure the memory of Table 2: by ANRB's sampling, exact and as a curve.

    Args:
        model: a network of the zoo with an ANRB.
        rows: Table 2's S, with commas between; or all.
        sizes: HEIGHTxWIDTH of the inputs, with commas between.
        unsampled: further sizes for the row without sampling alone.
        threads: CPU threads; all cores by default.
        runs: processes a file and size.
        out: the JSON file to write, benchmarks/results/local/sampling_memory_... by default; what
            a file that is there has measured is kept, and not measured again.
    """
    of_all = [to_onnx.parse_size(size) for size in command_line.words(sizes)]
    of_infinite = [to_onnx.parse_size(size) for size in command_line.words(unsampled)]
    if runs < 1 or not of_all:
        raise ValueError("--runs is at least 1, and --sizes has at least one size")
    threads = arguments.cpu_threads(threads)
    every = list(cases(rows_of(rows)))
    name = f"sampling_memory_{model}_x{SCALE}_{records.cpu_slug()}.json"
    path = out or records.RESULTS / "local" / name
    records.check_writable(path)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    network, weights, _ = exported_models.with_weights(model, SCALE, None)
    found = records.read_records(path) if path.exists() else []
    what = What(model, SCALE, ENGINE, weights=weights)
    for case in tqdm(every, desc="Table 2's memory", leave=False):
        sizes_hw = [*of_all, *(of_infinite if case.row.samples == "infinite" else [])]
        missing = [size_hw for size_hw in sizes_hw if not is_in(found, case, size_hw)]
        for entry in records_of(case, network, missing, what, threads, runs) if missing else ():
            found.append(entry)
            records.write_records(path, found)
    print(table(found))
    print(f"\nwritten to {path}")


def is_in(found: Sequence[Record], case: Case, size_hw: tuple[int, int]) -> bool:
    """Whether a case was measured at a size."""
    wanted = (case.row.samples, case.part, case.how or "none", size_hw)
    return any(
        (entry.values["row"], entry.values["part"], entry.values["attention"], entry.what.size_hw)
        == wanted
        for entry in found
    )


if __name__ == "__main__":
    command_line.run(main)
