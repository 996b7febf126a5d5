"""Parameters, multiply-adds, activations and convolutions, beside the paper's Tables 4, 5 and 6.

Two counters look at the same forward pass, on tensors without data (PyTorch's meta device):

- ours, by the rule of the AIM 2020 harness, which the paper names: hooks on modules; a convolution
  costs kernel x input channels / groups x output elements, one a multiply-add and bias ignored; an
  activation module one an output element; functional calls, sigmoid, pooling, sums and matrix
  products nothing. Activations are the output elements of convolutions.
- PyTorch's own `torch.utils.flop_counter`, which sees convolutions and matrix products (ANRB's
  too), counts a multiply-add as 2 and no activation. It is shown halved.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import published, records
from benchmarks.markdown_table import markdown_table
from benchmarks.records import How, Record, What
from gidrn import command_line, zoo
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

PROTOCOL = (
    "multiply_adds and activations by the AIM 2020 harness's hooks (one a multiply-add, bias "
    "ignored, one an output element of ReLU-like modules); torch_flops as "
    "torch.utils.flop_counter gives it, two a multiply-add; batch 1, no data, meta device"
)

_POINTWISE = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU)


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
    """Count one forward pass over a (1, 3, H, W) input on the device the network is on."""
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
    x = torch.zeros(1, 3, *size_hw, device=parameters[0].device if parameters else None)
    try:
        with torch.inference_mode(), FlopCounterMode(display=False) as torch_counter:
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
    )


def count_model(name: str, scale: int, size_hw: tuple[int, int]) -> Counts:
    """Count a line of CONFIGS without making its weights."""
    network, config = CONFIGS[name]
    with torch.device("meta"):
        return count(zoo.create(network, scale, config=config), size_hw)


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
    return "differ"


def measure(names: list[str], scales: list[int], size_hw: tuple[int, int]) -> list[Record]:
    """One record a network and factor, each figure of the paper with its verdict."""
    where, commit = records.here(), records.commit_of(records.PROJECT)
    found = []
    for name in names:
        for scale in scales:
            counts = count_model(name, scale, size_hw)
            figures = printed(name, scale, size_hw)

            def at(factor: int, name: str = name) -> Counts:
                return count_model(name, factor, size_hw)

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
        ]
        for entry in found
    ]
    header = ["network", "scale", "parameters", "multiply-adds, G (AIM 2020)"]
    return markdown_table(
        [*header, "torch's counter / 2, G", "activations, M", "convolutions"], rows
    )


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


def unexplained(found: list[Record]) -> list[str]:
    """The figures that differ from the paper's for no known reason."""
    return [
        f"{entry.what.model} x{entry.what.scale}, {quantity}"
        for entry in found
        for quantity in entry.published
        if entry.values[f"verdict {quantity}"] == "differ"
    ]


def parse_names(models: str) -> list[str]:
    """Names of CONFIGS from "all" or "a,b". Raises ValueError that names the nearest."""
    if models == "all":
        return list(CONFIGS)
    names = [name.strip() for name in models.split(",") if name.strip()]
    for name in names:
        if name not in CONFIGS:
            raise zoo.unknown("network", name, CONFIGS)
    if not names:
        raise ValueError(f"--models wants all, or names among {', '.join(CONFIGS)}")
    return names


def parse_scales(scale: str) -> list[int]:
    """Factors from "4" or "2,3,4"."""
    parts = [part.strip() for part in scale.split(",")]
    if not all(part.isdecimal() and int(part) in zoo.SCALES for part in parts):
        raise ValueError(f"--scale wants one or more of 2, 3 and 4 (such as 2,4), not {scale!r}")
    return [int(part) for part in parts]


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
    """Count parameters and multiply-adds, and compare them with the paper's Tables 4, 5 and 6.

    Exit code 1 where a figure differs from the paper's and no reason is known.

    Args:
        models: networks to count, by name and with commas between; or all.
        scale: factors, with commas between.
        size: height x width of the low-resolution input; the paper counts at 256x256.
        out: the JSON file to write.
    """
    names, scales, size_hw = parse_names(models), parse_scales(scale), parse_size(size)
    records.check_writable(out)
    found = measure(names, scales, size_hw)
    records.write_records(out, found)
    print(f"Counts at a low-resolution input of {size_hw[0]}x{size_hw[1]}:\n")
    print(counts_table(found))
    print(
        "\nAIM 2020: convolutions at one a multiply-add without bias, plus one an output of a ReLU-"
        "like module. torch's counter: convolutions and matrix products, halved here because it "
        "counts a multiply-add as 2.\n"
    )
    if any(entry.published for entry in found):
        print(comparison_table(found))
        print(
            "\nagree: parameters to the thousand that the paper prints, rounded or cut off; "
            f"multiply-adds within {FLOPS_TOLERANCE:.1%} of what rounds to the printed figure.\n"
        )
    print(f"written to {out}")
    if missing := unexplained(found):
        print(f"differs from the paper for no known reason: {'; '.join(missing)}")
        return 1
    return 0


if __name__ == "__main__":
    command_line.run(main)
