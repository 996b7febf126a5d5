"""Memory and time: Tables 2 and 6 against each other, the text and the networks' multiply-adds."""

from __future__ import annotations

from benchmarks import published
from benchmarks.contradictions.finding import Finding, judged
from benchmarks.contradictions.sizes import counted
from gidrn.networks.gidrn import GIDRNConfig

MIB = 2**20

B100_PIXELS = 80 * 120
"""Of a low-resolution image of B100 at x4, of which all are 321x481 or 481x321."""

PEAK_TFLOPS = 3584 * 1.582e9 * 2 / 1e12
"""Of a GTX 1080 Ti: cores, boost clock and two operations a fused multiply-add, by its maker."""


def matrices_of_table_2() -> Finding:
    """Table 2's memory from two N x S matrices of FP32 over the network without ANRB."""
    rows = published.table2()
    none = next(row for row in rows if row.samples == "none")
    rests, terms = [], []
    fits = True
    for row in rows:
        if row is none:
            continue
        for side, printed in row.memory_mb.items():
            pixels = side * side
            samples = pixels if row.samples == "infinite" else int(row.samples)
            matrices = 2 * pixels * samples * 4 / MIB
            rest = printed - none.memory_mb[side] - matrices
            feature_map = GIDRNConfig().channels * pixels * 4 / MIB
            fits &= 0 <= rest <= feature_map
            rests.append(rest)
            if row.samples in ("110", "infinite"):
                terms.append(
                    f"{side}x{side}, S = {samples:,}: {none.memory_mb[side]} + {matrices:,.1f} = "
                    f"{none.memory_mb[side] + matrices:,.1f}, printed {printed:,}"
                )
    return Finding(
        "Memory of ANRB's attention",
        "Table 2 against Equation 9",
        (
            f"Table 2: {', '.join(str(row.memory_mb[128]) for row in rows)} MB at 128x128 and "
            f"{', '.join(str(row.memory_mb[180]) for row in rows)} MB at 180x180",
            "Eq. 9 holds the products of N queries with S keys, and their softmax: two N x S "
            "matrices",
        ),
        "in MiB, two matrices of FP32 over the row without ANRB: "
        + "; ".join(terms)
        + f"; what is left is {min(rests):.1f} to {max(rests):.1f} MiB in all rows, less than one "
        "feature map of 72 channels",
        judged(fits),
        "measured with both forms of the attention by `benchmarks/sampling_memory.py`; the curve "
        "holds no such matrix",
    )


def growth_of_memory() -> Finding:
    """Memory without sampling is said to grow exponentially."""
    rows = {row.samples: row.memory_mb for row in published.table2()}
    added = {side: rows["infinite"][side] - rows["none"][side] for side in (128, 180)}
    grown, quartic = added[180] / added[128], (180 / 128) ** 4
    return Finding(
        "Growth of memory without sampling",
        "Section 3.3 3) against Table 2 and Equation 9",
        (
            "without sampling, memory grows exponentially with the image",
            f"Table 2: {added[128]:,} MB more at 128x128 and {added[180]:,} MB at 180x180; Eq. 9 "
            "has N x N weights",
        ),
        f"{added[180]:,} / {added[128]:,} = {grown:.2f}; (180 / 128)^4 = {quartic:.2f}: the square "
        "of the number of pixels, which is no exponential",
        judged(abs(grown / quartic - 1) > 0.01),
        "said here to grow with the square of the number of pixels",
    )


def manga109_overflows() -> Finding:
    """Whether Manga109's images without sampling fit the GPU."""
    prose = published.prose()
    height, width, have = (
        prose[key] for key in ("manga109_height", "manga109_width", "gpu_memory")
    )
    pixels = int(height.value * width.value)
    need = 2 * pixels**2 * 4 / 2**30
    return Finding(
        "Manga109 without sampling",
        height.place,
        (f"{height.words}", have.words),
        f"N = {height.value:.0f} x {width.value:.0f} = {pixels:,}; two N x N matrices of FP32 are "
        f"{need:,.0f} GiB, {need / have.value:.0f} times the card's memory",
        judged(need > have.value),
        "the curve form needs no such matrix and runs this size: `benchmarks/sampling_memory.py`",
    )


def frames_per_second() -> Finding:
    """The abstract's FPS and times, from Table 6."""
    prose = published.prose()
    seconds = {row.method: row.inference_s for row in published.table6()}
    ours = seconds["G-IDRN"]
    fps = 1 / ours
    rcan, edsr = seconds["RCAN"] / ours, seconds["EDSR"] / ours
    return Finding(
        "56 FPS, 15 times and 12 times",
        "Abstract and Section 3.5 against Table 6",
        (
            "; ".join(prose[key].words for key in ("fps", "times_rcan", "times_edsr")),
            "Table 6: "
            + ", ".join(f"{name} {seconds[name]} s" for name in ("G-IDRN", "RCAN", "EDSR")),
        ),
        f"1 / {ours} = {fps:.1f} FPS; {seconds['RCAN']} / {ours} = {rcan:.1f}; "
        f"{seconds['EDSR']} / {ours} = {edsr:.1f}",
        judged(
            int(fps) == prose["fps"].value
            and round(rcan) == prose["times_rcan"].value
            and round(edsr) == prose["times_edsr"].value
        ),
        "`benchmarks/fps.py` measures all of them in turns in one run",
    )


def order_of_times() -> Finding:
    """What Section 3.5 says of Table 6's order."""
    rows = {row.method: row for row in published.table6()}
    fastest = min(rows, key=lambda method: rows[method].inference_s)
    training = {m: row.train_s_per_100_iter for m, row in rows.items() if row.train_s_per_100_iter}
    slowest = max(training, key=lambda method: training[method] or 0.0)
    better = rows["IDRN"].psnr_db > rows["G-IDRN"].psnr_db
    return Finding(
        "Order of times in Table 6",
        "Section 3.5 against Table 6",
        (
            "G-IDRN is fastest at inference and slow to train; without groups PSNR and training "
            "time are better and inference slower",
            "Table 6: training "
            + ", ".join(f"{method} {seconds} s" for method, seconds in training.items())
            + "; inference "
            + ", ".join(f"{method} {row.inference_s} s" for method, row in rows.items()),
        ),
        f"fastest at inference: {fastest}; slowest to train: {slowest}; IDRN against G-IDRN: PSNR "
        f"{rows['IDRN'].psnr_db - rows['G-IDRN'].psnr_db:+.2f} dB, inference "
        f"{rows['IDRN'].inference_s / rows['G-IDRN'].inference_s:.2f} times as long",
        judged(fastest == "G-IDRN" and slowest == "G-IDRN" and better),
        "on the CPUs measured here the order is another one, which README tells",
    )


def throughput_of_table_6() -> Finding:
    """Multiply-adds a second that Table 6's two times imply for each network."""
    prose = published.prose()
    pixels = prose["table6_batch"].value * prose["patch"].value ** 2
    names = {method: name for name, method in published.METHODS.items()}
    rows = {row.method: row for row in published.table6()}
    parts, trained, ratios = [], [], {}
    for row in rows.values():
        if row.train_s_per_100_iter is None:
            continue
        each = 2 * counted(names[row.method], row.scale).multiply_adds / (256 * 256)
        training = 3 * each * pixels / (row.train_s_per_100_iter / 100) / 1e12
        inference = each * B100_PIXELS / row.inference_s / 1e12
        trained.append(training)
        ratios[row.method] = training / inference
        parts.append(f"{row.method} {training:.1f} and {inference:.2f}")
    most, least = max(ratios, key=lambda m: ratios[m]), min(ratios, key=lambda m: ratios[m])
    return Finding(
        "Speed that Table 6's two columns imply",
        "Table 6 against itself",
        (
            f"100 training steps take IDRN {rows['IDRN'].train_s_per_100_iter} s and G-IDRN "
            f"{rows['G-IDRN'].train_s_per_100_iter} s",
            f"an image takes IDRN {rows['IDRN'].inference_s} s and G-IDRN "
            f"{rows['G-IDRN'].inference_s} s",
        ),
        "TFLOP/s (2 a multiply-add; a step is 3 forward passes) in training and in inference: "
        + ", ".join(parts)
        + f"; the two differ by {ratios[most]:.1f} times for {most} and {ratios[least]:.1f} times "
        f"for {least} on one card of {PEAK_TFLOPS:.1f} TFLOP/s. Inference is far from the card's "
        "rate, and yet goes with the multiply-adds, while training does not; how it was timed is "
        "not told",
        "contradiction" if max(trained) > PEAK_TFLOPS else "cannot be decided",
        "`benchmarks/fps.py` and `benchmarks/train_speed.py` measure both on the user's device, "
        "and say what stands inside the clock",
    )


CHECKS = (
    *(matrices_of_table_2, growth_of_memory, manga109_overflows),
    *(frames_per_second, order_of_times, throughput_of_table_6),
)
