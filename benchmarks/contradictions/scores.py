"""PSNR and SSIM: tables against each other, and what the text reads off them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from benchmarks import published
from benchmarks.contradictions.finding import Finding, judged
from benchmarks.published import Score

OURS = "G-IDRN"

DIGITS = {"psnr_db": 2, "ssim": 4}
"""Decimals that Table 4 prints, by measure."""

UNIT = {"psnr_db": " dB", "ssim": ""}

OUTLIER = 5.0
"""Standard deviations off the line through a column's rivals at which a figure does not belong;
all but one of G-IDRN's are within 1.4."""

OFF_THE_LINE = ("Bicubic", "SRCNN", "DRCN", "LapSRN")
"""Rivals too far below the others for a straight line through all of them."""

GLANCE = 0.0005
"""Half of the last digit of a difference that Table 1 prints, in dB."""


def table4(scale: int) -> dict[str, dict[str, Score]]:
    """Scores by method and data set at one factor, in the table's order."""
    return {row.method: dict(row.scores) for row in published.table4() if row.scale == scale}


def value(score: Score, measure: str) -> float:
    """PSNR or SSIM."""
    return score.psnr_db if measure == "psnr_db" else score.ssim


def column(scale: int, dataset: str, measure: str) -> dict[str, float]:
    """A column of Table 4 by method."""
    return {
        method: value(scores[dataset], measure)
        for method, scores in table4(scale).items()
        if dataset in scores
    }


def columns() -> list[tuple[int, str, str]]:
    """Factor, data set and measure of each column of Table 4."""
    return [
        (scale, dataset, measure)
        for scale in (2, 3, 4)
        for dataset in published.DATASETS
        for measure in DIGITS
    ]


def best_everywhere() -> Finding:
    """Section 3.4 has G-IDRN best on every set at every factor."""
    beaten = []
    for scale, dataset, measure in columns():
        printed = column(scale, dataset, measure)
        best = max(printed, key=lambda method: printed[method])
        if printed[best] > printed[OURS]:
            beaten.append(
                f"x{scale} {dataset} {measure.split('_')[0].upper()}: {best} {printed[best]}, "
                f"{OURS} {printed[OURS]}"
            )
    return Finding(
        "G-IDRN is best everywhere",
        "Section 3.4 1) against Table 4",
        (
            "G-IDRN is best on all five sets at all factors, and above IMDN and RFDN-L at every "
            "factor",
            "Table 4: " + ("; ".join(beaten) or "so it is"),
        ),
        f"{len(beaten)} of {len(columns())} columns have a higher figure than G-IDRN's",
        judged(not beaten),
        "the tables here mark nothing as best; figures stand beside each other",
    )


def marks_of_table_4() -> Finding:
    """Bold for the best and underlined for the second, as Section 3.4 says of Table 4."""
    wrong = []
    for mark in published.table4_marks():
        printed = column(mark.scale, mark.dataset, mark.measure)
        highest, second, *_ = sorted(set(printed.values()), reverse=True)
        for word, meant, marked in (("best", highest, mark.best), ("second", second, mark.second)):
            owners = {method for method, score in printed.items() if score == meant}
            if owners != set(marked):
                wrong.append(
                    f"x{mark.scale} {mark.dataset} {mark.measure.split('_')[0].upper()} {word}: "
                    f"marked {', '.join(marked) or 'nobody'}, is {', '.join(sorted(owners))}"
                )
    return Finding(
        "Bold and underlined figures of Table 4",
        "Section 3.4 1) against Table 4",
        ("the best figure is bold, the second is underlined", f"{len(wrong)} marks are not so"),
        "; ".join(wrong) or "every mark is where it should be",
        judged(not wrong),
        "the marks are not taken over; they are read from a text copy of the paper",
    )


def rows_alike() -> Finding:
    """Two methods with the same ten figures of a factor, or most of them."""
    alike = []
    for scale in (2, 3, 4):
        for (one, first), (other, second) in itertools.combinations(table4(scale).items(), 2):
            same = [dataset for dataset in first if first[dataset] == second.get(dataset)]
            if len(same) > 1:
                alike.append(f"x{scale}: {one} and {other} on {', '.join(same)}")
    return Finding(
        "Rows of Table 4 with the same scores",
        "Table 4",
        (
            "each row is a method of its own",
            "; ".join(alike) or "no two rows share both PSNR and SSIM on more than one set",
        ),
        "two methods with PSNR and SSIM equal to the last digit on several sets, of "
        f"{sum(len(table4(scale)) for scale in (2, 3, 4))} rows: one was copied",
        judged(not alike),
        "both rows stand here as printed; SMSR's own network is in the zoo and can be measured",
    )


def rivals_without_a_row() -> Finding:
    """Section 3.4 names whom it compares with."""
    with_row = {row.method for row in published.table4()}
    missing = [name for name in published.RIVALS if name not in with_row]
    return Finding(
        "Rivals that the text names",
        "Section 3.4 against Table 4",
        (
            f"compared with {', '.join(published.RIVALS)}",
            f"Table 4 has rows of {len(with_row)} methods, G-IDRN among them",
        ),
        f"{len(published.RIVALS)} are named; without a row: {', '.join(missing) or 'none'}",
        judged(not missing),
        "both are in the zoo and in the benchmarks of speed and size, without published figures",
    )


def line_through_rivals(scale: int, dataset: str) -> tuple[float, float]:
    """PSNR that the rivals' line over SSIM gives G-IDRN, and how far rivals lie off it (1 sd)."""
    rivals = [
        scores[dataset]
        for method, scores in table4(scale).items()
        if dataset in scores and method != OURS and method not in OFF_THE_LINE
    ]
    ssim = np.array([score.ssim for score in rivals])
    psnr = np.array([score.psnr_db for score in rivals])
    line = np.polynomial.Polynomial.fit(ssim, psnr, 1)
    spread = float(np.std(psnr - line(ssim), ddof=2))
    return float(line(table4(scale)[OURS][dataset].ssim)), spread


def psnr_beside_ssim() -> Finding:
    """G-IDRN's PSNR on B100 x2, the same as on Urban100, beside its SSIM."""
    off = {}
    for scale, dataset in itertools.product((2, 3, 4), published.DATASETS):
        expected, spread = line_through_rivals(scale, dataset)
        off[scale, dataset] = (table4(scale)[OURS][dataset].psnr_db - expected) / spread
    outliers = [key for key, far in off.items() if abs(far) > OUTLIER]
    others = max(abs(far) for key, far in off.items() if key not in outliers)
    ours = table4(2)[OURS]["B100"]
    expected, spread = line_through_rivals(2, "B100")
    table3 = {row.alpha: row.psnr_db["B100"] for row in published.table3()}
    return Finding(
        "G-IDRN on B100 x2",
        "Table 4 against itself and Table 3",
        (
            f"Table 4: {ours.psnr_db} dB and {ours.ssim}; on Urban100 "
            f"{table4(2)[OURS]['Urban100'].psnr_db} dB",
            "Table 4's rivals: "
            + ", ".join(
                f"{name} {score.psnr_db} dB and {score.ssim}"
                for name in ("LatticeNet", "IMDN", "RFDN-L")
                for score in [table4(2)[name]["B100"]]
            )
            + f"; Table 3: {table3[published.prose()['alpha'].value]} dB",
        ),
        f"a line of PSNR over SSIM through the rivals gives {expected:.2f} dB; they lie "
        f"{spread:.3f} dB off it, this figure {off[2, 'B100']:.1f} times as much; in the other "
        f"{len(off) - len(outliers)} columns G-IDRN is within {others:.1f} times",
        judged((2, "B100") not in outliers),
        "kept as printed; a measured value is compared with it and the doubt is told",
    )


def gain(scale: int, measure: str) -> Finding:
    """How many times RFDN-L's rise over IMDN is G-IDRN's, on average over the sets."""
    kind = measure.split("_")[0]
    claim = published.prose()[f"{kind}_gain_x{scale}"]
    sums = {
        method: sum(value(score, measure) for score in table4(scale)[method].values())
        for method in (OURS, "IMDN", "RFDN-L")
    }
    sets = len(published.DATASETS)
    digits = DIGITS[measure]
    half = sets * 10**-digits / 2
    ours, theirs = sums[OURS] - sums["IMDN"], sums["RFDN-L"] - sums["IMDN"]
    theirs, ours = round(theirs, digits), round(ours, digits)
    ratio = ours / theirs
    # The ratio is least where both other sums are rounded up, and RFDN-L's down; and vice versa.
    least = ours / (theirs + 2 * half)
    most = ours / (theirs - 2 * half) if round(theirs - 2 * half, digits + 1) > 0 else math.inf
    within = least <= claim.value <= most
    up_to = f"to {most:.2f}" if math.isfinite(most) else "up"
    printed = f"{ratio:.2f}" == f"{claim.value:.2f}"
    if kind == "psnr" and scale == 2:
        note = "; 0.62 / 0.04 is 15.50, and 0.62 is the sum with 32.22 dB for B100's 32.42"
    elif kind == "ssim" and scale == 2:
        note = "; 0.0063 / 0.0004 is 15.75"
    else:
        note = ""
    return Finding(
        f"Average {kind.upper()} gain at x{scale}",
        f"{claim.place} against Table 4",
        (
            f"{claim.value:.2f} times",
            f"sums over the {sets} sets: G-IDRN above IMDN by {ours:.{digits}f}{UNIT[measure]}, "
            f"RFDN-L by {theirs:.{digits}f}{UNIT[measure]}",
        ),
        f"{ours:.{digits}f} / {theirs:.{digits}f} = {ratio:.2f}; with every figure rounded the "
        f"worst way anything from {least:.2f} {up_to}{note}",
        "consistent" if printed else "cannot be decided" if within else "contradiction",
        "no ratio of gains is reported here: its divisor is within the rounding of the table",
    )


def gains() -> list[Finding]:
    """The six of Section 3.4."""
    return [gain(scale, measure) for measure in DIGITS for scale in (2, 3, 4)]


def urban100_gains_most() -> Finding:
    """Section 3.4 sees the largest rise over RFDN-L on Urban100."""
    rises = {
        scale: {
            dataset: round(scores[OURS][dataset].psnr_db - scores["RFDN-L"][dataset].psnr_db, 2)
            for dataset in published.DATASETS
        }
        for scale in (2, 3, 4)
        for scores in [table4(scale)]
    }
    most = {
        scale: max(by_set, key=lambda dataset: by_set[dataset]) for scale, by_set in rises.items()
    }
    return Finding(
        "Where G-IDRN gains most over RFDN-L",
        "Section 3.4 1) against Table 4",
        (
            "on Urban100 the distance grows visibly",
            "; ".join(
                f"x{scale} "
                + ", ".join(f"{dataset} {rise:+.2f} dB" for dataset, rise in by_set.items())
                for scale, by_set in rises.items()
            ),
        ),
        ", ".join(f"x{scale}: {dataset}" for scale, dataset in most.items()),
        judged(all(dataset == "Urban100" for dataset in most.values())),
        "Urban100 is measured by `benchmarks/quality.py` where a user has it",
    )


def same_scores_again() -> Finding:
    """Scores that Tables 5 and 6 print again."""
    differ, seen = [], 0
    again = [
        *((5, row.method, row.scale, "Set14", row.set14_psnr_db, row.set14_ssim)
          for row in published.table5()),
        *((6, row.method, row.scale, row.dataset, row.psnr_db, row.ssim)
          for row in published.table6()),
    ]  # fmt: skip
    for table, method, scale, dataset, psnr_db, ssim in again:
        scores = table4(scale).get(method, {})
        if dataset not in scores or psnr_db is None:
            continue
        for measure, printed in (("psnr_db", psnr_db), ("ssim", ssim)):
            seen += 1
            in_table_4 = value(scores[dataset], measure)
            if printed != in_table_4:
                digits = DIGITS[measure]
                differ.append(
                    f"{method} x{scale} {dataset} {measure.split('_')[0].upper()}: "
                    f"{in_table_4:.{digits}f} in Table 4, {printed:.{digits}f} in Table {table}"
                )
    return Finding(
        "Scores printed twice",
        "Tables 5 and 6 against Table 4",
        (f"Tables 5 and 6 repeat {seen} figures of Table 4", f"{len(differ)} of them differ"),
        "; ".join(differ) or "all are the same",
        judged(not differ),
        "each table is compared with its own printed figures",
    )


def increments_of_table_1() -> Finding:
    """What Section 3.3 says of Table 1's rows, from the rows."""
    prose, rows = published.prose(), published.table1()
    first = rows[0]
    at = {"dual_path": 1, "ds": 2, "anrb": 3, "all": len(rows) - 1}
    off, told = [], []
    for name, index in at.items():
        row = rows[index]
        gained = row.psnr_db["Set5"] - first.psnr_db["Set5"]
        saved = row.params_k - first.params_k
        psnr, params = prose[f"{name}_psnr"], prose[f"{name}_params_k"]
        told.append(psnr.words)
        if abs(gained - psnr.value) > GLANCE or abs(saved - params.value) > 0.5:
            off.append(f"{psnr.words}: {gained:+.3f} dB, {saved:+.1f} K")
    return Finding(
        "Differences that the text reads off Table 1",
        "Section 3.3 1) to 4) against Table 1",
        ("; ".join(told), "the rows' differences from the first row"),
        "; ".join(off) or f"all {2 * len(at)} differences are the rows', to the digits printed",
        judged(not off),
        "the rows are recipes: `python benchmarks/ablations.py --table 1`",
    )


def repeated_training() -> Finding:
    """ANRB on RFDN, and RFDN alone, stand in Tables 1 and 2."""
    plain, _, _, with_anrb, *_ = published.table1()
    rows = {row.samples: row.psnr_db["Set5"] for row in published.table2()}
    base = (plain.psnr_db["Set5"], rows["none"])
    anrb = (with_anrb.psnr_db["Set5"], rows["110"])
    return Finding(
        "ANRB alone on Set5 x2",
        "Table 1, rows 1 and 4, against Table 2",
        (
            f"Table 1: {base[0]} dB without ANRB, {anrb[0]} with",
            f"Table 2: {base[1]} dB without ANRB, {anrb[1]} with S = 110",
        ),
        f"a gain of {anrb[0] - base[0]:.3f} dB or of {anrb[1] - base[1]:.3f}; the same network "
        f"with ANRB differs by {abs(anrb[0] - anrb[1]):.3f} dB. Section 3.3 has RFDN as the base "
        "of all ablations; Table 2 does not name its network; no row of Table 1 has its figures",
        judged(base[0] == base[1] and anrb[0] == anrb[1]),
        "Table 2's rows are trained here on RFDN, as Section 3.3 says; both stand as printed",
    )


def gains_below_repeatability() -> Finding:
    """Table 1's steps against the difference of two runs of one network."""
    rows1 = published.table1()
    rows2 = {row.samples: row.psnr_db["Set5"] for row in published.table2()}
    repeat = abs(rows1[3].psnr_db["Set5"] - rows2["110"])
    first = rows1[0].psnr_db["Set5"]
    steps = {
        "dual path": rows1[1].psnr_db["Set5"] - first,
        "dense shortcut": rows1[2].psnr_db["Set5"] - first,
        "ANRB": rows1[3].psnr_db["Set5"] - first,
        "ANRB on the dual path": rows1[4].psnr_db["Set5"] - rows1[1].psnr_db["Set5"],
        "dense shortcut on both": rows1[5].psnr_db["Set5"] - rows1[4].psnr_db["Set5"],
        "sampling, best to worst": max(rows2.values()) - min(rows2.values()),
    }
    below = [name for name, step in steps.items() if abs(step) <= repeat]
    return Finding(
        "Gains beside the spread of two runs",
        "Section 3.3 1) to 3), Tables 1 and 2",
        (
            "each part raises PSNR, and the dense shortcut helps the others",
            f"one network's two figures differ by {repeat:.3f} dB (Table 1, row 4; Table 2, 110)",
        ),
        "; ".join(f"{name} {step:+.3f} dB" for name, step in steps.items())
        + f"; not above the {repeat:.3f} dB of two runs: {', '.join(below) or 'none'}",
        "cannot be decided" if below else "consistent",
        "`benchmarks/ablations.py` trains each row with several seeds and says no direction below "
        "their spread",
    )


def three_tables_of_one_network() -> Finding:
    """The full method's PSNR on Set5 x2 in Tables 1, 3 and 4."""
    full = published.table1()[-1].psnr_db["Set5"]
    by_alpha = {row.alpha: row.psnr_db for row in published.table3()}
    chosen = published.prose()["alpha"].value
    last = table4(2)[OURS]
    gaps = {
        dataset: last[dataset].psnr_db - by_alpha[chosen][dataset] for dataset in published.DATASETS
    }
    below = [
        dataset for dataset in published.DATASETS
        if by_alpha[chosen][dataset] < table4(2)["IMDN"][dataset].psnr_db
    ]  # fmt: skip
    return Finding(
        "The full method in Tables 1, 3 and 4",
        "Tables 1, 3 and 4; Section 3.2",
        (
            f"Set5 x2: Table 1's last row {full} dB; Table 3 {by_alpha[1.0]['Set5']} dB with L1 "
            f"alone and {by_alpha[chosen]['Set5']} dB with the chosen loss",
            f"Table 4: {last['Set5'].psnr_db} dB",
        ),
        "Table 1's network is the smaller one, yet above Table 3's with L1 by "
        f"{full - by_alpha[1.0]['Set5']:+.3f} dB; Table 4 is above Table 3's best row by "
        + ", ".join(f"{dataset} {gap:+.3f}" for dataset, gap in gaps.items())
        + f" dB, without which it is below IMDN on {len(below)} of {len(gaps)} sets. Ablations are "
        "trained 'from scratch, to save time': Table 4's weights had more, which no section tells",
        "cannot be decided",
        "measured PSNR is compared with the table of the same training; model cards tell theirs",
    )


def words_on_table_3() -> Finding:
    """The high-frequency loss raises PSNR on all five sets, and 0.4 / 0.6 is best."""
    rows = published.table3()
    plain = next(row for row in rows if row.beta == 0)
    worse = [
        f"beta {row.beta:g} {dataset} {row.psnr_db[dataset] - plain.psnr_db[dataset]:+.3f}"
        for row in rows
        for dataset in published.DATASETS
        if row is not plain and row.psnr_db[dataset] <= plain.psnr_db[dataset]
    ]
    chosen = published.prose()["beta"].value
    not_best = [
        dataset
        for dataset in published.DATASETS
        for best in [max(row.psnr_db[dataset] for row in rows)]
        if [row.beta for row in rows if row.psnr_db[dataset] == best] != [chosen]
    ]
    means = {row.beta: sum(row.psnr_db.values()) / len(row.psnr_db) for row in rows}
    peak = list(means).index(max(means, key=lambda beta: means[beta]))
    path = list(means.values())
    unimodal = _rises(path[: peak + 1]) and _rises(path[: peak - 1 : -1])
    return Finding(
        "What the text says of Table 3",
        "Section 3.3 5) against Table 3",
        (
            "with the high-frequency loss PSNR rises on all five sets; 0.4 and 0.6 are best; with "
            "beta PSNR first rises, then falls",
            f"{len(worse)} of 20 figures are not above L1 alone; best elsewhere or tied: "
            f"{', '.join(not_best) or 'none'}",
        ),
        f"not above L1 alone, in dB: {', '.join(worse) or 'none'}; means over the sets by beta: "
        + ", ".join(f"{beta:g}: {mean:.4f}" for beta, mean in means.items()),
        judged(not worse and not not_best and unimodal),
        "alpha = 0.4 and beta = 0.6 are the default, whose mean is highest; "
        "`benchmarks/ablations.py --table 3` trains the rows",
    )


def _rises(path: Sequence[float]) -> bool:
    return all(earlier < later for earlier, later in itertools.pairwise(path))


def parts_of_barbara() -> Finding:
    """Section 2.4's PSNR of an image and of its low and high frequencies."""
    prose = published.prose()
    claims = [prose[f"barbara_{part}"] for part in ("psnr", "low_psnr", "high_psnr")]
    whole, low, high = (255 * 10 ** (-claim.value / 20) for claim in claims)
    least, most = abs(whole - low), whole + low
    bounds = [20 * math.log10(255 / error) for error in (most, least)]
    peaks = [error * 10 ** (claims[2].value / 20) for error in (least, most)]
    return Finding(
        "PSNR of the low and the high frequencies",
        "Section 2.4 and Figure 6 against Equation 12",
        (
            "; ".join(claim.words for claim in claims),
            "the high frequencies are the image less its Gaussian low-pass (Section 2.4)",
        ),
        "the image's error is the sum of its low and its high part, so that root mean squares obey "
        f"|{whole:.2f} - {low:.2f}| <= high <= {whole:.2f} + {low:.2f} levels: between "
        f"{bounds[0]:.2f} and {bounds[1]:.2f} dB for a peak of 255; {claims[2].value:.2f} dB would "
        f"be {high:.0f} levels. A peak of {peaks[0]:.0f} to {peaks[1]:.0f} levels in place of 255 "
        "would give it",
        judged(least <= high <= most),
        "the filter's kernel and sigma are parameters; PSNR of a part is told with its peak",
    )


CHECKS = (
    *(best_everywhere, marks_of_table_4, rows_alike, rivals_without_a_row, psnr_beside_ssim),
    *(urban100_gains_most, same_scores_again, increments_of_table_1, repeated_training),
    *(gains_below_repeatability, three_tables_of_one_network, words_on_table_3),
    parts_of_barbara,
)
