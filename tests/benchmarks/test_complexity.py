"""Counting: the AIM 2020 rule by hand on small modules, exact totals, verdicts on the paper."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks import complexity, records
from benchmarks.complexity import Counts, aim_flops, count, count_model
from gidrn import zoo


@pytest.mark.parametrize(
    ("module", "channels", "expected"),
    [
        # kernel x input channels x output elements, bias ignored; the input is 5x7
        (nn.Conv2d(3, 8, 3, padding=1), 3, 9 * 3 * 8 * 5 * 7),
        (nn.Conv2d(3, 8, 3), 3, 9 * 3 * 8 * 3 * 5),
        (nn.Conv2d(6, 4, (1, 3), padding=(0, 1), groups=2), 6, 3 * 6 * 4 // 2 * 5 * 7),
        (nn.Conv2d(4, 4, 3, padding=1, stride=2), 4, 9 * 4 * 4 * 3 * 4),
        # at the size of the output, which overstates: the harness's rule all the same
        (nn.ConvTranspose2d(2, 3, 2, stride=2), 2, 4 * 2 * 3 * 10 * 14),
        (nn.BatchNorm2d(3), 3, 2 * 3 * 5 * 7),
        (nn.BatchNorm2d(3, affine=False), 3, 3 * 5 * 7),
        (nn.ReLU(), 3, 3 * 5 * 7),
        (nn.LeakyReLU(0.05, inplace=True), 3, 3 * 5 * 7),
        (nn.PReLU(), 3, 3 * 5 * 7),
        (nn.ELU(), 3, 3 * 5 * 7),
        (nn.ReLU6(), 3, 3 * 5 * 7),
        (nn.Sigmoid(), 3, 0),
        (nn.GELU(), 3, 0),
        (nn.AdaptiveAvgPool2d(1), 3, 0),
        (nn.PixelShuffle(1), 3, 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_a_module_costs_what_the_harness_says(
    module: nn.Module, channels: int, expected: int
) -> None:
    x = torch.zeros(1, channels, 5, 7)
    assert aim_flops(module, x, module(x)) == expected


def test_a_linear_layer_costs_batch_times_inputs_times_outputs() -> None:
    layer = nn.Linear(6, 5)
    x = torch.zeros(3, 6)
    assert aim_flops(layer, x, layer(x)) == 3 * 6 * 5


class TwiceThrough(nn.Module):
    """A convolution used twice, and a functional activation that no hook sees."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.frozen = nn.Parameter(torch.zeros(5), requires_grad=False)
        self.register_buffer("buffer", torch.zeros(7))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(self.conv(x)))


def test_a_module_used_twice_counts_twice_and_functional_calls_never() -> None:
    counted = count(TwiceThrough(), (4, 6))
    assert counted == Counts(
        parameters=3 * 3 * 9 + 3 + 5,
        multiply_adds=2 * 81 * 4 * 6,
        activations=2 * 3 * 4 * 6,
        convolutions=2,
        torch_flops=2 * 2 * 81 * 4 * 6,
    )


@pytest.mark.parametrize(
    ("name", "scale", "parameters", "multiply_adds_g"),
    [
        ("imdn", 4, 715_176, "46.5987"),
        ("rfdn_l", 4, 642_846, "41.5420"),
        ("gidrn", 4, 579_741, "36.1822"),
        ("rfdn", 2, 534_036, "34.4961"),
        ("rfdn_dual_path", 2, 514_164, "33.1961"),
        ("idrn", 2, 2_046_633, "132.3211"),
    ],
)
def test_the_networks_cost_what_the_official_code_costs(
    name: str, scale: int, parameters: int, multiply_adds_g: str
) -> None:
    counted = count_model(name, scale, complexity.PAPER_SIZE_HW)
    assert counted.parameters == parameters
    assert f"{counted.multiply_adds / 1e9:.4f}" == multiply_adds_g


def test_counting_without_data_gives_what_counting_with_data_gives() -> None:
    assert count_model("gidrn", 3, (9, 14)) == count(zoo.create("gidrn", 3), (9, 14))


def test_torch_counts_a_multiply_add_as_two_and_sees_the_matrix_products_of_anrb() -> None:
    height, width = 16, 24
    counted = count_model("gidrn", 4, (height, width))
    # Per LSRB one LeakyReLU of 72 channels, and in each of 9 CCAs a ReLU of 18 values.
    activations = 9 * (3 * 72 * height * width + 18)
    # softmax(q k^T) v with one channel and 110 points.
    attention = 2 * 110 * height * width
    assert counted.torch_flops // 2 == counted.multiply_adds - activations + attention


@pytest.mark.parametrize(
    ("parameters", "printed_k", "expected"),
    [
        (553_641, 554, True),  # rounded
        (553_641, 553, True),  # cut off
        (553_641, 555, False),
        (553_641, 552, False),
        (642_846, 633, False),
        (500_500, 501, True),
    ],
)
def test_parameters_agree_in_the_printed_thousands(
    parameters: int, printed_k: int, expected: bool
) -> None:
    assert complexity.agrees_in_thousands(parameters, printed_k) is expected


@pytest.mark.parametrize(
    ("multiply_adds", "printed_g", "expected"),
    [
        (36_182_200_000, 36.19, True),
        (33_196_100_000, 33.23, True),  # 0.087 % under 33.225, which prints as 33.23
        (33_191_000_000, 33.23, False),
        (46_700_000_000, 46.60, False),
    ],
)
def test_flops_agree_within_a_thousandth(
    multiply_adds: int, printed_g: float, expected: bool
) -> None:
    assert complexity.agrees_in_billions(multiply_adds, printed_g) is expected


def test_a_slip_is_only_explained_where_the_other_factor_proves_it() -> None:
    def at(scale: int) -> Counts:
        return Counts({2: 2_046_633, 3: 2_057_508, 4: 2_072_733}[scale], 0, 0, 0, 0)

    quantity = "Table 6 params_k"
    assert (
        complexity.verdict(quantity, "idrn", 4, 2047, at) == "differ: the paper prints its x2 count"
    )
    assert complexity.verdict(quantity, "idrn", 4, 2058, at) == "differ"
    assert complexity.verdict(quantity, "idrn", 4, 2073, at) == "agree"
    assert complexity.verdict(quantity, "gidrn", 4, 2047, at) == "differ"


def test_every_figure_of_the_paper_for_these_networks_is_compared() -> None:
    found = complexity.measure(["gidrn", "rfdn_l"], [4], complexity.PAPER_SIZE_HW)
    verdicts = {
        (entry.what.model, quantity): entry.values[f"verdict {quantity}"]
        for entry in found
        for quantity in entry.published
    }
    assert verdicts == {
        ("gidrn", "Table 4 params_k"): "agree",
        ("gidrn", "Table 5 flops_g"): "agree",
        ("gidrn", "Table 6 params_k"): "agree",
        ("rfdn_l", "Table 4 params_k"): "agree",
        ("rfdn_l", "Table 5 flops_g"): "agree",
        ("rfdn_l", "Table 6 params_k"): "differ: the paper prints its x3 count",
    }
    assert complexity.unexplained(found) == []
    table = complexity.comparison_table(found)
    assert (
        "| gidrn   |    x4 | multiply-adds |    36.1822 G | 36.19 G (Table 5) |    -0.02% |"
        in table
    )
    assert "579.741 K" in table


def test_a_difference_without_a_reason_ends_in_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(complexity, "printed", lambda *_: {"Table 4 params_k": 579})
    assert complexity.main("gidrn", "4", "8x8", tmp_path / "out.json") == 0
    monkeypatch.setattr(complexity, "printed", lambda *_: {"Table 4 params_k": 600})
    assert complexity.main("gidrn", "4", "8x8", tmp_path / "out.json") == 1
    assert "gidrn x4, Table 4 params_k" in capsys.readouterr().out


def test_other_input_sizes_are_not_held_against_table_5() -> None:
    assert "Table 5 flops_g" not in complexity.printed("gidrn", 4, (80, 120))
    assert "Table 5 flops_g" in complexity.printed("gidrn", 4, (256, 256))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(Path(complexity.__file__)), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_the_script_prints_a_table_and_writes_records(tmp_path: Path) -> None:
    out = tmp_path / "complexity.json"
    done = run("--models", "imdn", "--scale", "4", "--size", "16x16", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "715,176" in done.stdout
    (entry,) = records.read_records(out)
    assert entry.values["parameters"] == 715_176
    assert entry.what.size_hw == (16, 16)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--models", "imdm"), "did you mean 'imdn'"),
        (("--models", ","), "--models wants"),
        (("--scale", "5"), "--scale wants"),
        (("--scale", "x"), "--scale wants"),
        (("--size", "256"), "--size wants"),
        (("--size", "0x4"), "--size wants"),
        (("--out", "nowhere/out.json"), "no folder nowhere"),
    ],
)
def test_a_users_mistake_is_one_clear_error(arguments: tuple[str, str], says: str) -> None:
    keywords = {arguments[0].removeprefix("--"): arguments[1]}
    if "out" in keywords:
        with pytest.raises(FileNotFoundError, match=says):
            complexity.main(out=Path(keywords["out"]))
    else:
        with pytest.raises(ValueError, match=says):
            complexity.main(**keywords)  # type: ignore[arg-type]


def test_a_mistake_on_the_command_line_is_one_line_and_exit_code_2() -> None:
    done = run("--models", "gidnr")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no network is called 'gidnr': did you mean 'gidrn'?")
    assert done.stderr.count("\n") == 1


def test_help_names_the_flags() -> None:
    done = run("--help")
    assert done.returncode == 0
    for flag in ("--models", "--scale", "--size", "--out"):
        assert flag in done.stdout
