"""The paper's Figures 1, 2 and 6 to 12 beside what was measured, and plots for choosing."""

from __future__ import annotations

import base64
from pathlib import Path

from benchmarks import ablations, frequencies, noise, published, quality
from benchmarks.records import Record
from benchmarks.report_evidence import URBAN, Evidence
from benchmarks.report_plots import Bar, Point, bars, lines, scatter
from benchmarks.report_section import PictureSet, Row, Section, Verdict
from benchmarks.report_tables import NAMES, SSIM_TOLERANCE, frame_ms, number, quality_verdict
from gidrn import recipes

LIGHT_K = 1000
"""Thousands of parameters up to which Figures 1 and 12 call a network lightweight."""

FIGURE_6_DB = {"all": 26.05, "low": 36.72, "high": 7.30}
"""What Section 2.4 prints of RCAN on Set14's barbara at x3."""

HERE = ("B100", "Set14", "Set5")
"""Sets that may stand for Urban100, the largest first."""

SHORTER = "the shipped weights are another, shorter training run"

RFDN_L = (
    "RFDN-L is left out: its authors' weights are not public, and the paper's are not either; "
    "put yours into the folder of --weights-root as rfdn_l_x4.pth"
)


def all_figures(evidence: Evidence, folder: Path) -> list[Section]:
    """The paper's figures, in order."""
    return [
        _over_parameters(evidence, "Figure 1", 2, "psnr_db", "PSNR"),
        _pictures(evidence, folder, "Figure 2", "figure_2", "Sharper pictures than other losses."),
        _figure6(evidence),
        _figure7(evidence, folder),
        _figure8(evidence),
        _figure9(evidence),
        _pictures(evidence, folder, "Figure 10", "figure_10", "Edges in their true direction."),
        _pictures(
            evidence, folder, "Figure 11", "figure_11", "Clearer lines on real photos (RealSR)."
        ),
        _over_parameters(evidence, "Figure 12", 4, "ssim", "SSIM"),
    ]


def for_choosing(evidence: Evidence) -> list[Section]:
    """Plots that are in no paper: what a device costs and gives."""
    return [
        section
        for section in (
            _latency(evidence),
            _by_engine(evidence),
            _memory(evidence),
        )
        if section is not None
    ]


def _over_parameters(
    evidence: Evidence, name: str, scale: int, kind: str, quantity: str
) -> Section:
    """Figures 1 and 12: quality over parameters, the paper's and ours side by side."""
    printed = [row for row in published.table4() if row.scale == scale and row.params_k]
    unit = "PSNR, dB" if kind == "psnr_db" else "SSIM"
    points = [
        Point(
            row.method,
            float(row.params_k or 0),
            _score(row, URBAN, kind),
            row.method == "G-IDRN",
            True,
        )
        for row in printed
        if URBAN in row.scores
    ]
    x = "parameters, K"
    plots = [scatter(f"The paper: {URBAN} x{scale}", points, x=x, y=unit)]
    for dataset in (URBAN, *HERE):
        ours = []
        for row in printed:
            model = NAMES.get(row.method, "")
            found, counts = evidence.quality(model, scale, dataset), evidence.counts(model, scale)
            if found is not None and counts is not None:
                parameters = number(counts.record.values["parameters"]) / 1000
                value = number(found.record.values[kind])
                ours.append(Point(row.method, parameters, value, row.method == "G-IDRN"))
        if len(ours) > 1:
            plots.append(scatter(f"Here: {dataset} x{scale}", ours, x=x, y=unit))
            break
    rows = []
    own_k = next(float(r.params_k or 0) for r in printed if r.method == "G-IDRN")
    for row in printed:
        if row.method == "G-IDRN" or not row.params_k or row.params_k > LIGHT_K:
            continue
        rows.append(_better_row(evidence, row, own_k, scale, kind))
    return Section(
        name,
        f"On {URBAN} x{scale} no lightweight network has more {quantity}, and G-IDRN is small.",
        ("rival", "set", f"here, G-IDRN's {quantity} less the rival's", f"paper, {URBAN}"),
        rows,
        plots=plots,
        notes=[
            f"Rivals of up to {LIGHT_K} K parameters. Where {URBAN} is not here, the largest set "
            "that is stands in its place."
        ],
    )


def _score(row: published.Table4Row, dataset: str, kind: str) -> float:
    score = row.scores[dataset]
    return score.psnr_db if kind == "psnr_db" else score.ssim


def _better_row(
    evidence: Evidence, row: published.Table4Row, own_k: float, scale: int, kind: str
) -> Row:
    """Whether G-IDRN is better than a rival here as in the paper."""
    digits = 3 if kind == "psnr_db" else 4
    own = next(r for r in published.table4() if (r.method, r.scale) == ("G-IDRN", scale))
    paper = (
        f"{_score(own, URBAN, kind) - _score(row, URBAN, kind):+.{digits}f}"
        if URBAN in row.scores
        else "not printed"
    )
    model = NAMES.get(row.method, "")
    for dataset in (URBAN, *HERE):
        rival, ours = (evidence.quality(one, scale, dataset) for one in (model, "gidrn"))
        if rival is None or ours is None:
            continue
        gain = number(ours.record.values[kind]) - number(rival.record.values[kind])
        verdict, why = gain_verdict(gain, 1.0, kind=kind)
        source = rival.source or ours.source
        return Row((row.method, dataset, f"{gain:+.{digits}f}", paper), verdict, why, source)
    why = evidence.why_no_quality(model, scale, HERE[0])
    return Row((row.method, "", "", paper), "cannot", why)


def _pictures(evidence: Evidence, folder: Path, name: str, part: str, claim: str) -> Section:
    """Figures 2, 10 and 11: two methods at a time under a slider."""
    found = evidence.by_part.get(part, ())
    if not found:
        return Section(
            name, claim, ("pictures",), [Row(("all",), "cannot", evidence.why_not(part))]
        )
    sets = []
    rows = []
    for entry in found:
        values = entry.values
        shown = str(values["shown"]).split()
        images = []
        for method in shown:
            score = values.get(f"{method}_psnr_db")
            label = published.METHODS.get(method, method)
            caption = label if score is None else f"{label}, {number(score):.2f} dB"
            images.append((caption, data_uri(folder / "pictures" / str(values[f"{method}_file"]))))
        sets.append(
            PictureSet(
                f"{values['photo']} x4",
                images,
                right=shown.index("gidrn") if "gidrn" in shown else -1,
                note=f"{values['origin']}. Part at row {values['top']}, column {values['left']}, "
                "shown enlarged without smoothing; PSNR is of the whole photo.",
            )
        )
        scores = {m: number(v) for m in shown if (v := values.get(f"{m}_psnr_db")) is not None}
        for rival in scores:
            if rival != "gidrn" and "gidrn" in scores:
                gain = scores["gidrn"] - scores[rival]
                what = f"{values['photo']}, G-IDRN less {published.METHODS[rival]}"
                rows.append(Row((what, f"{gain:+.3f}", "better"), *gain_verdict(gain, 1.0)))
    missing = [RFDN_L] if "rfdn_l" not in str(found[0].values["shown"]).split() else []
    if "imdn" not in str(found[0].values["shown"]).split():
        missing.append("IMDN is left out: no weights of it are in the folder of --weights-root")
    header = ("photo", "here, PSNR in dB", "paper, by eye")
    return Section(name, claim, header, rows, pictures=sets, notes=missing)


def gain_verdict(
    gain: float, paper: float, *, kind: str = "psnr_db", why: str = SHORTER
) -> tuple[Verdict, str]:
    """Whether a difference in quality has the paper's sign; `why` says why where it has not."""
    least = quality.PSNR_TOLERANCE_DB if kind == "psnr_db" else SSIM_TOLERANCE
    if abs(gain) <= least:
        unit = " dB" if kind == "psnr_db" else ""
        return "cannot", f"within {least}{unit}, which decides nothing"
    return ("agree", "") if (gain > 0) == (paper > 0) else ("differ", why)


def data_uri(path: Path) -> str:
    """A WebP file as an address that holds it."""
    return "data:image/webp;base64," + base64.b64encode(path.read_bytes()).decode()


def _figure6(evidence: Evidence) -> Section:
    paper = " / ".join(f"{FIGURE_6_DB[part]:.2f}" for part in ("all", "low", "high"))
    header = (
        "method",
        "here, all / low / high dB",
        "here, high by wrapped 8 bits",
        "paper, all / low / high",
    )
    rows = [
        Row(
            ("RCAN", "", "", paper),
            "cannot",
            "RCAN's weights are not public: other networks' outputs of the same photo stand below",
        )
    ]
    found = evidence.by_part.get("frequencies", ())
    if not found:
        rows.append(Row(("others", "", "", paper), "cannot", evidence.why_not("frequencies")))
    for entry in found:
        values = {
            key: number(entry.values[f"{key}_db"]) for key in ("all", "low", "high", "wrapped")
        }
        here = " / ".join(f"{values[key]:.2f}" for key in ("all", "low", "high"))
        is_near = abs(values["high"] - FIGURE_6_DB["high"]) < 3
        why = (
            "the low frequencies come near, the high ones do not: 7.30 dB cannot be beside the "
            "other two (see the note)"
        )
        cells = (published.METHODS[entry.what.model], here, f"{values['wrapped']:.2f}", paper)
        rows.append(Row(cells, "agree" if is_near else "differ", "" if is_near else why))
    least = frequencies.least_high_db(FIGURE_6_DB["all"], FIGURE_6_DB["low"])
    notes = [
        "Set14's barbara at x3, PSNR on Y with a peak of 255. Low: what the loss's Gaussian "
        "leaves; high: what it takes away.",
        f"{FIGURE_6_DB['all']} dB in all and {FIGURE_6_DB['low']} dB for the low frequencies leave "
        f"at least {least:.1f} dB for the high ones (the root mean square of a difference is at "
        "most the sum of both), so that the printed 7.30 dB is of another peak or another "
        "difference. Images of 8 bits subtracted with wrap-around give figures of that order.",
    ]
    if found:
        notes.append(f"Filter: {found[0].values['filter']}.")
    claim = "Networks restore the low frequencies and few of the high ones."
    return Section("Figure 6", claim, header, rows, notes=notes)


def _figure7(evidence: Evidence, folder: Path) -> Section:
    claim = "What a Gaussian low-pass filter leaves looks much like the photo."
    found = evidence.by_part.get("frequencies", ())
    if not found:
        return Section(
            "Figure 7",
            claim,
            ("picture",),
            [Row(("all",), "cannot", evidence.why_not("frequencies"))],
        )
    values = found[0].values
    names = {
        "low_file": "low frequencies",
        "high_file": "high frequencies of Y, twice, around gray",
        "truth_file": "photo",
    }
    images = [
        (caption, data_uri(folder / "pictures" / str(values[key])))
        for key, caption in names.items()
    ]
    pictures = [
        PictureSet("barbara (Set14)", images, note=f"{values['filter']}, each colour by itself.")
    ]
    return Section(
        "Figure 7", claim, pictures=pictures, notes=["Shown; there is no figure to compare."]
    )


def _figure8(evidence: Evidence) -> Section:
    rows = published.table3()
    base = rows[0]
    series = {
        dataset: [(row.beta, row.psnr_db[dataset] - base.psnr_db[dataset]) for row in rows]
        for dataset in published.DATASETS
    }
    y = "dB more than L1 alone"
    plots = [lines("The paper: Table 3's differences", series, x="beta", y=y)]
    found = list(evidence.of("ablations_table3"))
    own = [one for one in found if not one.source] or found
    notes = ["Figure 8 draws Table 3's differences: its verdicts are there."]
    if own:
        here: dict[str, list[tuple[float, float]]] = {}
        sets = str(own[0].record.values["scored_on"]).split(",")
        for dataset in sets:
            for one in ablations.compared([o.record for o in own], dataset):
                beta = recipes.ABLATIONS[3][one.row].beta
                here.setdefault(dataset, []).append((beta, one.to_first_db or 0.0))
        plots.append(lines("Here: means at a small budget", here, x="beta", y=y))
        if own[0].source:
            notes.append(f"Here: {own[0].source}.")
    best = {name: max(pairs, key=lambda pair: pair[1])[0] for name, pairs in series.items()}
    notes.append(
        "The paper's best beta by set: "
        + ", ".join(f"{name} {beta:g}" for name, beta in best.items())
        + "."
    )
    claim = "Quality rises, then falls with the weight of the high-frequency loss."
    return Section("Figure 8", claim, plots=plots, notes=notes)


def _figure9(evidence: Evidence) -> Section:
    """Gains of G-IDRN and RFDN-L over IMDN."""
    table = {(row.method, row.scale): row for row in published.table4()}
    rows, found_bars = [], []
    for scale in (2, 3, 4):
        for dataset in published.DATASETS:
            for method in ("G-IDRN", "RFDN-L"):
                own, base = (table[one, scale].scores[dataset] for one in (method, "IMDN"))
                psnr, ssim = own.psnr_db - base.psnr_db, own.ssim - base.ssim
                model = NAMES[method]
                ours, imdn = (evidence.quality(one, scale, dataset) for one in (model, "imdn"))
                start, paper = (f"{method}, x{scale}, {dataset}",), f"{psnr:+.2f} / {ssim:+.4f}"
                if ours is None or imdn is None:
                    missing = model if ours is None else "imdn"
                    why = evidence.why_no_quality(missing, scale, dataset)
                    rows.append(Row((*start, "", paper), "cannot", why))
                    continue
                gain, more = (
                    number(ours.record.values[key]) - number(imdn.record.values[key])
                    for key in ("psnr_db", "ssim")
                )
                verdict, why = gain_verdict(gain, psnr, why=quality_verdict(ours)[1])
                source = ours.source or imdn.source
                cells = (*start, f"{gain:+.3f} / {more:+.4f}", paper)
                rows.append(Row(cells, verdict, why, source))
                if method == "G-IDRN":
                    found_bars.append(Bar(f"x{scale} {dataset}", gain, psnr, is_ours=True))
    plots = [bars("G-IDRN's PSNR less IMDN's, dB", found_bars, unit="dB")] if found_bars else []
    claim = "G-IDRN gains over IMDN on every set and factor, and more than RFDN-L does."
    notes = ["agree: the gain in PSNR has the paper's sign."]
    header = ("method, scale, set", "here, PSNR / SSIM less IMDN's", "paper, less IMDN's")
    return Section("Figure 9", claim, header, rows, plots=plots, notes=notes)


def _milliseconds(entry: Record) -> noise.Estimate:
    return noise.estimate(frame_ms(entry))


def _latency(evidence: Evidence) -> Section | None:
    """Quality over the time it takes, for networks that were timed and scored."""
    points: list[Point] = []
    rows = []
    timed = [one.record.where.threads for kind in ("speed", "engines") for one in evidence.of(kind)]
    dataset = next((d for d in HERE if evidence.quality("gidrn", 4, d) is not None), HERE[0])
    for kind in ("engines", "speed"):
        for one in evidence.of(kind):
            what = one.record.what
            if one.source and any(not other.source for other in evidence.of(kind)):
                continue
            if kind == "engines" and what.engine != "native" and evidence.of("speed"):
                continue  # `speed` has it on the set's own frames
            score = evidence.quality(what.model, 4, dataset)
            if score is None or one.record.where.threads != timed[0]:
                continue
            label = f"{published.METHODS[what.model]} ({what.engine})"
            if label in {point.label for point in points}:
                continue
            estimate = _milliseconds(one.record)
            psnr_db = number(score.record.values["psnr_db"])
            points.append(Point(label, estimate.median, psnr_db, what.model == "gidrn"))
            rows.append((label, f"{estimate.in_words(1)}", f"{psnr_db:.3f}"))
    if len(points) < 2:
        return None
    plot = scatter(
        f"x4, a B100 frame: PSNR on {dataset} over latency", points, x="ms a frame", y="PSNR, dB"
    )
    return Section(
        "Latency and quality",
        "What a frame costs here, and what it gives: up and to the left is better.",
        plots=[plot],
        notes=[
            *([f"CPU threads: {timed[0]}."] if timed[0] is not None else []),
            *(f"{label}: {ms} ms, {db} dB." for label, ms, db in rows),
        ],
    )


def _by_engine(evidence: Evidence) -> Section | None:
    found = []
    notes = []
    for kind in ("engines", "speed"):
        for one in evidence.of(kind):
            what, threads = one.record.what, one.record.where.threads
            if one.source and any(not other.source for other in evidence.of(kind)):
                continue
            estimate = _milliseconds(one.record)
            batch = what.batch
            words = f"{published.METHODS[what.model]}, {what.engine}"
            if kind == "speed" and what.engine == "ort-cpu":
                words += ", B100"
            if threads is not None:
                words += f", {threads} thr."
            found.append(Bar(words, 1000 * batch / estimate.median, is_ours=what.model == "gidrn"))
            notes.append(f"{words}: {estimate.in_words(1)} ms, noise {estimate.noise:.0%}.")
    if not found:
        return None
    plot = bars("Frames per second of a B100-sized frame, x4", found, unit="FPS")
    return Section(
        "Speed by engine",
        "Frames per second, 1 / median of a frame end to end (on a GPU: on the device).",
        plots=[plot],
        notes=notes,
    )


def _memory(evidence: Evidence) -> Section | None:
    series: dict[str, list[tuple[float, float]]] = {}
    for one in evidence.of("memory"):
        what, values = one.record.what, one.record.values
        if what.size_hw is None or (one.source and series):
            continue
        form = f", {values['attention']}" if "attention" in values else ""
        label = f"{published.METHODS[what.model]}, {what.engine}{form}"
        megapixels = what.size_hw[0] * what.size_hw[1] / 1e6
        series.setdefault(label, []).append((megapixels, number(values["peak_memory_mib"])))
    if not series:
        return None
    notes = [
        f"{label}: " + ", ".join(f"{mib:,.0f} MiB at {mp:.3f} Mpx" for mp, mib in pairs) + "."
        for label, pairs in series.items()
    ]
    plot = lines(
        "Peak memory of a process over the frame's size, x4",
        series,
        x="megapixels in",
        y="MiB",
        is_log=True,
    )
    return Section(
        "Memory by size",
        "The whole process, Python and libraries included, after one frame.",
        plots=[plot],
        notes=notes,
    )
