"""Training recipes: everything that decides what a run learns, as values."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from gidrn import zoo

UNTRAINED = {
    "bicubic": "it has no weights",
    "smsr": "its masks learn by sampling, and only their form at inference is here",
}
"""Networks that no recipe is for, and why."""


@dataclass(frozen=True)
class Recipe:
    """One training run. Saved as JSON beside its weights and inside each checkpoint."""

    network: str = "gidrn"
    """A name of the zoo."""
    scale: int = 4
    """2, 3 or 4."""
    config: dict[str, Any] = field(default_factory=dict, hash=False)
    """Fields of the network's configuration that differ from those its name stands for, as JSON
    holds them: a tuple is a list here."""
    steps: int = 1_000_000
    """Length of the run; the learning rate's path is laid over exactly these steps."""
    batch: int = 32
    """Crops a step, over all devices together."""
    patch: int = 64
    """Side of a low-resolution crop in pixels."""
    learning_rate: float = 5e-4
    """Highest learning rate."""
    schedule: Literal["halve", "cosine"] = "halve"
    """Halved every `halve_every` steps, or a cosine from the highest to `final_learning_rate`."""
    halve_every: int = 200_000
    """For "halve" alone."""
    final_learning_rate: float = 1e-6
    """For "cosine" alone: the learning rate of the last step."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly to its highest."""
    adam_betas: tuple[float, float] = (0.9, 0.999)
    """Decay of Adam's first and second moment."""
    adam_epsilon: float = 1e-8
    """Adam's numerical constant."""
    clip_gradient_norm: float | None = None
    """Gradients longer than this are shortened to it; None leaves them."""
    alpha: float = 0.4
    """Weight of L1 (Table 3)."""
    beta: float = 0.6
    """Weight of the high-frequency term (Table 3)."""
    kernel_size: int = 5
    """Side of the high-pass filter's Gaussian."""
    sigma: float = 1.0
    """Standard deviation of that Gaussian, in pixels."""
    ema_decay: float = 0.999
    """Decay a step of the averaged weights, which are those validated and shipped."""
    autocast: Literal["none", "bf16"] = "none"
    """Arithmetic of the forward pass; weights and loss stay FP32."""
    held_out: int = 20
    """Photos kept from training to choose weights by."""
    validate_every: int = 1000
    """Steps between validations."""
    log_every: int = 100
    """Steps between lines of the log."""
    save_every: int = 1000
    """Steps between checkpoints."""
    seed: int = 0
    """Of the fresh weights and of the crops."""

    def __post_init__(self) -> None:
        zoo.configured(self.network, self.config)  # raises where the network has no such
        if self.network in UNTRAINED:
            raise ValueError(f"{self.network} is not trained here: {UNTRAINED[self.network]}")
        plain = {key: list(v) if isinstance(v, tuple) else v for key, v in self.config.items()}
        object.__setattr__(self, "config", plain)
        if self.scale not in zoo.SCALES:
            raise ValueError(f"scale is one of {zoo.SCALES}, not {self.scale}")
        for name in ("steps", "batch", "patch", "halve_every", "held_out", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, not {getattr(self, name)}")
        for name in ("log_every", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, not {getattr(self, name)}")
        if not 0 <= self.warmup_steps < self.steps:
            raise ValueError(f"warmup_steps lies in [0, steps), not {self.warmup_steps}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay lies in [0, 1), not {self.ema_decay}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is above 0, not {self.learning_rate}")
        for name, known in (("schedule", ("halve", "cosine")), ("autocast", ("none", "bf16"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {' or '.join(known)}, not {getattr(self, name)!r}")
        if self.clip_gradient_norm is not None and not self.clip_gradient_norm > 0:
            raise ValueError(f"clip_gradient_norm is above 0, not {self.clip_gradient_norm}")

    @property
    def network_config(self) -> Any:
        """The network's whole configuration, a dataclass of its own: for `zoo.create`."""
        return zoo.configured(self.network, self.config)


def learning_rate_at(recipe: Recipe, step: int) -> float:
    """Learning rate of step `step`, counted from 0."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    if recipe.schedule == "halve":
        return float(recipe.learning_rate * 0.5 ** (step // recipe.halve_every))
    last = max(1, recipe.steps - 1 - recipe.warmup_steps)
    travelled = min(1.0, (step - recipe.warmup_steps) / last)
    depth = recipe.learning_rate - recipe.final_learning_rate
    return recipe.final_learning_rate + depth * 0.5 * (1 + math.cos(math.pi * travelled))


_PAPER = Recipe()
_QUICK = Recipe(
    steps=20_000,
    batch=8,
    patch=32,
    learning_rate=2e-3,
    schedule="cosine",
    warmup_steps=200,
    clip_gradient_norm=0.1,
    autocast="bf16",
    validate_every=500,
    save_every=250,
)

_ABLATION = dataclasses.replace(
    _QUICK,
    scale=2,
    steps=1_000,
    warmup_steps=50,
    autocast="none",  # networks are compared, and may not suffer alike from bf16
)


def _rfdn(**config: Any) -> Recipe:
    """An ablation on RFDN's frame, the base of Tables 1 and 2."""
    return dataclasses.replace(_ABLATION, network="rfdn", config=config)


def _weighted(alpha: float, beta: float) -> Recipe:
    """An ablation of G-IDRN's loss."""
    return dataclasses.replace(_ABLATION, alpha=alpha, beta=beta)


ABLATIONS: dict[int, dict[str, Recipe]] = {
    1: {
        "table1_rfdb": _rfdn(),
        "table1_rfdb_dp": _rfdn(dual_path=True),
        "table1_rfdb_ds": _rfdn(dense_shortcut=True),
        "table1_rfdb_anrb": _rfdn(anrb=True),
        "table1_rfdb_dp_anrb": _rfdn(dual_path=True, anrb=True),
        "table1_rfdb_dp_ds_anrb": _rfdn(dual_path=True, dense_shortcut=True, anrb=True),
        "table1_gidb": _rfdn(block="gidb", channels=72),
        "table1_gidb_dp_ds_anrb": _rfdn(
            block="gidb", channels=72, dual_path=True, dense_shortcut=True, anrb=True
        ),
    },
    2: {
        "table2_no_anrb": _rfdn(),
        "table2_samples_50": _rfdn(anrb=True, pool_sizes=[1, 2, 3, 6]),
        "table2_samples_110": _rfdn(anrb=True, pool_sizes=[1, 3, 6, 8]),
        "table2_samples_222": _rfdn(anrb=True, pool_sizes=[1, 6, 8, 11]),
        "table2_samples_infinite": _rfdn(anrb=True, pool_sizes=[]),
    },
    3: {
        "table3_alpha_1.0": _weighted(1.0, 0.0),
        "table3_alpha_0.8": _weighted(0.8, 0.2),
        "table3_alpha_0.6": _weighted(0.6, 0.4),
        "table3_alpha_0.4": _weighted(0.4, 0.6),
        "table3_alpha_0.2": _weighted(0.2, 0.8),
    },
}
"""Section 3.3's tables, x2, row by row in the paper's order, each at a small budget.

dp is the dual path, ds the dense shortcut. Table 2's base is RFDN, as the section says of all
ablations; its loss and Table 1's are Section 3.2's. Table 3 weighs G-IDRN's two losses."""

RECIPES: dict[str, Recipe] = {
    "paper_x2": dataclasses.replace(_PAPER, scale=2),
    "paper_x3": dataclasses.replace(_PAPER, scale=3),
    "paper_x4": _PAPER,
    "quick_x2": dataclasses.replace(_QUICK, scale=2),
    "quick_x3": dataclasses.replace(_QUICK, scale=3),
    "quick_x4": _QUICK,
    "smoke": Recipe(
        steps=6,
        batch=2,
        patch=12,
        schedule="cosine",
        held_out=1,
        validate_every=3,
        log_every=1,
        save_every=2,
    ),
    **ABLATIONS[1],
    **ABLATIONS[2],
    **ABLATIONS[3],
}
"""`paper_*`: Section 3.2 to the letter, but that averaged weights are kept beside it and chosen by
photos held out. `quick_*`: for hours on two cores rather than days on a GPU. `smoke`: seconds, to
see that everything runs. `table*`: rows of ABLATIONS."""


def find(name: str) -> Recipe:
    """The recipe called `name`. Raises ValueError that names the nearest."""
    if name not in RECIPES:
        raise zoo.unknown("recipe", name, RECIPES)
    return RECIPES[name]


def with_steps(recipe: Recipe, steps: int) -> Recipe:
    """The recipe at another length.

    A warm-up that would not fit is shortened, and a halved learning rate is halved as many times.
    """
    warmup = min(recipe.warmup_steps, max(steps - 1, 0))
    halve_every = recipe.halve_every
    if recipe.schedule == "halve":
        halve_every = max(1, round(halve_every * steps / recipe.steps))
    return dataclasses.replace(recipe, steps=steps, warmup_steps=warmup, halve_every=halve_every)


def from_dict(fields: dict[str, Any]) -> Recipe:
    """A recipe from `dataclasses.asdict`'s form, as JSON and checkpoints hold it.

    Those written when networks had no other configuration than their name's have no `config`.
    """
    fields = {"config": {}, **fields}
    known = {known.name for known in dataclasses.fields(Recipe)}
    if set(fields) != known:
        raise ValueError(
            f"a recipe has the fields {sorted(known)}; differing: {sorted(set(fields) ^ known)}"
        )
    return Recipe(**{**fields, "adam_betas": tuple(fields["adam_betas"])})
