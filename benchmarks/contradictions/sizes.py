"""Parameters and multiply-adds: the paper's tables against each other and against our networks."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch

from benchmarks import complexity, published
from benchmarks.complexity import Counts
from benchmarks.contradictions.finding import Finding, judged
from gidrn import zoo
from gidrn.networks.gidrn import GIDRNConfig
from gidrn.networks.rfdn import RFDNConfig

ABLATION_SCALE = 2
"""The factor of Tables 1 to 3."""


@functools.cache
def counted(network: str, scale: int, config: Any = None) -> Counts:
    """Counts of a network of the zoo at Table 5's input, in a configuration of its own if given."""
    own = zoo.find(network).config if config is None else config
    return complexity.count_config(network, scale, own, complexity.PAPER_SIZE_HW)


def table1_config(row: published.Table1Row) -> RFDNConfig:
    """The network of a row of Table 1."""
    return RFDNConfig(
        channels=row.channels,
        block="gidb" if row.block == "G-IDB" else "rfdb",
        dual_path=row.dual_path,
        dense_shortcut=row.dense_shortcut,
        anrb=row.anrb,
    )


def table1_parameters(row: published.Table1Row) -> int:
    """Parameters of a row of Table 1, as the paper counts them: without the shortcuts' scalars."""
    scalars = 2 * 6 if row.dense_shortcut else 0  # two shortcuts over three blocks: 3 * 4 / 2 each
    return counted("rfdn", ABLATION_SCALE, table1_config(row)).parameters - scalars


def first_rows_of_table_1() -> Finding:
    """All of Table 1's counts but the last one."""
    rows = published.table1()[:-1]
    pairs = [(row.params_k, table1_parameters(row)) for row in rows]
    return Finding(
        "Parameters of Table 1, all rows but the last",
        "Table 1; Sections 2.1 to 2.3",
        (
            "Table 1 prints " + ", ".join(f"{printed} K" for printed, _ in pairs),
            "the networks that the text describes have "
            + ", ".join(f"{parameters:,}" for _, parameters in pairs),
        ),
        "each count in thousands, rounded to one decimal, is the printed one",
        judged(all(f"{parameters / 1e3:.1f}" == f"{printed}" for printed, parameters in pairs)),
        "`gidrn/networks/rfdn.py` builds the rows; tests hold the counts",
    )


def last_row_of_table_1() -> Finding:
    """G-IDB with the dual path, the dense shortcut and ANRB in RFDN's frame."""
    row = published.table1()[-1]
    parameters = table1_parameters(row)
    extra = 2 * row.channels * row.channels + row.channels  # a 1x1 convolution 2C -> C with bias
    return Finding(
        "Parameters of Table 1's last row",
        "Table 1, last row, against its other rows",
        (
            f"G-IDB with everything has {row.params_k} K parameters",
            f"the rules that give the other rows give {parameters:,}",
        ),
        f"{row.params_k} K - {parameters / 1e3:.3f} K = {row.params_k - parameters / 1e3:.1f} K; "
        f"one 1x1 convolution {2 * row.channels} -> {row.channels} with bias has {extra:,}, and "
        f"{parameters:,} + {extra:,} = {parameters + extra:,}, but no sentence has one, and the "
        "counts of the whole network leave no room for it",
        judged(f"{parameters / 1e3:.1f}" == f"{row.params_k}"),
        "the network is built by the rules; the missing convolution is not made up",
    )


def dual_path_removes_one_convolution() -> Finding:
    """The text takes away two convolutions, Table 1 and the FLOPs one."""
    claim = published.prose()["removed_convolutions"]
    plain, dual = published.table1()[:2]
    width = plain.channels
    removed, coarse = 9 * width * width + width, 25 * 3 * 12 + 12
    one, two = coarse - removed, coarse - 2 * removed
    printed_k = dual.params_k - plain.params_k
    flops = {row.method: row.flops_g for row in published.table5()}
    saved_g = flops["RFDN (Table 1 baseline)"] - flops["RFDN with dual path"]
    height, wide = complexity.PAPER_SIZE_HW
    one_g = (9 * width * width - 25 * 3 * 12) * height * wide / 1e9
    return Finding(
        "How many convolutions the dual path does away with",
        f"{claim.place}, against Table 1, rows 1 and 2",
        (
            claim.words,
            f"Table 1: {printed_k:+.1f} K parameters; Section 3.3: {-saved_g:+.2f} G FLOPs",
        ),
        f"a 3x3 convolution {width} -> {width} has {removed:,} parameters, the coarse branch's 5x5 "
        f"3 -> 12 {coarse:,}: {one:+,} with one taken away, {two:+,} with two; "
        f"FLOPs with one: {-one_g:+.2f} G",
        judged(abs(two / 1e3 - printed_k) <= 0.1),  # a difference of two rounded figures
        "one is taken away, as the counts say: the one before the skip; the one behind it is the "
        "upsampler's",
    )


def scalars_of_the_whole_network() -> Finding:
    """The shortcut's scalars are part of Table 4's counts, though not of Table 1's."""
    printed = {row.scale: row.params_k for row in published.table4() if row.method == "G-IDRN"}
    config = GIDRNConfig()
    per_group, groups = config.blocks_per_group, config.groups_of_blocks
    scalars = groups * per_group * (per_group + 1) // 2 + groups * (groups + 1) // 2
    counts = {scale: counted("gidrn", scale).parameters for scale in printed}
    agree = all(round(counts[scale] / 1e3) == printed[scale] for scale in printed)
    return Finding(
        "Parameters of G-IDRN",
        "Table 4 against Sections 2.1 to 2.3",
        (
            "Table 4: " + ", ".join(f"x{scale} {k} K" for scale, k in printed.items()),
            "counted: " + ", ".join(f"x{scale} {count:,}" for scale, count in counts.items()),
        ),
        f"with the {scalars} scalars of the dense shortcuts; x3 without them is "
        f"{counts[3] - scalars:,}, which rounds to {round((counts[3] - scalars) / 1e3)} K",
        judged(agree),
        "`gidrn` has the scalars; tests hold the three counts as exact integers",
    )


def parameters_of_table_6(name: str, slip: int) -> Finding:
    """A count of Table 6 that is another factor's: `name` of our zoo, `slip` that factor."""
    method = published.METHODS[name]
    row = next(row for row in published.table6() if row.method == method)
    counts = {scale: counted(name, scale).parameters for scale in sorted({row.scale, slip})}
    others = [f"x{scale}: {count:,}" for scale, count in counts.items()]
    in_table_4 = [
        f"; Table 4 prints {entry.params_k} K at x{entry.scale}"
        for entry in published.table4()
        if (entry.method, entry.scale) == (method, row.scale)
    ]
    return Finding(
        f"Parameters of {method} in Table 6",
        "Table 6" + (" against Table 4" if in_table_4 else " against Section 2"),
        (
            f"Table 6 is about x{row.scale} and prints {row.params_k} K for {method}",
            f"counted at {' and '.join(others)}" + "".join(in_table_4),
        ),
        f"{row.params_k} K is the x{slip} count "
        f"({counts[slip] / 1e3:.1f} K), not the x{row.scale} one "
        f"({counts[row.scale] / 1e3:.1f} K)",
        judged(complexity.agrees_in_thousands(counts[row.scale], row.params_k)),
        "tables here print the count of the factor measured, and the paper's as printed",
    )


def rfdn_l_in_table_6() -> Finding:
    """RFDN-L stands with its x3 count."""
    return parameters_of_table_6("rfdn_l", 3)


def idrn_in_table_6() -> Finding:
    """IDRN stands with its x2 count."""
    return parameters_of_table_6("idrn", 2)


def parameters_of_table_4() -> Finding:
    """Every count of Table 4 against our implementation of the network."""
    names = {method: name for name, method in published.METHODS.items()}
    differ, total = [], 0
    for row in published.table4():
        if row.params_k is None:
            continue
        total += 1
        counts = counted_parameters(names[row.method], row.scale)
        if not complexity.agrees_in_thousands(counts, row.params_k):
            differ.append(f"{row.method} x{row.scale}: {row.params_k} K, counted {counts:,}")
    return Finding(
        "Parameters of all networks of Table 4",
        "Table 4",
        (
            f"Table 4 prints {total} counts",
            f"{total - len(differ)} of them are what the networks here have",
        ),
        "; ".join(differ) or "none differs",
        "consistent" if not differ else "cannot be decided",
        "SMSR's figures leave out 2,560 logits of its masks, and LatticeNet's authors' code has "
        "what is counted here; `benchmarks/complexity.py` names both",
    )


def counted_parameters(network: str, scale: int) -> int:
    """Parameters alone, without a forward pass."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in zoo.create(network, scale).parameters())


def flops_of_table_5() -> Finding:
    """Table 5's FLOPs against the AIM 2020 rule that Section 3.2 names."""
    names = {method: name for name, method in published.METHODS.items()}
    rows = [row for row in published.table5() if row.method in names]
    counts = {row.method: counted(names[row.method], row.scale).multiply_adds for row in rows}
    off = [row for row in rows if f"{counts[row.method] / 1e9:.2f}" != f"{row.flops_g:.2f}"]
    width = GIDRNConfig().channels
    height, wide = complexity.PAPER_SIZE_HW
    activation = width * height * wide
    explained = (counts["G-IDRN"] + activation) / 1e9
    return Finding(
        "FLOPs of Table 5",
        "Table 5 against Section 3.2",
        (
            "Table 5: " + ", ".join(f"{row.method} {row.flops_g:.2f} G" for row in rows),
            "by the AIM 2020 rule: "
            + ", ".join(f"{method} {count / 1e9:.3f} G" for method, count in counts.items()),
        ),
        f"{len(rows) - len(off)} of {len(rows)} to the digit"
        + "".join(
            f"; {row.method} is {row.flops_g - counts[row.method] / 1e9:.3f} G short" for row in off
        )
        + f"; one more activation of {width} channels would give G-IDRN {explained:.3f} G. The "
        "rule counts multiply-adds, half of what FLOPs mean elsewhere, and the table's unit is GB",
        "consistent" if not off else "cannot be decided",
        "figures here are called multiply-adds, and no activation is added that no text has",
    )


def flops_of_the_dual_path() -> Finding:
    """The two FLOPs figures in Section 3.3's text."""
    rows = [row for row in published.table5() if row.method in complexity.IN_TABLE_5]
    rows = [row for row in rows if row.method.startswith("RFDN ") or "dual" in row.method]
    counts = {
        row.method: complexity.count_model(
            complexity.IN_TABLE_5[row.method], row.scale, row.size_hw
        ).multiply_adds
        / 1e9
        for row in rows
    }
    gaps = [row.flops_g - counts[row.method] for row in rows]
    return Finding(
        "FLOPs of RFDN with and without the dual path",
        "Section 3.3 1) against Section 3.2",
        (
            "Section 3.3: " + ", ".join(f"{row.method} {row.flops_g:.2f} G" for row in rows),
            "by the AIM 2020 rule: "
            + ", ".join(f"{method} {count:.3f} G" for method, count in counts.items()),
        ),
        "the figures are "
        + " and ".join(f"{gap:+.3f} G" for gap in gaps)
        + " off, the same amount, so that the saving agrees; no layer of the text accounts for it",
        "consistent"
        if all(abs(gap) <= complexity.HALF_DIGIT_G for gap in gaps)
        else "cannot be decided",
        "counts within 0.1 % of a printed figure are said to agree with it",
    )


def cost_of_a_grouped_convolution() -> Finding:
    """Section 2.2: 1/g of the multiply-adds, and a cost that grows with g, in one sentence."""
    claim = published.prose()["scale_of_grouped_cost"]
    config = GIDRNConfig()
    grouped, plain = counted("gidrn", 4), counted("idrn", 4)
    each = 9 * config.channels**2
    power = math.log(grouped.multiply_adds / plain.multiply_adds) / math.log(config.groups)
    return Finding(
        "Cost of a grouped convolution",
        claim.place,
        (
            "its multiply-adds and parameters are 1/g of an ordinary convolution's (Eq. 5 and 6)",
            claim.words.split(", one sentence")[0],
        ),
        f"C = {config.channels}, K = 3, g = {config.groups}: {each:,} weights become "
        f"{each // config.groups:,}; "
        f"G-IDRN x4 needs {grouped.multiply_adds / 1e9:.1f} G multiply-adds, IDRN "
        f"{plain.multiply_adds / 1e9:.1f} G; both hold {grouped.peak_memory_mib:.0f} and "
        f"{plain.peak_memory_mib:.0f} MiB of feature maps, whatever g is. The whole network's "
        f"cost goes as g to the power of {power:.2f}, not {claim.value:.0f}",
        judged(math.copysign(1, power) == math.copysign(1, claim.value)),
        "cost is counted by Eq. 6; that narrow groups run slowly on real devices is measured "
        "(`benchmarks/group_forms.py`, `--merge-groups`)",
    )


def anrb_has_a_key_of_its_own() -> Finding:
    """Eq. 7 makes query, key and value, Eq. 8 pools the query in the key's place."""
    claim = published.prose()["anrb_convolutions_to_one"]
    rows = published.table1()
    plain = next(row for row in rows if row.block == "RFDB" and not (row.dual_path or row.anrb))
    with_anrb = next(row for row in rows if row.anrb and not row.dual_path)
    width = plain.channels
    to_one, to_all = width + 1, 2 * width
    three, two = 3 * to_one + to_all, 2 * to_one + to_all
    base = table1_parameters(plain)
    return Finding(
        "What ANRB takes for its key",
        "Equations 7, 8 and 9",
        (
            f"Eq. 7: {claim.words}; X_theta is one of them",
            "Eq. 8 and 9: theta_P = P_phi(X_phi) is what the query X_phi is multiplied by, so that "
            "X_theta is used nowhere; the text then calls theta_P and gamma_P what is pooled",
        ),
        f"C = {width}: three convolutions C -> 1 and one 1 -> C have {three} parameters, two and "
        f"one {two}; {base:,} + {three} prints as {(base + three) / 1e3:.1f} K, {base:,} + {two} "
        f"as {(base + two) / 1e3:.1f} K, and Table 1 has {with_anrb.params_k} K",
        "contradiction"
        if f"{(base + two) / 1e3:.1f}" != f"{with_anrb.params_k}"
        else "cannot be decided",
        "three convolutions, as the count says: theta_P = P_theta(X_theta)",
    )


def samples_of_the_pyramid() -> Finding:
    """Table 2's numbers of points are the squares of its pyramids' sides."""
    rows = [row for row in published.table2() if row.pool_sizes]
    sums = {row.samples: sum(side * side for side in row.pool_sizes) for row in rows}
    claims = [published.prose()[key] for key in ("sampled_twice", "sampled_four_times")]
    first = next(iter(sums.values()))
    ratios = [total / first for total in list(sums.values())[1:]]
    return Finding(
        "Points of ANRB's pyramids",
        "Section 3.3 3) and Table 2",
        (
            "S = " + ", ".join(sums) + "; " + "; ".join(claim.words for claim in claims),
            "pooled sides " + ", ".join(str(row.pool_sizes) for row in rows),
        ),
        "sums of squares: "
        + ", ".join(str(total) for total in sums.values())
        + "; ratios: "
        + " and ".join(f"{ratio:.2f}" for ratio in ratios)
        + ", which the text rounds",
        judged(
            all(int(samples) == total for samples, total in sums.items())
            and all(
                round(ratio) == claim.value for ratio, claim in zip(ratios, claims, strict=True)
            )
        ),
        "`pool_sizes` of `GIDRNConfig` takes any sides; Table 2's are recipes",
    )


def unit_of_parameters() -> Finding:
    """Section 3.5 gives a number of parameters in MB."""
    claim = published.prose()["idrn_params_least"]
    row = next(row for row in published.table6() if row.method == "IDRN")
    megabytes = row.params_k * 1e3 * 4 / 1e6
    return Finding(
        "Unit of IDRN's parameters",
        f"{claim.place} against Table 6",
        (f"Section 3.5: {claim.words}", f"Table 6: {row.params_k} K parameters"),
        f"{row.params_k} K are {row.params_k / 1e3:.2f} million; in FP32 they take {megabytes:.1f} "
        f"MB, which is above {claim.value:.0f} MB, though millions of parameters must be meant",
        "consistent" if megabytes - claim.value < 0.5 else "cannot be decided",
        "parameters are counted in thousands here, memory in MiB of 2**20 bytes",
    )


CHECKS = (
    *(first_rows_of_table_1, last_row_of_table_1, dual_path_removes_one_convolution),
    *(scalars_of_the_whole_network, rfdn_l_in_table_6, idrn_in_table_6, parameters_of_table_4),
    *(flops_of_table_5, flops_of_the_dual_path, cost_of_a_grouped_convolution),
    *(anrb_has_a_key_of_its_own, samples_of_the_pyramid, unit_of_parameters),
)
