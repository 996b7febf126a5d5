"""The names that the networks' authors gave to their weights, and ours for the same tensors.

Read from the authors' code: IMDN (Zheng222/IMDN), RFDN of AIM 2020 (njulj/RFDN), PAN
(zhaohengyuan1/PAN), CARN and CARN-M (nmhkahn/CARN-pytorch), LatticeNet (ymff0592/super-resolution),
SMSR (LongguangWang/SMSR), EDSR (sanghyun-son/EDSR-PyTorch) and RCAN (yulunzhang/RCAN); and from the
best known PyTorch editions of SRMDNF (cszn/KAIR) and VDSR (twtygqyy/pytorch-vdsr), whose authors
used MATLAB (see `gidrn.matlab`). A file may wrap its tensors in a dict, or prefix their names as
DataParallel does; counters of training steps are dropped. Shapes and completeness are checked by
`gidrn.checkpoints.fill`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

Rule = tuple[str, str | Callable[[re.Match[str]], str]]
"""A pattern for a name, whole but for ``.weight`` or ``.bias``, and what it becomes."""

WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "model", "net", "network")
"""Keys under which tools keep a state dict, averaged weights first."""

PREFIXES = ("module.", "model.", "net.", "netG.", "generator.", "_orig_mod.")
"""What DataParallel, trainers' classes and torch.compile put before every name."""

COUNTERS = re.compile(r"(.*\.)?(num_batches_tracked|step|global_step|iteration)")
"""Scalars of training that no network uses."""


def _at(template: str, *shifts: int) -> Callable[[re.Match[str]], str]:
    """`template` with the pattern's numbers, each moved by its shift, in the places of ``{}``."""

    def fill(match: re.Match[str]) -> str:
        numbers = (int(text) + shift for text, shift in zip(match.groups(), shifts, strict=True))
        return template.format(*numbers)

    return fill


_MEANS: list[Rule] = [("sub_mean", "subtract_mean.conv"), ("add_mean", "add_mean.conv")]
_TAIL: list[Rule] = [
    (r"tail\.0\.([02])", _at("upsample.{}", 0)),
    (r"tail\.1", "reconstruct"),
]
_IMDN: list[Rule] = [
    ("fea_conv", "shallow"),
    (r"IMDB(\d+)\.c([123])", _at("blocks.{}.steps.{}.0", -1, -1)),
    (r"IMDB(\d+)\.c4", _at("blocks.{}.last", -1)),
    (r"IMDB(\d+)\.c5", _at("blocks.{}.fuse", -1)),
    (r"IMDB(\d+)\.cca\.conv_du\.([02])", _at("blocks.{}.attention.weigh.{}", -1, 0)),
    (r"c\.0", "fuse.0"),
    ("LR_conv", "smooth"),
    (r"upsampler\.0", "upsample.conv"),
]
_CARN: list[Rule] = [
    (r"sub_mean\.shifter", "subtract_mean.conv"),
    (r"add_mean\.shifter", "add_mean.conv"),
    ("entry", "shallow"),
    (r"b(\d)\.b(\d)\.body\.([024])", _at("deep.stages.{}.stages.{}.body.{}", -1, -1, 0)),
    (r"b(\d)\.c(\d)\.body\.0", _at("deep.stages.{}.mix.{}.0", -1, -1)),
    (r"c(\d)\.body\.0", _at("deep.mix.{}.0", -1)),
    (r"upsample\.up([234])\.body\.([03])", _at("upsample.x{}.{}", 0, 0)),
    (r"upsample\.up\.body\.([03])", _at("upsample.x*.{}", 0)),
    ("exit", "reconstruct"),
]

RULES: dict[str, list[Rule]] = {
    "imdn": _IMDN,
    "imdn_jdsr": _IMDN,
    "pan": [
        ("conv_first", "shallow"),
        (r"SCPA_trunk\.(\d+)\.conv1_a", _at("deep.{}.enter_plain", 0)),
        (r"SCPA_trunk\.(\d+)\.conv1_b", _at("deep.{}.enter_weighted", 0)),
        (r"SCPA_trunk\.(\d+)\.k1\.0", _at("deep.{}.plain", 0)),
        (r"SCPA_trunk\.(\d+)\.PAConv\.k2", _at("deep.{}.weigh", 0)),
        (r"SCPA_trunk\.(\d+)\.PAConv\.k3", _at("deep.{}.weighted", 0)),
        (r"SCPA_trunk\.(\d+)\.PAConv\.k4", _at("deep.{}.leave_weighted", 0)),
        (r"SCPA_trunk\.(\d+)\.conv3", _at("deep.{}.fuse", 0)),
        ("trunk_conv", "deep.*"),
        (r"upconv([12])", _at("upsample.{}.enlarge", -1)),
        (r"att([12])\.conv", _at("upsample.{}.attention.weigh", -1)),
        (r"HRconv([12])", _at("upsample.{}.refine", -1)),
        ("conv_last", "reconstruct"),
    ],
    "rfdn_aim": [
        ("fea_conv", "shallow"),
        (r"B(\d+)\.c([123])_d", _at("deep.body.blocks.{}.steps.{}.distil", -1, -1)),
        (r"B(\d+)\.c([123])_r", _at("deep.body.blocks.{}.steps.{}.refine", -1, -1)),
        (r"B(\d+)\.c4", _at("deep.body.blocks.{}.last.0", -1)),
        (r"B(\d+)\.c5", _at("deep.body.blocks.{}.fuse", -1)),
        *(
            (rf"B(\d+)\.esa\.{theirs}", _at(f"deep.body.blocks.{{}}.attention.{ours}", -1))
            for theirs, ours in (
                *(("conv1", "enter"), ("conv_f", "skip"), ("conv2", "shrink")),
                *(("conv_max", "body.0"), ("conv3", "body.2"), ("conv3_", "body.4")),
                ("conv4", "leave"),
            )
        ),
        (r"c\.0", "deep.body.fuse.0"),
        ("LR_conv", "deep.smooth"),
        (r"upsampler\.0", "fine.conv"),
    ],
    "smsr": [
        *_MEANS,
        (r"head\.([02])", _at("shallow.{}", 0)),
        (r"body\.(\d+)\.spa_mask\.([035])", _at("blocks.{}.spatial_mask.body.{}", 0, 0)),
        (r"body\.(\d+)\.body\.ch_mask", _at("blocks.{}.channel_logits", 0)),
        (r"body\.(\d+)\.body\.body\.(\d+)", _at("blocks.{}.body.{}", 0, 0)),
        (r"body\.(\d+)\.body\.collect", _at("blocks.{}.fuse", 0)),
        (r"body\.(\d+)\.ca\.conv_du\.([02])", _at("blocks.{}.attention.weigh.{}", 0, 0)),
        (r"collect\.([02])", _at("fuse.{}", 0)),
        (r"tail\.0", "upsample.conv"),
    ],
    "srmdnf": [("22", "reconstruct"), (r"(\d+)", _at("deep.{}", 0))],
    "vdsr": [
        ("input", "deep.0"),
        (r"residual_layer\.(\d+)\.conv", lambda match: f"deep.{2 * int(match[1]) + 2}"),
        ("output", "deep.38"),
    ],
    "carn": _CARN,
    "carn_m": _CARN,
    "latticenet": [
        *_MEANS,
        (r"conv([12])", _at("shallow.{}", -1)),
        (r"body_unit(\d+)\.conv_block0\.([024])", _at("blocks.{}.first.{}", -1, 0)),
        (r"body_unit(\d+)\.conv_block1\.([024])", _at("blocks.{}.second.{}", -1, 0)),
        (
            r"body_unit(\d+)\.fea_ca([12])\.conv_mean\.([02])",
            _at("blocks.{}.of_features.{}.of_mean.{}", -1, -1, 0),
        ),
        (
            r"body_unit(\d+)\.fea_ca([12])\.conv_std\.([02])",
            _at("blocks.{}.of_features.{}.of_deviation.{}", -1, -1, 0),
        ),
        (
            r"body_unit(\d+)\.x_ca([12])\.conv_mean\.([02])",
            _at("blocks.{}.of_input.{}.of_mean.{}", -1, -1, 0),
        ),
        (
            r"body_unit(\d+)\.x_ca([12])\.conv_std\.([02])",
            _at("blocks.{}.of_input.{}.of_deviation.{}", -1, -1, 0),
        ),
        (r"body_unit(\d+)\.compress", _at("blocks.{}.fuse", -1)),
        (r"T_tdm(\d)\.0", _at("fuse.deeper.{}.0", -1)),
        (r"L_tdm(\d)\.0", _at("fuse.own.{}.0", -1)),
        (r"tail\.0", "smooth"),
        (r"tail\.1", "upsample.conv"),
    ],
    "edsr": [
        *_MEANS,
        (r"head\.0", "shallow"),
        (r"body\.(\d+)\.body\.([02])", _at("deep.{}.body.{}", 0, 0)),
        (r"body\.(\d+)", _at("deep.{}", 0)),
        *_TAIL,
    ],
    "rcan": [
        *_MEANS,
        (r"head\.0", "shallow"),
        (
            r"body\.(\d+)\.body\.(\d+)\.body\.3\.conv_du\.([02])",
            _at("deep.{}.body.{}.body.3.weigh.{}", 0, 0, 0),
        ),
        (
            r"body\.(\d+)\.body\.(\d+)\.body\.([02])",
            _at("deep.{}.body.{}.body.{}", 0, 0, 0),
        ),
        (r"body\.(\d+)\.body\.(\d+)", _at("deep.{}.body.{}", 0, 0)),
        (r"body\.(\d+)", _at("deep.{}", 0)),
        *_TAIL,
    ],
}
"""For each network the rules that are tried in this order. A ``*`` stands for the one name of ours
that fits and no other rule gives."""


def unwrap(loaded: Any) -> Any:
    """The named tensors inside the dicts that tools wrap around them; else what came.

    A dict under a name of WRAPPERS is opened, or the only one that is a state dict.
    """
    opened: list[Any] = []
    while isinstance(loaded, dict) and not is_state(loaded):
        opened.append(loaded)
        inner = [loaded[key] for key in WRAPPERS if isinstance(loaded.get(key), dict)]
        states = [value for value in loaded.values() if is_state(value)]
        if not inner and len(states) == 1:
            inner = states
        if not inner or any(inner[0] is one for one in opened):
            return loaded
        loaded = inner[0]
    if not is_state(loaded):
        return loaded
    return {name: value for name, value in loaded.items() if isinstance(value, Tensor)}


def is_state(loaded: Any) -> bool:
    """Whether it is a dict of named tensors, single numbers and words beside them aside."""
    return (
        isinstance(loaded, dict)
        and all(isinstance(name, str) for name in loaded)
        and any(isinstance(value, Tensor) for value in loaded.values())
        and all(
            value is None or isinstance(value, (Tensor, int, float, str))
            for value in loaded.values()
        )
    )


def to_our_names(
    network: str, weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Named tensors under our names; a name that no rule knows stays as it is.

    Counters are not of the file: where the network counts batches, it goes on with its own.

    Args:
        network: A name of the zoo.
        weights: Ours already, or under the authors' names.
        wanted: The state dict of the network to be filled.
    """
    counters = {name: tensor for name, tensor in wanted.items() if COUNTERS.fullmatch(name)}
    wanted = {name: tensor for name, tensor in wanted.items() if name not in counters}
    found = {name: tensor for name, tensor in weights.items() if not COUNTERS.fullmatch(name)}
    while found and set(found) != set(wanted):
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in found)), None)
        if prefix is None:
            break
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    if set(found) == set(wanted):
        return {**found, **counters}
    renamed: dict[str, Tensor] = {}
    open_ended: dict[str, Tensor] = {}
    for name, tensor in found.items():
        layer, dot, kind = name.rpartition(".")
        if kind not in ("weight", "bias"):
            layer, dot, kind = name, "", ""
        new = _rename(layer, RULES.get(network, [])) + dot + kind
        (open_ended if "*" in new else renamed)[new] = tensor
    for name, tensor in open_ended.items():
        pattern = re.escape(name).replace(r"\*", r"\d+")
        fitting = [n for n in wanted if re.fullmatch(pattern, n) and n not in renamed]
        renamed[fitting[0] if len(fitting) == 1 else name] = tensor
    return {**renamed, **counters}


def _rename(layer: str, rules: list[Rule]) -> str:
    for pattern, new in rules:
        match = re.fullmatch(pattern, layer)
        if match is not None:
            return new if isinstance(new, str) else new(match)
    return layer
