"""The loss, the data and the protocol: what Sections 2.4, 3.1 and 3.2 say, and what others say."""

from __future__ import annotations

import dataclasses

from benchmarks import published
from benchmarks.contradictions.finding import Finding, judged
from gidrn.losses import HighFrequencyLoss


def weights_of_the_losses() -> Finding:
    """Section 3.3's last sentence swaps Section 3.2's weights."""
    prose = published.prose()
    alpha, beta = prose["alpha"].value, prose["beta"].value
    swapped = prose["chosen_weight_l1"]
    rows = {
        (row.alpha, row.beta): sum(row.psnr_db.values()) / len(row.psnr_db)
        for row in published.table3()
    }
    chosen, other = (alpha, beta), (swapped.value, prose["chosen_weight_hf"].value)
    ours = HighFrequencyLoss()
    return Finding(
        "Which loss has which weight",
        f"Section 3.2 and Table 3 against {swapped.place}",
        (f"{prose['alpha'].words}; {prose['beta'].words}", swapped.words),
        f"Table 3's mean over the five sets: {rows[chosen]:.3f} dB with {alpha:g} on L1, "
        f"{rows[other]:.3f} dB with {swapped.value:g} on L1; the best row is alpha = "
        f"{max(rows, key=lambda key: rows[key])[0]:g}",
        judged(chosen == other),
        f"the default is Table 3's best row: {ours.alpha:g} on L1, {ours.beta:g} on the "
        "high-frequency term; both are parameters",
    )


def sum_or_mean() -> Finding:
    """Eq. 11 and 12 sum over an image what the text calls a mean."""
    prose = published.prose()
    side, scale = int(prose["patch"].value), 2
    values = 3 * (scale * side) ** 2
    return Finding(
        "Sum or mean of absolute errors",
        "Section 2.4 against Equations 11 and 12",
        (
            "L1 and the high-frequency loss are mean absolute errors",
            "Eq. 11 and 12 divide the L1 norm by N, the number of images, alone",
        ),
        f"for a crop of {side}x{side} at x{scale} the norm has {values:,} terms: the equation's "
        f"loss is {values:,} times the mean; both terms are so, and Adam's steps do not depend on "
        "a common factor",
        "contradiction" if values > 1 else "consistent",
        "means, as the text says; the weights of the two losses mean the same either way",
    )


def images_of_div2k() -> Finding:
    """DIV2K's parts add up."""
    prose = published.prose()
    parts = [prose[f"div2k_{part}"].value for part in ("train", "validation", "test")]
    total = prose["div2k_images"].value
    return Finding(
        "Images of DIV2K",
        "Section 3.1",
        (
            prose["div2k_images"].words,
            "; ".join(prose[f"div2k_{part}"].words for part in ("train", "validation", "test")),
        ),
        f"{' + '.join(f'{part:.0f}' for part in parts)} = {sum(parts):.0f}",
        judged(sum(parts) == total),
        "`python -m gidrn.train --data DIV2K` takes the folder of training images",
    )


def batch_of_table_6() -> Finding:
    """Table 6 times another batch than the one trained with."""
    prose = published.prose()
    trained, timed = prose["training_batch"], prose["table6_batch"]
    seconds = next(
        row.train_s_per_100_iter or 0.0 for row in published.table6() if row.method == "G-IDRN"
    )
    hours = seconds / 100 * 1e6 / 3600
    return Finding(
        "Crops a training step",
        f"{trained.place} against {timed.place}",
        (trained.words, timed.words),
        f"{timed.value:.0f} of {trained.value:.0f}: Table 6's {seconds} s are not those of the "
        f"training itself. A million such steps take {hours:.0f} hours",
        "consistent",
        "`benchmarks/train_speed.py` takes Table 6's 16 crops, the recipe `paper_x4` the 32",
    )


def measures_of_table_2() -> Finding:
    """Section 3.3 says that Table 2 gives PSNR and SSIM."""
    columns = {field.name.split("_")[0] for field in dataclasses.fields(published.Table2Row)}
    measures = columns & {"psnr", "ssim"}
    return Finding(
        "Measures of Table 2",
        "Section 3.3 3) against Table 2",
        (
            "Table 2 gives PSNR and SSIM",
            f"its columns give {' and '.join(sorted(measures)).upper()}, and memory",
        ),
        f"{2 - len(measures)} of the two measures is missing",
        judged(measures == {"psnr", "ssim"}),
        "`benchmarks/ablations.py` scores PSNR; `benchmarks/quality.py` both",
    )


CHECKS = (
    *(weights_of_the_losses, sum_or_mean, images_of_div2k, batch_of_table_6),
    measures_of_table_2,
)
