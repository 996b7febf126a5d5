"""Parameters, multiply-adds, activations, depth and memory, beside the paper's Tables 4, 5 and 6.

Three counters look at the same forward pass, on tensors without data (PyTorch's meta device):

- ours, by the rule of the AIM 2020 harness, which the paper names: hooks on modules; a convolution
  costs kernel x input channels / groups x output elements, one a multiply-add and bias ignored; an
  activation module one an output element; functional calls, sigmoid, pooling, sums and matrix
  products nothing. Activations are the output elements of convolutions.
- PyTorch's own `torch.utils.flop_counter`, which sees convolutions and matrix products (ANRB's
  too), counts a multiply-add as 2 and no activation. It is shown halved.
- ours for what neither sees, the order of the kernels and the memory between them: `KernelGraph`.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry
from torch.utils.weak import WeakIdKeyDictionary

from benchmarks import arguments, published, records
from benchmarks.markdown_table import markdown_table
from benchmarks.records import How, Record, What
from gidrn import command_line, zoo
from gidrn.files import replacing
from gidrn.networks.rfdn import RFDNConfig

PAPER_SIZE_HW = (256, 256)
"""Size of the low-resolution input that Table 5 is counted at."""

FLOPS_TOLERANCE = 1e-3
"""Share of a printed FLOPs figure within which a count agrees with it."""

HALF_DIGIT_G = 0.005
"""What the last printed digit of a FLOPs figure hides, in billions."""

CONFIGS: dict[str, tuple[str, Any]] = {
    **{name: (name, network.config) for name, network in zoo.NETWORKS.items()},
    "rfdn_dual_path": ("rfdn", RFDNConfig(channels=48, dual_path=True)),
}
"""What can be counted: the zoo, and a row of Section 3.3 that is a configuration of RFDN."""

IN_TABLE_5 = {
    "RFDN (Table 1 baseline)": "rfdn",
    "RFDN with dual path": "rfdn_dual_path",
    **{method: name for name, method in published.METHODS.items()},
}
"""Our name for a row of Table 5."""

SLIPS = {("Table 6", "rfdn_l", 4): 3, ("Table 6", "idrn", 4): 2}
"""Parameter counts that the paper prints for one factor and that belong to another."""

LEFT_OUT = {("Table 4", "smsr"): (5 * 64 * 4 * 2, "mask logits")}
"""Parameters that the paper's figures for a network do not count."""

AUTHORS_OWN = {("Table 4", "latticenet", 2): 756_196}
"""Counts of networks whose authors' code has others than the paper prints."""

PROTOCOL = (
    "multiply_adds and activations by the AIM 2020 harness's hooks (one a multiply-add, bias "
    "ignored, one an output element of ReLU-like modules); torch_flops as "
    "torch.utils.flop_counter gives it, two a multiply-add; depth: operations of eager PyTorch, "
    "unfused, that write to memory, on the longest path of the data flow, convolution_depth: the "
    "most convolutions and matrix products on any one path; peak_memory_mib: storages of input, "
    "intermediate results and output alive at once, without weights and workspaces; batch 1, FP32, "
    "no data, meta device"
)

CSV_COLUMNS = {"depth": "depth_kernels", "convolution_depth": "convolution_depth_kernels"}
"""Columns of the CSV file that have a unit which the field of Counts leaves out."""

PRINTED = ("Table 4 params_k", "Table 5 flops_g", "Table 6 params_k")
"""What the paper prints of a network, by table, quantity and unit (thousands, billions)."""

_POINTWISE = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU)

_aten = torch.ops.aten
_UNWRITTEN = (
    *(_aten.empty, _aten.empty_like, _aten.empty_strided),
    *(_aten.new_empty, _aten.new_empty_strided),
)


@dataclass(frozen=True)
class Counts:
    """What one forward pass of a network costs."""

    parameters: int
    """All of them, frozen ones too; no buffers."""
    multiply_adds: int
    """By the AIM 2020 rule."""
    activations: int
    """Output elements of all convolutions."""
    convolutions: int
    """Calls of convolution modules."""
    torch_flops: int
    """What PyTorch's own counter says: two a multiply-add."""
    depth: int
    """Kernels on the longest chain of which each needs the one before: see `KernelGraph`."""
    convolution_depth: int
    """The most convolutions and matrix products on any one chain."""
    peak_memory_mib: float
    """The most that input, intermediate results and output hold at once, in MiB of 2**20 bytes."""


class KernelGraph(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Depth and peak memory of the operations that run in its `with` block, under `no_grad`.

    Depth is the length of the longest chain of kernels of which each needs the result of the one
    before. However parallel a device is, it runs such a chain link by link, so that the chain, and
    not the work, bounds the latency of small inputs; branches beside it cost no depth.

    - A kernel is an operation of ATen that writes to memory: convolution, matrix product,
      elementwise, reduction, pooling, interpolation, activation, and the copies of concatenation,
      pixel shuffle, padding and type conversion. A view moves nothing and counts nothing.
    - A kernel's depth is 1 + the largest depth among its inputs. The network's input, weights and
      memory that nobody has written have depth 0; what is computed without the input, such as the
      indices of a padding, counts as well, since eager PyTorch launches it each time.
    - Depth belongs to storages: a view has that of its base. A kernel in place reads what it
      overwrites, and what it wrote takes on its depth. That it must also wait for earlier readers
      of the old values is no flow of data, and does not count.
    - The operations are those of eager PyTorch, nothing fused. A compiler or an engine that fuses
      has less depth; a backend that adds the bias in a kernel of its own has more.

    Peak memory is the largest sum of the bytes of all storages alive at once: the network's input
    (the caller holds it throughout), intermediate results and the output, each storage once however
    many views it has, freed when Python frees it. Not in it: weights and buffers, workspaces and
    temporaries inside an operation (such as a convolution's unfolded input), rounding by the
    allocator.
    """

    def __init__(self, *inputs: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.depth = 0
        """Kernels on the longest chain."""
        self.convolution_depth = 0
        """The most convolutions and matrix products on any one chain."""
        self.peak_bytes = 0
        """The most bytes of storages alive at once."""
        self._alive: MutableMapping[torch.UntypedStorage, tuple[int, int]] = WeakIdKeyDictionary()
        """Depth and convolution depth of each storage that is alive, weights left out."""
        for tensor in inputs:
            self._alive[tensor.untyped_storage()] = (0, 0)
        self._look_at_memory()

    def __torch_dispatch__(
        self,
        func: OpOverload[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        read, written = list(_storages((args, kwargs))), list(_storages(result))
        # In place, an operation returns what it wrote; else what it shares with inputs is a view.
        if not func._schema.is_mutable:
            written = [storage for storage in written if all(storage is not one for one in read)]
        elif torch.Tag.inplace_view in func.tags:
            written = []
        if not written:
            return result
        depths = [self._alive.get(storage, (0, 0)) for storage in read]
        kernels = max((depth for depth, _ in depths), default=0)
        convolutions = max((depth for _, depth in depths), default=0)
        packet = func.overloadpacket
        if packet not in _UNWRITTEN:
            kernels += 1
            convolutions += packet in flop_registry
        for storage in written:
            self._alive[storage] = (kernels, convolutions)
        self.depth = max(self.depth, kernels)
        self.convolution_depth = max(self.convolution_depth, convolutions)
        self._look_at_memory()
        return result

    def _look_at_memory(self) -> None:
        now = sum(storage.nbytes() for storage in self._alive)
        self.peak_bytes = max(self.peak_bytes, now)


def _storages(tree: Any) -> Iterator[torch.UntypedStorage]:
    """The storage of each tensor in nested tuples, lists and dicts."""
    for leaf in tree_leaves(tree):
        if isinstance(leaf, Tensor):
            yield leaf.untyped_storage()


def aim_flops(module: nn.Module, inputs: Tensor, output: Tensor) -> int:
    """Cost of one call of one module by the AIM 2020 rule; 0 for the kinds it does not count."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        height, width = module.kernel_size
        each = height * width * module.in_channels // module.groups
        return each * output.numel()
    if isinstance(module, nn.Linear):
        return inputs.shape[0] * inputs.shape[1] * output.shape[1]
    if isinstance(module, nn.BatchNorm2d):
        return inputs.numel() * (2 if module.affine else 1)
    if isinstance(module, _POINTWISE):
        return output.numel()
    return 0


def count(network: nn.Module, size_hw: tuple[int, int]) -> Counts:
    """Count one forward pass over a (1, 3, H, W) input on the device the network is on.

    A network without parameters and buffers is counted on the meta device.
    """
    multiply_adds = activations = convolutions = 0

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal multiply_adds, activations, convolutions
        multiply_adds += aim_flops(module, inputs[0], output)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            activations += output.numel()
            convolutions += 1

    leaves = [module for module in network.modules() if not any(module.children())]
    hooks = [module.register_forward_hook(look) for module in leaves]
    parameters = list(network.parameters())
    held = next(iter([*parameters, *network.buffers()]), None)
    x = torch.zeros(1, 3, *size_hw, device="meta" if held is None else held.device)
    graph = KernelGraph(x)  # entered last, it sees each operation first
    try:
        # Under no_grad, unlike inference_mode, a mode sees composite operations in their parts.
        with torch.no_grad(), FlopCounterMode(display=False) as torch_counter, graph:
            network.eval()(x)
    finally:
        for hook in hooks:
            hook.remove()
    return Counts(
        parameters=sum(parameter.numel() for parameter in parameters),
        multiply_adds=multiply_adds,
        activations=activations,
        convolutions=convolutions,
        torch_flops=int(torch_counter.get_total_flops()),
        depth=graph.depth,
        convolution_depth=graph.convolution_depth,
        peak_memory_mib=graph.peak_bytes / 2**20,
    )


def count_model(name: str, scale: int, size_hw: tuple[int, int]) -> Counts:
    """Count a line of CONFIGS without making its weights."""
    network, config = CONFIGS[name]
    return count_config(network, scale, config, size_hw)


def count_config(network: str, scale: int, config: Any, size_hw: tuple[int, int]) -> Counts:
    """Count a network of the zoo in a configuration of its own, without making its weights."""
    with torch.device("meta"):
        built = zoo.create(network, scale, config=config)
    return count(built.to("meta"), size_hw)  # what was made of NumPy's arrays is elsewhere


def agrees_in_thousands(parameters: int, printed_k: int) -> bool:
    """Whether a count is what the paper prints in thousands, be it rounded or cut off."""
    return printed_k in (parameters // 1000, (parameters + 500) // 1000)


def agrees_in_billions(multiply_adds: int, printed_g: float) -> bool:
    """Whether a count is within FLOPS_TOLERANCE of a figure that prints as `printed_g`."""
    return abs(multiply_adds / 1e9 - printed_g) <= FLOPS_TOLERANCE * printed_g + HALF_DIGIT_G


def printed(name: str, scale: int, size_hw: tuple[int, int]) -> dict[str, float]:
    """What the paper prints for a network: figures by "Table N quantity"."""
    method = published.METHODS.get(name)
    found: dict[str, float] = {}
    for row4 in published.table4():
        if (row4.method, row4.scale) == (method, scale) and row4.params_k is not None:
            found["Table 4 params_k"] = row4.params_k
    for row5 in published.table5():
        of_row = (IN_TABLE_5.get(row5.method), row5.scale, row5.size_hw)
        if of_row == (name, scale, size_hw):
            found["Table 5 flops_g"] = row5.flops_g
    for row6 in published.table6():
        if (row6.method, row6.scale) == (method, scale):
            found["Table 6 params_k"] = row6.params_k
    return found


def verdict(
    quantity: str, name: str, scale: int, figure: float, counts: Callable[[int], Counts]
) -> str:
    """ "agree", or "differ" with the reason where one is known.

    `counts` gives this network's counts at another factor, by which a known slip is proved.
    """
    table, _, kind = quantity.rpartition(" ")
    if kind == "flops_g":
        return "agree" if agrees_in_billions(counts(scale).multiply_adds, figure) else "differ"
    if agrees_in_thousands(counts(scale).parameters, int(figure)):
        return "agree"
    slip = SLIPS.get((table, name, scale))
    if slip is not None and agrees_in_thousands(counts(slip).parameters, int(figure)):
        return f"differ: the paper prints its x{slip} count"
    left_out, what = LEFT_OUT.get((table, name), (0, ""))
    if left_out and agrees_in_thousands(counts(scale).parameters - left_out, int(figure)):
        return f"differ: the paper leaves out {left_out:,} {what}"
    if AUTHORS_OWN.get((table, name, scale)) == counts(scale).parameters:
        return "differ: the authors' code has what is counted here"
    return "differ"


def measure(names: list[str], scales: list[int], size_hw: tuple[int, int]) -> list[Record]:
    """One record a network and factor, each figure of the paper with its verdict."""
    where, commit = records.here(), records.commit_of(records.PROJECT)
    found = []
    for name in names:

        @functools.cache
        def at(factor: int, name: str = name) -> Counts:
            return count_model(name, factor, size_hw)

        for scale in scales:
            counts = at(scale)
            figures = printed(name, scale, size_hw)
            verdicts = {
                f"verdict {quantity}": verdict(quantity, name, scale, figure, at)
                for quantity, figure in figures.items()
            }
            found.append(
                records.record(
                    What(name, scale, "none", size_hw=size_hw),
                    How(PROTOCOL),
                    values={**dataclasses.asdict(counts), **verdicts},
                    published=figures,
                    where=where,
                    commit=commit,
                )
            )
    return found


def counts_table(found: list[Record]) -> str:
    """The counts of each record as a Markdown table."""

    def billions(values: Mapping[str, Any], key: str, divisor: float = 1e9) -> str:
        return f"{values[key] / divisor:.4f}"

    rows = [
        [
            entry.what.model,
            f"x{entry.what.scale}",
            f"{entry.values['parameters']:,}",
            billions(entry.values, "multiply_adds"),
            billions(entry.values, "torch_flops", 2e9),
            billions(entry.values, "activations", 1e6),
            str(entry.values["convolutions"]),
            str(entry.values["depth"]),
            str(entry.values["convolution_depth"]),
            f"{entry.values['peak_memory_mib']:.2f}",
        ]
        for entry in found
    ]
    header = [
        *("network", "scale", "parameters", "multiply-adds, G (AIM 2020)"),
        *("torch's counter / 2, G", "activations, M", "convolutions"),
        *("depth, kernels", "depth, convolutions", "peak memory, MiB"),
    ]
    return markdown_table(header, rows)


def comparison_table(found: list[Record]) -> str:
    """Each figure of the paper beside the count, with the verdict, as a Markdown table."""
    rows = []
    for entry in found:
        values: Mapping[str, Any] = entry.values
        published_figures: Mapping[str, Any] = entry.published
        for quantity, figure in published_figures.items():
            table, _, kind = quantity.rpartition(" ")
            if kind == "flops_g":
                what, counted = "multiply-adds", values["multiply_adds"] / 1e9
                here, paper = f"{counted:.4f} G", f"{figure:.2f} G"
            else:
                what, counted = "parameters", values["parameters"] / 1e3
                here, paper = f"{counted:,.3f} K", f"{figure} K"
            rows.append(
                [
                    entry.what.model,
                    f"x{entry.what.scale}",
                    what,
                    here,
                    f"{paper} ({table})",
                    f"{counted / figure - 1:+.2%}",
                    values[f"verdict {quantity}"],
                ]
            )
    return markdown_table(
        ["network", "scale", "quantity", "counted here", "the paper", "deviation", "verdict"], rows
    )


def report(found: list[Record]) -> str:
    """Both tables of a run with what they mean, as Markdown; at least one record."""
    first = found[0]
    height, width = _size_hw(first)
    parts = [
        f"Counts at a low-resolution input of {height}x{width}; PyTorch "
        f"{first.where.versions.get('torch')}; {first.commit.in_words}:",
        counts_table(found),
        "AIM 2020: convolutions at one a multiply-add without bias, plus one an output of a ReLU-"
        "like module. torch's counter: convolutions and matrix products, halved here because it "
        "counts a multiply-add as 2. Depth: kernels of eager PyTorch, nothing fused, on the longest"
        " chain of which each needs the one before; and the most convolutions and matrix products "
        "on any one chain. Peak memory: input, intermediate results and output alive at once, "
        "batch 1, FP32, without weights and workspaces.",
    ]
    if any(entry.published for entry in found):
        parts += [
            comparison_table(found),
            "agree: parameters to the thousand that the paper prints, rounded or cut off; "
            f"multiply-adds within {FLOPS_TOLERANCE:.1%} of what rounds to the printed figure.",
        ]
    return "\n\n".join(parts)


def csv_rows(found: list[Record]) -> list[dict[str, Any]]:
    """A row a record: what was counted, then, in columns of their own, what the paper prints.

    A column's unit is its name (`parameters`) or ends it (`peak_memory_mib`); a cell is empty where
    the paper prints nothing.
    """
    rows = []
    for entry in found:
        height, width = _size_hw(entry)
        row: dict[str, Any] = {
            "network": entry.what.model,
            "scale": entry.what.scale,
            "input_height_px": height,
            "input_width_px": width,
        }
        for field in dataclasses.fields(Counts):
            row[CSV_COLUMNS.get(field.name, field.name)] = entry.values[field.name]
        for quantity in PRINTED:
            row[f"published {quantity}"] = entry.published.get(quantity)
            row[f"verdict {quantity}"] = entry.values.get(f"verdict {quantity}")
        rows.append(row)
    return rows


def _size_hw(entry: Record) -> tuple[int, int]:
    assert entry.what.size_hw is not None  # `measure` sets it
    return entry.what.size_hw


def write_csv(path: Path, found: list[Record]) -> None:
    """Write `csv_rows` under a header, whole or not at all; at least one record."""
    rows = csv_rows(found)
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_markdown(path: Path, found: list[Record]) -> None:
    """Write `report`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(report(found) + "\n", encoding="utf-8")


def paths_beside(out: Path) -> tuple[Path, Path]:
    """Where the CSV and the Markdown go. Raises ValueError where `out` has a name like theirs."""
    if out.suffix.lower() in (".csv", ".md"):
        raise ValueError(
            "--out names the JSON file, beside which .csv and .md are written: such as "
            f"{out.with_suffix('.json')}, not {out}"
        )
    stem = out.with_suffix("") if out.suffix.lower() == ".json" else out
    return stem.with_name(f"{stem.name}.csv"), stem.with_name(f"{stem.name}.md")


def unexplained(found: list[Record]) -> list[str]:
    """The figures that differ from the paper's for no known reason."""
    return [
        f"{entry.what.model} x{entry.what.scale}, {quantity}"
        for entry in found
        for quantity in entry.published
        if entry.values[f"verdict {quantity}"] == "differ"
    ]


def parse_size(size: str) -> tuple[int, int]:
    """Height and width from "256x256"."""
    height, _, width = size.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise ValueError(f"--size wants HEIGHTxWIDTH in pixels, such as 256x256, not {size!r}")
    return int(height), int(width)


def main(
    models: str = "all",
    scale: str = "2,3,4",
    size: str = "256x256",
    out: Path = records.RESULTS / "local" / "complexity.json",
) -> int:
    """Count parameters, multiply-adds, depth and memory; compare with the paper's Tables 4 to 6.

    Exit code 1 where a figure differs from the paper's and no reason is known.

    Args:
        models: networks to count, by name and with commas between; or all.
        scale: factors, with commas between.
        size: height x width of the low-resolution input; the paper counts at 256x256.
        out: the JSON file to write; beside it go the tables, as .csv and .md.
    """
    names, scales, size_hw = (
        arguments.models(models, CONFIGS),
        arguments.scales(scale),
        parse_size(size),
    )
    csv_path, markdown_path = paths_beside(out)
    for path in (out, csv_path, markdown_path):
        records.check_writable(path)
    found = measure(names, scales, size_hw)
    records.write_records(out, found)
    write_csv(csv_path, found)
    write_markdown(markdown_path, found)
    print(report(found))
    print(f"\nwritten to {out}, {csv_path.name} and {markdown_path.name}")
    if missing := unexplained(found):
        print(f"differs from the paper for no known reason: {'; '.join(missing)}")
        return 1
    return 0


if __name__ == "__main__":
    command_line.run(main)
