"""The paper's Tables 1 to 6 beside what was measured."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import ablations, complexity, fps, noise, published, quality
from benchmarks.records import Record, Value
from benchmarks.report_evidence import Evidence, Found
from benchmarks.report_plots import Bar, bars
from benchmarks.report_section import Row, Section, Verdict
from gidrn import recipes

NAMES = {method: name for name, method in published.METHODS.items()}
"""Our name for each of the paper's methods."""

MILLION = "a million training steps, days on a GPU: no figure from here"

MEMORY_TOLERANCE, SAMPLED_TOLERANCE = 0.03, 0.3
"""Share within which the attention's counted memory agrees with a printed growth: of gigabytes, and
of the few MB of the sampled forms, which an allocator rounds up."""

SSIM_TOLERANCE = 0.0005
"""How far a network may be from a printed SSIM."""

GAP_1X1 = 144 * 72 + 72
"""Parameters of one 1x1 convolution 144 -> 72: what Table 1's last row has too many."""


def number(value: Value) -> float:
    """A record's value that is a number. Raises TypeError for another."""
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def all_tables(evidence: Evidence) -> list[Section]:
    """Tables 1 to 6."""
    return [
        table1(evidence),
        *table2(evidence),
        table3(evidence),
        *table4(evidence),
        table5(evidence),
        table6(evidence),
    ]


def table1(evidence: Evidence) -> Section:
    """Parts of the network, one by one."""
    counted = {
        str(one.record.values["row"]): one
        for one in evidence.of("ablation_counts")
        if one.record.values["table"] == 1
    }
    rows = []
    for (name, _), printed in zip(recipes.ABLATIONS[1].items(), published.table1(), strict=True):
        parts = (printed.dual_path, printed.dense_shortcut, printed.anrb)
        what = (printed.block, *("yes" if part else "-" for part in parts))
        paper = f"{printed.params_k:.1f}"
        if name not in counted:
            why = evidence.why_not("ablation_counts")
            rows.append(Row((*what, "parameters, K", "", paper), "cannot", why))
            continue
        one = counted[name]
        here = number(one.record.values["parameters"])
        verdict: Verdict = "agree" if f"{here / 1000:.1f}" == paper else "differ"
        why = ""
        if verdict == "differ":
            gap = printed.params_k * 1000 - here
            why = f"{gap:+,.0f} parameters in the paper"
            if abs(gap - GAP_1X1) < 50:
                why += f": one 1x1 convolution 144 to 72 ({GAP_1X1:,}), which no text explains"
        rows.append(
            Row((*what, "parameters, K", f"{here / 1000:.1f}", paper), verdict, why, one.source)
        )
    directions = _directions(evidence, 1)
    for (name, _), printed in zip(recipes.ABLATIONS[1].items(), published.table1(), strict=True):
        parts = (printed.dual_path, printed.dense_shortcut, printed.anrb)
        what = (printed.block, *("yes" if part else "-" for part in parts), "PSNR on Set5, dB")
        rows.append(_direction_row(what, name, f"{printed.psnr_db['Set5']:.3f}", directions, 1))
    return Section(
        "Table 1",
        "What the dual path, the dense shortcut, ANRB and G-IDB each add to RFDN at x2.",
        ("block", "dual path", "DS", "ANRB", "quantity", "here", "paper"),
        rows,
        notes=["The shortcuts' scalars are not counted, as in the paper.", *_budget(evidence, 1)],
    )


def table2(evidence: Evidence) -> list[Section]:
    """Points that ANRB samples: quality, and memory in a section of its own."""
    directions = _directions(evidence, 2)
    rows = [
        _direction_row(
            (f"S = {_points(printed.samples)}",),
            name,
            " / ".join(
                f"{printed.psnr_db[one]:.3f}" if one in printed.psnr_db else "out of memory"
                for one in ("Set5", "Manga109")
            ),
            directions,
            2,
        )
        for name, printed in zip(recipes.ABLATIONS[2], published.table2(), strict=True)
    ]
    quality_of = Section(
        "Table 2",
        "Sampling 110 points by a pyramid is best; sampling more does not help.",
        ("points", "here, to no ANRB, dB", "paper, Set5 / Manga109 dB"),
        rows,
        notes=_budget(evidence, 2),
    )
    return [quality_of, _table2_memory(evidence)]


def _table2_memory(evidence: Evidence) -> Section:
    found = {
        (str(r.values["row"]), str(r.values["attention"]), r.what.size_hw): r
        for one in evidence.of("ablation_counts")
        if (r := one.record).values["table"] == 2
    }
    rows, notes = [], []
    base_mb = published.table2()[0].memory_mb
    for name, printed in zip(recipes.ABLATIONS[2], published.table2(), strict=True):
        for side in (128, 180):
            first = "none" if printed.samples == "none" else "exact"
            exact, curve = (found.get((name, how, (side, side))) for how in (first, "curve"))
            paper = printed.memory_mb[side]
            start = (f"S = {_points(printed.samples)}", f"{side}x{side}")
            grown = f"{paper - base_mb[side]:+,}"
            if exact is None:
                cells = (*start, *[""] * 4, f"{paper:,}", grown)
                rows.append(Row(cells, "cannot", evidence.why_not("ablation_counts")))
                continue
            alone = [_mib(one, "attention_mib") if one else "" for one in (exact, curve)]
            whole = [f"{_held_mib(one):,.0f}" if one else "" for one in (exact, curve)]
            cells = (*start, *whole, *alone, f"{paper:,}", grown)
            verdict, why = _memory_verdict(exact, paper - base_mb[side])
            rows.append(Row(cells, verdict, why))
    for (name, form, size_hw), one in found.items():
        if one.values.get("ran_s") is not None and size_hw is not None:
            exact = found.get((name, "exact", size_hw))
            needs = f" ({_held_mib(exact) / 1024:,.0f} GiB in the exact form)" if exact else ""
            notes.append(
                f"S = all points at {size_hw[0]}x{size_hw[1]}, where the paper ran out of 11 GB"
                f"{needs}: as a {form} it holds {_held_mib(one):,.0f} MiB and ran here in "
                f"{number(one.values['ran_s']):.1f} s."
            )
    notes.append(
        "Memory here is counted, not measured: weights, and all tensors that PyTorch's operations "
        "hold at once. The paper's has the allocator and CUDA's libraries in it: its growth "
        "over the row without ANRB is compared with what the attention alone holds beside its "
        f"input: agree within {SAMPLED_TOLERANCE:.0%} (allocators round), and "
        f"{MEMORY_TOLERANCE:.0%} for all points. The curve is this project's form of the same "
        "attention."
    )
    header = (
        *("points", "input", "here, exact MiB", "here, curve MiB", "attention alone, exact"),
        *("attention alone, curve", "paper, MB", "paper, growth"),
    )
    claim = "Pyramid sampling keeps ANRB's memory small; attention over all points does not fit."
    return Section("Table 2, memory", claim, header, rows, notes=notes)


def _points(samples: str) -> str:
    return {"none": "no ANRB", "infinite": "all points"}.get(samples, samples)


def _mib(entry: Record, name: str) -> str:
    return f"{number(entry.values[name]):,.1f}"


def _held_mib(entry: Record) -> float:
    return number(entry.values["activations_mib"]) + number(entry.values["weights_mib"])


def _memory_verdict(entry: Record, grown_mb: int) -> tuple[Verdict, str]:
    """Whether the attention alone holds what the paper's memory grew by."""
    if entry.values["attention"] == "none":
        return "cannot", "the paper's figure has the allocator and CUDA's libraries in it"
    alone = number(entry.values["attention_mib"])
    tolerance = MEMORY_TOLERANCE if grown_mb > 1000 else SAMPLED_TOLERANCE
    off = alone / grown_mb - 1
    if abs(off) <= tolerance:
        return "agree", f"{off:+.0%}: two matrices of all pixels by the points"
    return "differ", f"{off:+.0%}"


def table3(evidence: Evidence) -> Section:
    """Weights of the two losses."""
    directions = _directions(evidence, 3)
    rows = []
    for (name, _), printed in zip(recipes.ABLATIONS[3].items(), published.table3(), strict=True):
        scores = " / ".join(f"{printed.psnr_db[one]:.3f}" for one in published.DATASETS)
        what = (f"{printed.alpha}", f"{printed.beta}")
        rows.append(_direction_row(what, name, scores, directions, 3))
    return Section(
        "Table 3",
        "The high-frequency loss helps on every set, most at weights 0.4 and 0.6.",
        (
            "alpha (L1)",
            "beta (high)",
            "here, to L1 alone, dB",
            "paper: " + " / ".join(published.DATASETS),
        ),
        rows,
        notes=_budget(evidence, 3),
    )


def _directions(evidence: Evidence, table: int) -> dict[str, tuple[ablations.Compared, str]]:
    """Each row of a table trained at a small budget, by name, with its source."""
    found = list(evidence.of(f"ablations_table{table}"))
    own = [one for one in found if not one.source] or found
    if not own:
        return {}
    compared = ablations.compared([one.record for one in own], ablations.HELD_OUT)
    return {one.row: (one, own[0].source) for one in compared}


def _direction_row(
    what: tuple[str, ...],
    name: str,
    paper: str,
    directions: dict[str, tuple[ablations.Compared, str]],
    table: int,
) -> Row:
    """A row that wants training: which way it points at a small budget, or why there is nothing."""
    if name not in directions:
        return Row((*what, "", paper), "cannot", MILLION)
    one, source = directions[name]
    if one.to_first_db is None:
        return Row((*what, "first row", paper), "cannot", MILLION, source)
    here = f"{one.to_first_db:+.3f} ({one.direction})"
    if one.direction.startswith("agrees"):
        return Row((*what, here, paper), "agree", "by its direction at a small budget", source)
    if one.direction.startswith("opposite"):
        why = "another direction at a small budget, which need not be that of a million steps"
        return Row((*what, here, paper), "differ", why, source)
    why = f"no direction at a small budget ({one.direction}); {MILLION}"
    return Row((*what, here, paper), "cannot", why, source)


def _budget(evidence: Evidence, table: int) -> list[str]:
    """What the directions are worth."""
    found = list(evidence.of(f"ablations_table{table}"))
    if not found:
        return [
            f"No row of Table {table} was trained: {evidence.why_not(f'ablations_table{table}')}."
        ]
    values = found[0].record.values
    seeds = {one.record.values["seed"] for one in found}
    return [
        f"Directions: each row trained for {values['steps']:,} steps of {values['batch']} crops of "
        f"{values['patch']}x{values['patch']} with {len(seeds)} seeds, PSNR on photos held out, "
        f"beside the paper's on Set5. {ablations.PAPER_BUDGET} Read the sign, not the digits."
    ]


def table4(evidence: Evidence) -> list[Section]:
    """Quality of every method, and its parameters in a section of its own."""
    rows = []
    for printed in published.table4():
        name = NAMES.get(printed.method, "")
        for dataset, score in printed.scores.items():
            start = (printed.method, f"x{printed.scale}", dataset)
            found = evidence.quality(name, printed.scale, dataset)
            paper = (f"{score.psnr_db:.2f}", f"{score.ssim:.4f}")
            if found is None:
                why = evidence.why_no_quality(name, printed.scale, dataset)
                rows.append(Row((*start, "", paper[0], "", paper[1]), "cannot", why))
                continue
            values = found.record.values
            cells = (
                *start,
                *(f"{number(values['psnr_db']):.3f}", paper[0]),
                *(f"{number(values['ssim']):.4f}", paper[1]),
            )
            rows.append(Row(cells, *quality_verdict(found), found.source))
    counted = [
        _parameters_row(evidence, printed.method, printed.scale, printed.params_k, 4)
        for printed in published.table4()
        if printed.params_k is not None
    ]
    scores = Section(
        "Table 4",
        "G-IDRN has the best PSNR and SSIM of the lightweight networks on five sets.",
        ("method", "scale", "set", "here, PSNR dB", "paper, PSNR", "here, SSIM", "paper, SSIM"),
        rows,
        notes=[
            f"agree: PSNR within {quality.PSNR_TOLERANCE_DB} dB of the printed one (bicubic "
            f"{quality.BICUBIC_TOLERANCE_DB} dB and SSIM), on Y, a border of as many pixels as the "
            "factor cut. PSNR and SSIM are deterministic: they have no noise."
        ],
    )
    parameters = Section(
        "Table 4, parameters",
        "G-IDRN has fewer parameters than the networks that come near it.",
        ("method", "scale", "here, K", "paper, K"),
        counted,
        notes=["agree: to the printed thousand, be it rounded or cut off."],
    )
    return [scores, parameters]


def quality_verdict(found: Found) -> tuple[Verdict, str]:
    """What `quality` said of a score."""
    said = str(found.record.values.get("verdict", "agrees"))
    return ("agree", "") if said == "agrees" else ("differ", said)


def _parameters_row(
    evidence: Evidence, method: str, scale: int, printed_k: float, table: int
) -> Row:
    name = NAMES.get(method, "")
    found = evidence.counts(name, scale) if name else None
    start = (method, f"x{scale}")
    if found is None:
        return Row((*start, "", f"{printed_k:g}"), "cannot", evidence.why_not("counts"))
    here = number(found.record.values["parameters"])
    said = str(found.record.values.get(f"verdict Table {table} params_k", "agree"))
    cells = (*start, f"{here / 1000:,.1f}", f"{printed_k:g}")
    if said == "agree":
        return Row(cells, "agree", "", found.source)
    return Row(cells, "differ", said.removeprefix("differ").removeprefix(": "), found.source)


def table5(evidence: Evidence) -> Section:
    """Multiply-adds, and quality on Set14."""
    rows, shown = [], []
    for printed in published.table5():
        name = complexity.IN_TABLE_5.get(printed.method, "")
        found = evidence.counts(name, printed.scale)
        start = (printed.method, f"x{printed.scale}")
        if found is None:
            why = evidence.why_not("counts")
            rows.append(
                Row((*start, "multiply-adds, G", "", f"{printed.flops_g:.2f}"), "cannot", why)
            )
            continue
        here = number(found.record.values["multiply_adds"]) / 1e9
        verdict: Verdict = (
            "agree"
            if complexity.agrees_in_billions(round(here * 1e9), printed.flops_g)
            else "differ"
        )
        cells = (*start, "multiply-adds, G", f"{here:.3f}", f"{printed.flops_g:.2f}")
        rows.append(Row(cells, verdict, "", found.source))
        shown.append(Bar(printed.method, here, printed.flops_g, is_ours=name == "gidrn"))
    for printed in published.table5():
        for kind, digits, paper in (
            ("psnr_db", 2, printed.set14_psnr_db),
            ("ssim", 4, printed.set14_ssim),
        ):
            if paper is not None:
                rows.append(_set14_row(evidence, printed, kind, digits, paper))
    plots = [bars("Multiply-adds at a 256x256 input, billions", shown, unit="G")] if shown else []
    return Section(
        "Table 5",
        "G-IDRN needs the fewest multiply-adds and has the best quality on Set14 at x4.",
        ("method", "scale", "quantity", "here", "paper"),
        rows,
        plots=plots,
        notes=[
            f"agree: multiply-adds within {complexity.FLOPS_TOLERANCE:.1%} by AIM 2020's rule; "
            f"PSNR within {quality.PSNR_TOLERANCE_DB} dB, SSIM within {SSIM_TOLERANCE}."
        ],
    )


def _set14_row(
    evidence: Evidence, printed: published.Table5Row, kind: str, digits: int, paper: float
) -> Row:
    """Table 5's PSNR or SSIM on Set14."""
    name = complexity.IN_TABLE_5.get(printed.method, "")
    quantity = f"Set14, {'PSNR dB' if kind == 'psnr_db' else 'SSIM'}"
    start = (printed.method, f"x{printed.scale}", quantity)
    score = evidence.quality(name, printed.scale, "Set14")
    if score is None:
        why = evidence.why_no_quality(name, printed.scale, "Set14")
        return Row((*start, "", f"{paper:.{digits}f}"), "cannot", why)
    value = number(score.record.values[kind])
    tolerance = quality.PSNR_TOLERANCE_DB if kind == "psnr_db" else SSIM_TOLERANCE
    is_near = abs(value - paper) <= tolerance
    shown = 3 if kind == "psnr_db" else 4
    cells = (*start, f"{value:.{shown}f}", f"{paper:.{digits}f}")
    why = "" if is_near else f"{value - paper:+.{shown}f}"
    if not is_near and ": " in (said := quality_verdict(score)[1]):
        why += f": {said.split(': ', 1)[1]}"
    return Row(cells, "agree" if is_near else "differ", why, score.source)


def table6(evidence: Evidence) -> Section:
    """Time of inference and of training."""
    rows: list[Row] = []
    engines = _engines(evidence)
    reference = next(r for r in published.table6() if r.method == published.METHODS["gidrn"])
    for printed in published.table6():
        name = NAMES.get(printed.method, "")
        rows.append(_seconds_row(evidence, printed))
        if name == "gidrn":
            continue
        paper = printed.inference_s / reference.inference_s
        for engine in engines or [""]:
            rows.append(_time_row(evidence, printed.method, name, engine, paper))
        rows.append(_best_row(evidence, printed.method, name, paper))
    for printed in published.table6():
        rows += _train_rows(evidence, printed)
    for printed in published.table6():
        name = NAMES.get(printed.method, "")
        score = evidence.quality(name, printed.scale, printed.dataset)
        paper_words = f"{printed.psnr_db:.2f} / {printed.ssim:.4f}"
        start = (printed.method, f"{printed.dataset}, PSNR / SSIM")
        if score is None:
            why = evidence.why_no_quality(name, printed.scale, printed.dataset)
            rows.append(Row((*start, "", paper_words), "cannot", why))
        else:
            v = score.record.values
            here = f"{number(v['psnr_db']):.3f} / {number(v['ssim']):.4f}"
            rows.append(Row((*start, here, paper_words), *quality_verdict(score), score.source))
        count = _parameters_row(evidence, printed.method, printed.scale, printed.params_k, 6)
        cells = (printed.method, "parameters, K", *count.cells[2:])
        rows.append(Row(cells, count.verdict, count.why, count.source))
    order = [row.method for row in published.table6()]
    rows = sorted((row for row in rows if row.cells[1]), key=lambda row: order.index(row.cells[0]))
    return Section(
        "Table 6",
        "G-IDRN is the fastest in inference at x4 on B100 and slow in training.",
        ("method", "quantity", "here", "paper"),
        rows,
        notes=[
            "Ratios are medians over pairs in turns on one machine, with the interval in which "
            f"the median lies with {noise.CONFIDENCE:.0%}, both halves of the run in it. agree: "
            "the same network is the faster one. cannot: the interval holds 1, so that the machine "
            "was too noisy for the claim, or the two are too near each other."
        ],
        warnings=_time_warnings(evidence),
    )


def _seconds_row(evidence: Evidence, printed: published.Table6Row) -> Row:
    """Seconds a frame here beside those of the paper's GPU, which nothing here can confirm."""
    name = NAMES.get(printed.method, "")
    why = f"seconds of a {printed.gpu}, which is not this machine: ratios are compared"
    found = evidence.first("speed", lambda r: r.what.model == name)
    here, source = "", ""
    if found is not None:
        seconds = noise.estimate([ms / 1000 for ms in frame_ms(found.record)])
        here = f"{seconds.in_words(4)}, {found.record.what.engine}"
        source = found.source
    return Row(
        (printed.method, "inference, s", here, f"{printed.inference_s:.4f}"), "cannot", why, source
    )


def frame_ms(entry: Record) -> Sequence[float]:
    """Milliseconds a run: on the device where they were taken, else end to end."""
    names = [figure.name for figure in entry.figures]
    return entry.figure("device_ms" if "device_ms" in names else "end_to_end_ms").samples


def _engines(evidence: Evidence) -> list[str]:
    return list(dict.fromkeys(one.record.what.engine for one in evidence.of("speed")))


def ratio_verdict(ratios: Sequence[float], paper: float) -> tuple[Verdict, str, noise.Estimate]:
    """Whether a time over G-IDRN's says the same as the paper's, given how noisy it is."""
    found = noise.estimate(ratios)
    if found.low <= 1 <= found.high:
        return "cannot", "too noisy for the claim, or too near: the interval holds 1", found
    if (found.median > 1) == (paper > 1):
        return "agree", "the same network is the faster one", found
    return "differ", "the other network is the faster one on this device", found


def _time_row(evidence: Evidence, method: str, name: str, engine: str, paper: float) -> Row:
    quantity = f"time / G-IDRN's{f', both on {engine}' if engine else ''}"
    found = evidence.first(
        "speed",
        lambda r: (r.what.model, r.what.engine) == (name, engine) and _has_ratio(r),
    )
    if found is None:
        part = "speed_slow" if name in ("edsr", "rcan") else "speed"
        why = evidence.why_not(part)
        return Row((method, quantity, "", f"{paper:.2f}"), "cannot", why)
    names = [figure.name for figure in found.record.figures]
    of_device = f"device_over_{fps.REFERENCE}"
    figure = of_device if of_device in names else f"time_over_{fps.REFERENCE}"
    verdict, why, estimate = ratio_verdict(found.record.figure(figure).samples, paper)
    return Row((method, quantity, estimate.in_words(2), f"{paper:.2f}"), verdict, why, found.source)


def _has_ratio(entry: Record) -> bool:
    return any(figure.name == f"time_over_{fps.REFERENCE}" for figure in entry.figures)


def _best_row(evidence: Evidence, method: str, name: str, paper: float) -> Row:
    """G-IDRN on the native engine against another on ONNX Runtime; none where not compared."""
    own = evidence.first("engines", lambda r: (r.what.model, r.what.engine) == ("gidrn", "native"))
    other = evidence.first(
        "engines",
        lambda r: (
            (r.what.model, r.what.engine) == (name, "ort-cpu")
            and own is not None
            and r.where.threads == own.record.where.threads
        ),
    )
    if own is None or other is None:
        return Row(("", "", "", ""), "cannot")
    pairs = zip(
        other.record.figure("end_to_end_ms").samples,
        own.record.figure("end_to_end_ms").samples,
        strict=True,
    )
    verdict, why, estimate = ratio_verdict([a / b for a, b in pairs], paper)
    quantity = "time on ort-cpu / G-IDRN's on its own engine"
    return Row((method, quantity, estimate.in_words(2), f"{paper:.2f}"), verdict, why, other.source)


def _train_rows(evidence: Evidence, printed: published.Table6Row) -> list[Row]:
    if printed.train_s_per_100_iter is None:
        return []
    name = NAMES.get(printed.method, "")
    reference = next(r for r in published.table6() if r.method == published.METHODS["gidrn"])
    assert reference.train_s_per_100_iter is not None
    paper = printed.train_s_per_100_iter / reference.train_s_per_100_iter

    def plain(entry: Record, model: str) -> bool:
        values = entry.values
        return (entry.what.model, values["table"], values["form"]) == (model, "networks", "eager")

    found = evidence.first("train_speed", lambda r: plain(r, name))
    own = evidence.first("train_speed", lambda r: plain(r, "gidrn"))
    quantity = "training of 100 steps, s" if name == "gidrn" else "training time / G-IDRN's"
    shown = f"{printed.train_s_per_100_iter:.1f}" if name == "gidrn" else f"{paper:.2f}"
    if found is None or own is None:
        why = evidence.why_not("train_speed")
        return [Row((printed.method, quantity, "", shown), "cannot", why)]
    if name == "gidrn":
        here = noise.estimate(own.record.figure("s_per_100_steps").samples).in_words(1)
        why = f"seconds of a {printed.gpu}, which is not this machine: ratios are compared"
        return [Row((printed.method, quantity, here, shown), "cannot", why, own.source)]
    ratios = [
        a / b
        for a, b in zip(
            found.record.figure("s_per_100_steps").samples,
            own.record.figure("s_per_100_steps").samples,
            strict=True,
        )
    ]
    verdict, why, estimate = ratio_verdict(ratios, paper)
    cells = (printed.method, quantity, estimate.in_words(2), shown)
    return [Row(cells, verdict, why, found.source)]


def _time_warnings(evidence: Evidence) -> list[str]:
    """What disturbed the parts that measure time."""
    found = []
    for part, entries in evidence.by_part.items():
        if part not in ("speed", "speed_slow", "engines", "train_speed"):
            continue
        if reasons := noise.disturbances_of(entries):
            found.append(f"{evidence.titles[part]}: {'; '.join(reasons)}")
    return found
