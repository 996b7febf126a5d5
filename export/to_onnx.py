"""Export a network to one ONNX file, proved against PyTorch before it gets its name."""

from __future__ import annotations

import copy
import dataclasses
import logging
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxslim
import torch
from numpy.typing import NDArray
from torch import nn

from export import (
    foreign,
    fp16,
    golden_frames,
    group_forms,
    layer_types,
    precision,
    proof,
    tile_model,
)
from export.exaggeration import exaggerate, exaggerate_contrast, fresh, has_attention
from export.group_forms import Choice
from export.proof import Deviation, Dtype
from export.rewrites import (
    RefusedError,
    attention,
    blocked_layout,
    merged_groups,
    shortcut_scalars,
    single_shuffle,
    split_fusion,
)
from export.rewrites.attention import Attention, Curve
from export.rewrites.frames import Color, FramesNetwork
from export.rewrites.tiles import TileNetwork
from gidrn import checkpoints, command_line, zoo
from gidrn.evaluation import to_tensor
from gidrn.files import replacing
from gidrn.resize import downscale
from gidrn_runtime import EngineUnavailable, Upscaler, WrongOutputError, engines
from gidrn_runtime.golden import Golden

TUNE_HW = (80, 120)
"""The size at which forms are timed where the file leaves it free: a B100 image at x4."""

TORCH_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}

OPSETS = (17, 18)
"""17 for TensorRT 8.5 to 8.6; 18 for everything newer."""


@dataclass(frozen=True)
class Labels:
    """What the file says of itself: its `metadata_props`."""

    model: str
    scale: int
    weights: str
    """"shipped", a file's name, "random", or "none" for a network that has none."""
    weights_sha256: str
    """Of the weights file; of nothing, and so empty, for random weights and none."""
    context: str
    """Reach in input pixels, or "global"."""
    frames: Color | None = None
    """Channel order of the uint8 frames that the file takes and gives; None for float tensors."""
    dtype: Dtype = "fp32"
    """What the file computes in; in FP16 some parts stay FP32, by `export.precision`."""
    io: Dtype = "fp32"
    """Of the float tensors at its ends."""
    merged_groups: int | None = 1
    """How many groups of each grouped convolution are one in the file; None for all."""
    groups_choice: Choice | None = None
    """Why, where time on an engine decided."""
    blocked: bool = False
    """Whether it is written for ONNX Runtime's blocked layout on CPUs."""


@dataclass(frozen=True)
class Exported:
    """What came out."""

    path: Path
    nodes: int
    curve: Curve | None
    deviations: list[Deviation]
    """On the weights asked for."""
    diverged: list[proof.Diverged]
    """Cases on which the network itself is lost, so that they prove nothing."""
    exaggerated: proof.Comparison
    """On the same network with an attention that cannot be overlooked; empty without one."""
    left_out: list[proof.Case]
    """Cases too costly for a network of this size."""
    plan: precision.Plan | None = None
    """What stays FP32 in an FP16 file."""


def rewritten(
    network: nn.Module,
    how: Attention,
    on: Sequence[proof.Case],
    merge: int | None = 1,
    *,
    blocked: bool = False,
) -> tuple[nn.Module, Curve | None]:
    """A copy of `network` in export-friendly operations, and its curve's knots, if it has one.

    `merge` groups of each grouped convolution become one, all of them where it is None. `blocked`
    takes the form for ONNX Runtime's blocked layout on CPUs.
    """
    network = copy.deepcopy(network).eval()
    curve = None
    if how == "curve" and has_attention(network):
        curve = attention.choose_knots(network, [case.image for case in proof.small(on)])
        knots = curve.knots
        attention.apply(network, lambda: attention.CurveAttention(knots))
    else:
        attention.apply(network, attention.ExactAttention)
    shortcut_scalars.apply(network)
    if merge != 1:
        merged_groups.apply(network, merge)
    if blocked:
        blocked_layout.apply(network)
        split_fusion.apply(network)
    return single_shuffle.rewrite(network).eval(), curve


def to_model(
    network: nn.Module,
    scale: int,
    *,
    opset: int = 18,
    size_hw: tuple[int, int] | None = None,
    frames: Color | None = None,
    io: Dtype = "fp32",
    keep_shapes: bool = False,
) -> onnx.ModelProto:
    """Trace and simplify: input `input` (N, 3, H, W), output `output` (N, 3, s*H, s*W).

    With `frames` they are uint8 (N, H, W, 3) and (N, s*H, s*W, 3) in that channel order. N, H and W
    are free, or 1 and `size_hw`. `keep_shapes` leaves the feature maps' in the file. Opset 17 goes
    through PyTorch's older exporter, since the newer one starts at 18.
    """
    batch, height, width = (2, 20, 28) if size_hw is None else (1, *size_hw)
    if frames is None:
        example = torch.rand(batch, 3, height, width, dtype=TORCH_DTYPES[io])
        axes = (0, 2, 3)
    else:
        network = FramesNetwork(network, frames).eval()
        example = torch.randint(0, 256, (batch, height, width, 3), dtype=torch.uint8)
        axes = (0, 1, 2)
    names = dict(zip(axes, ("batch", "height", "width"), strict=True))
    out_names = dict(zip(axes, ("batch", f"{scale}*height", f"{scale}*width"), strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside PyTorch's exporters
        if opset >= 18:
            free = {axis: torch.export.Dim(name) for axis, name in names.items()}
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                opset_version=opset,
                input_names=["input"],
                output_names=["output"],
                dynamic_shapes=(free if size_hw is None else None,),
                external_data=False,
                verbose=False,
            )
            assert program is not None
            model = program.model_proto
        else:
            model = _traced_by_torchscript(network, example, opset, size_hw, names, out_names)
    slimmed = onnxslim.slim(model)
    assert isinstance(slimmed, onnx.ModelProto)
    model = slimmed
    if size_hw is None:
        sides = model.graph.input[0].type.tensor_type.shape.dim
        if not all(sides[axis].dim_param for axis in names):
            raise RefusedError(
                f"the network computes for the size that it is traced at, {height}x{width}: fix "
                "one, with --size HEIGHTxWIDTH"
            )
        for axis, name in out_names.items():
            model.graph.output[0].type.tensor_type.shape.dim[axis].dim_param = name
    if keep_shapes:
        kept = blocked_layout.keep_shapes(model, tuple(names.values()))
        if size_hw is None and not kept:
            raise RefusedError(
                "the exported graph names no feature map's shape by batch, height and width: "
                "without them --blocked gains nothing here; fix the size with --size HEIGHTxWIDTH"
            )
    else:
        del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model


def _traced_by_torchscript(
    network: nn.Module,
    example: torch.Tensor,
    opset: int,
    size_hw: tuple[int, int] | None,
    names: dict[int, str],
    out_names: dict[int, str],
) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "traced.onnx"
        torch.onnx.export(
            network,
            (example,),
            path,
            dynamo=False,
            opset_version=opset,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes=None if size_hw else {"input": names, "output": out_names},
        )
        return onnx.load(path)


def check_types(model: onnx.ModelProto, plan: precision.Plan) -> None:
    """Raises proof.NotProvedError where convolutions are of another type than planned."""
    types = {one.name: one.data_type for one in model.graph.initializer}
    kernels = [
        types.get(node.input[1])
        for node in model.graph.node
        if node.op_type in layer_types.CONVOLUTIONS
    ]
    came = {
        name: sum(kernel == kind for kernel in kernels)
        for name, kind in (("fp16", onnx.TensorProto.FLOAT16), ("fp32", onnx.TensorProto.FLOAT))
    }
    if came != dict(plan.convolutions):
        raise proof.NotProvedError(
            f"the graph has convolutions of other types than planned: {came}, not "
            f"{dict(plan.convolutions)}; no file was written"
        )


def label(
    model: onnx.ModelProto,
    labels: Labels,
    how: Attention,
    curve: Curve | None,
    plan: precision.Plan | None = None,
    golden: Golden | None = None,
    more: Mapping[str, str] | None = None,
) -> None:
    """Write what a loader needs into the file's `metadata_props`, and `more`."""
    values = {
        "format": "gidrn-onnx/1",
        "model": labels.model,
        "scale": str(labels.scale),
        "color": labels.frames or "rgb",
        "range": "0-1" if labels.frames is None else "0-255",
        "layout": "nchw" if labels.frames is None else "nhwc",
        "context": labels.context,
        "dtype": labels.dtype,
        "attention": how if curve is None else f"curve, {curve.knots} knots",
        "merged_groups": "all" if labels.merged_groups is None else str(labels.merged_groups),
        "weights": labels.weights,
        "weights_sha256": labels.weights_sha256,
        "project_version": version("gidrn"),
    }
    if plan is not None:
        values["precision_plan"] = plan.as_json()
    if labels.groups_choice is not None:
        values["groups_choice"] = labels.groups_choice.to_text()
    if labels.blocked:
        values["blocked"] = str(blocked_layout.BLOCK)
    if golden is not None:
        values["golden"] = golden.to_text()
    values.update(more or {})
    del model.metadata_props[:]
    for key, value in values.items():
        model.metadata_props.add(key=key, value=value)
    model.producer_name, model.producer_version = "gidrn", version("gidrn")
    model.graph.name = f"{labels.model}_x{labels.scale}"


def export(
    network: nn.Module,
    path: Path,
    labels: Labels,
    *,
    how: Attention = "curve",
    opset: int = 18,
    size_hw: tuple[int, int] | None = None,
    photos: Sequence[NDArray[np.uint8]] | None = None,
) -> Exported:
    """Write `network` to `path` as ONNX, once it is proved.

    `photos`, RGB (H, W, 3), are what it is proved on; by default the project's samples. A network
    with an ANRB is proved twice, once with an exaggerated attention (in FP32 whatever the file's
    type): see `export.exaggeration`. Raises RefusedError where FP16 does not hold, and
    proof.NotProvedError, and leaves `path` as it was, where the file differs from PyTorch in FP32
    by more than `proof.LIMIT_LEVELS`.
    """
    if opset not in OPSETS:
        raise ValueError(f"opset is 17 or 18, not {opset}")
    ours = proof.read_photos()
    every = proof.cases(photos or ours, labels.scale, size_hw=size_hw)
    on, left_out = proof.affordable(network, every)
    network = network.eval()
    form = _Form(how, opset, size_hw)
    plan = None
    with replacing(path) as temporary:
        exaggerated = proof.Comparison([], [])
        if has_attention(network):
            images = [case.image for case in proof.small(on)]
            # A photo of ours whatever is fixed or given: a single pixel has no spread to scale by.
            images.append(to_tensor(downscale(ours[0], labels.scale)))
            loud = exaggerate(network, images)
            changed, curve = rewritten(loud, how, on, labels.merged_groups, blocked=labels.blocked)
            plain = dataclasses.replace(labels, dtype="fp32", io="fp32")
            _write(changed, curve, temporary, plain, form)
            exaggerated = _prove(loud, temporary, plain, proof.small(on), "exaggerated attention")
        changed, curve = rewritten(network, how, on, labels.merged_groups, blocked=labels.blocked)
        if labels.dtype == "fp16":
            half, plan = precision.to_fp16(changed, labels.scale, photos or ours, proof.small(on))
            changed = fp16.Ends(half, TORCH_DTYPES[labels.io])
        golden = golden_frames.make(network, ours[0], labels.scale, size_hw)
        nodes = _write(changed, curve, temporary, labels, form, plan, golden)
        found = _prove(network, temporary, labels, on, "proof")
        _note(temporary, found)
        _check_golden(temporary)
    return Exported(
        path, nodes, curve, found.deviations, found.diverged, exaggerated, left_out, plan
    )


@dataclass(frozen=True)
class ExportedTiles:
    """What came out of `export_tiles`."""

    path: Path
    reach: int
    """The halo that a tile needs, in input pixels."""
    deviations: list[tile_model.TileDeviation]
    """On the weights asked for."""
    exaggerated: list[tile_model.TileDeviation]
    """On the same network with attentions that cannot be overlooked."""


def export_tiles(
    network: nn.Module,
    path: Path,
    labels: Labels,
    *,
    how: Attention = "curve",
    photos: Sequence[NDArray[np.uint8]] | None = None,
) -> ExportedTiles:
    """Write the file that the runtime cuts large frames into tiles with, once it is proved.

    It is proved twice, the first time with exaggerated attentions, of both kinds, between fresh
    weights. Raises RefusedError where the network looks at the whole image in a way that a tile
    cannot be told of, and proof.NotProvedError where a frame in tiles differs from PyTorch on the
    whole one by more than `tile_model.LIMIT_LEVELS`; `path` is then left as it was.
    """
    photos = photos or proof.read_photos()
    network = network.eval()
    on = proof.small(proof.cases(photos, labels.scale))
    # Of our own photos, whatever is given: all of one size, and no two alike.
    cuts = [to_tensor(photo[:48, :72].copy()) for photo in proof.read_photos()]
    images = torch.cat([*cuts, torch.zeros_like(cuts[0]), torch.ones_like(cuts[0])])

    def told(of: nn.Module) -> tuple[TileNetwork, Curve | None]:
        changed, curve = rewritten(of, how, on, labels.merged_groups)
        return TileNetwork(changed, labels.scale).eval(), curve

    def write(of: nn.Module, file: Path) -> None:
        tiles, curve = told(of)
        model = tile_model.to_model(tiles, labels.scale)
        label(model, labels, how, curve, more=tile_model.metadata(tiles))
        file.write_bytes(model.SerializeToString())

    reach = told(network)[0].reach  # refused before the costly part
    with replacing(path) as temporary:
        cases = tile_model.cases(photos, reach)
        loud = exaggerate_contrast(fresh(network), images)
        if has_attention(loud):
            loud = exaggerate(loud, [image[None] for image in images])
        write(loud, temporary)
        exaggerated = tile_model.compare(loud, temporary, cases, title="exaggerated attention")
        tile_model.require(exaggerated, title="exaggerated attention")
        write(network, temporary)
        found = tile_model.compare(network, temporary, cases, title="proof")
        tile_model.require(found, title="proof")
        model = onnx.load(temporary)
        proving = [one.levels for one in found if not one.diverged]
        model.metadata_props.add(key="proof_levels", value=f"{max(proving):.2g}")
        model.metadata_props.add(key="proof_inputs", value=str(len(proving)))
        temporary.write_bytes(model.SerializeToString())
    return ExportedTiles(path, reach, found, exaggerated)


def choose_groups(
    network: nn.Module,
    labels: Labels,
    engine: str,
    *,
    how: Attention = "curve",
    opset: int = 18,
    size_hw: tuple[int, int] | None = None,
) -> tuple[Choice, dict[str, list[float]]]:
    """The form of the grouped convolutions that is the fastest on an engine.

    It is timed at `size_hw`, or at TUNE_HW where that is free. In FP16 the forms that are timed
    have those parts in FP32 that always are. Returns the choice and every run's milliseconds.

    Raises:
        RefusedError: the network has no grouped convolutions.
        ValueError: there is no such engine.
        EngineUnavailable: it is not here.
    """
    if not (found := engines.status(engine)).available:  # told before the work
        raise EngineUnavailable(found.reason)
    on = proof.small(proof.cases(proof.read_photos(), labels.scale, size_hw=size_hw))[:1]
    form = _Form(how, opset, size_hw)

    def write(merged: str, path: Path) -> None:
        factor = parse_groups(merged)
        changed, curve = rewritten(network, how, on, factor, blocked=labels.blocked)
        if labels.dtype == "fp16":
            changed = fp16.Ends(precision.typed_by_rule(changed), TORCH_DTYPES[labels.io])
        _write(changed, curve, path, labels, form)

    with tempfile.TemporaryDirectory() as folder:
        return group_forms.choose(
            write,
            group_forms.forms_of(network),
            Path(folder),
            engine=engine,
            dtype=labels.dtype,
            size_hw=size_hw or TUNE_HW,
        )


@dataclass(frozen=True)
class _Form:
    """What a file is like beside its weights."""

    how: Attention
    opset: int
    size_hw: tuple[int, int] | None


def _write(
    changed: nn.Module,
    curve: Curve | None,
    path: Path,
    labels: Labels,
    form: _Form,
    plan: precision.Plan | None = None,
    golden: Golden | None = None,
) -> int:
    """Trace, label and write a rewritten network; returns its number of nodes."""
    model = to_model(
        changed,
        labels.scale,
        opset=form.opset,
        size_hw=form.size_hw,
        frames=labels.frames,
        io=labels.io,
        keep_shapes=labels.blocked,
    )
    if plan is not None:
        check_types(model, plan)
    label(model, labels, form.how, curve, plan, golden)
    path.write_bytes(model.SerializeToString())
    return len(model.graph.node)


def _prove(
    network: nn.Module, path: Path, labels: Labels, on: Sequence[proof.Case], title: str
) -> proof.Comparison:
    """Run the file as users run it, and compare. Raises proof.NotProvedError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the runtime's, about random weights
        # In the other order than a frames model's: so that its order is proved too.
        color = "bgr" if labels.frames == "rgb" else "rgb"
        with Upscaler(path, engine="ort-cpu", color=color, check=False) as upscale:
            if labels.frames is None:
                found = proof.compare(network, upscale.run_tensor, on, title=title)
            else:
                found = proof.compare_frames(network, upscale, on, dtype=labels.dtype, title=title)
    proof.require(found, title=title)
    return found


def _note(path: Path, found: proof.Comparison) -> None:
    """Write into a file's metadata how far it was from PyTorch, in 8-bit levels."""
    model = onnx.load(path)
    worst = max(one.levels for one in found.deviations)
    model.metadata_props.add(key="proof_levels", value=f"{worst:.2g}")
    model.metadata_props.add(key="proof_inputs", value=str(len(found.deviations)))
    if found.diverged:
        model.metadata_props.add(
            key="proof_diverged", value=", ".join(str(one) for one in found.diverged)
        )
    path.write_bytes(model.SerializeToString())


def _check_golden(path: Path) -> None:
    """Open the file as users do. Raises proof.NotProvedError where its golden frame is another."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            Upscaler(path, engine="ort-cpu", check=True).close()
        except WrongOutputError as error:
            raise proof.NotProvedError(f"{error}; no file was written") from error


def report(result: Exported, labels: Labels, how: Attention) -> str:
    """What was exported and how far it is from PyTorch, as a few lines for the screen."""
    lines = [
        f"{result.path}: {labels.model} x{labels.scale}, {result.nodes} nodes, "
        f"{result.path.stat().st_size / 1e6:.2f} MB, weights {labels.weights}, attention {how}"
        + (f", {labels.dtype}" if labels.dtype != "fp32" else "")
        + (f", uint8 frames in {labels.frames} order" if labels.frames else "")
        + (f", {labels.merged_groups or 'all'} groups as one" if labels.merged_groups != 1 else "")
        + (", for ONNX Runtime's blocked layout" if labels.blocked else "")
    ]
    if labels.groups_choice is not None:
        lines.append(labels.groups_choice.in_words())
    if result.curve is not None:
        lines.append(
            f"attention curve: {result.curve.knots} knots, interpolation error at most "
            f"{result.curve.bound_levels:.2g} levels"
        )
    if result.plan is not None:
        lines.append(result.plan.in_words())
    lines.append("proof against PyTorch in FP32, largest difference in 8-bit levels (rounded):")
    loud = {(d.case, d.size_hw): d for d in result.exaggerated.deviations}
    for one in result.deviations:
        line = f"  {one.case:10} {one.size_hw[0]:>4}x{one.size_hw[1]:<4}"
        line += f" {one.levels:8.5f} ({one.rounded_levels})"
        if (other := loud.get((one.case, one.size_hw))) is not None:
            line += f"   exaggerated attention {other.levels:8.5f} ({other.rounded_levels})"
        lines.append(line)
    for which, these in (("", result.diverged), ("exaggerated ", result.exaggerated.diverged)):
        lines += [
            f"  {lost.case:10} {lost.size_hw[0]:>4}x{lost.size_hw[1]:<4} proves nothing: the "
            f"{which}network itself diverges (PyTorch in FP32 is {lost.levels:.2g} levels from "
            "FP64)"
            for lost in these
        ]
    if result.left_out:
        sizes = ", ".join(f"{h}x{w}" for h, w in (case.size_hw for case in result.left_out))
        lines.append(f"  left out, too costly for a network of this size: {sizes}")
    return "\n".join(lines)


def open_network(
    model: str | None,
    scale: int | None,
    weights: Path | None,
    random_init: bool,
) -> tuple[nn.Module, Labels]:
    """The network asked for and what its file will say. Made-up weights only where asked for.

    Without `model` it is G-IDRN, or what `weights` are of: one of the zoo's networks, or one that
    spandrel knows. Without `scale` it is 4, or what the weights are of.
    """
    if model is None and weights is not None and not random_init:
        fits = zoo.recognise(weights)
        if not fits:
            return _open_foreign(weights, scale)
        model, scale = _one_of(fits, scale, weights)
    model, scale = model or "gidrn", scale or 4
    context = str(zoo.find(model).context)
    if random_init:
        if weights is not None:
            raise ValueError("--random-init makes weights up: leave out --weights, or the former")
        torch.manual_seed(0)
        return zoo.create(model, scale).eval(), Labels(model, scale, "random", "", context)
    if weights is None and zoo.needs_no_weights(model):
        return zoo.load(model, scale), Labels(model, scale, "none", "", context)
    path = weights or zoo.shipped_weights(model, scale)
    network = zoo.load(model, scale, weights=path)
    name = "shipped" if weights is None else path.name
    return network, Labels(model, scale, name, checkpoints.sha256(path), context)


def _one_of(fits: list[tuple[str, int]], scale: int | None, path: Path) -> tuple[str, int]:
    """The network and the factor meant, of those that a file fits.

    Raises ValueError where it is none of this factor, or of several and none was said.
    """
    meant = [fit for fit in fits if scale in (None, fit[1])]
    if not meant:
        known = ", ".join(f"{name} x{factor}" for name, factor in fits)
        raise ValueError(f"{path} is of {known}, not of a factor of {scale}: leave out --scale")
    name = meant[0][0]
    factors = [str(factor) for known, factor in meant if known == name]
    if len(factors) > 1:
        raise ValueError(
            f"{path} fits {name} at each factor of {', '.join(factors)}, which have the same "
            "tensors: say which with --scale"
        )
    return meant[0]


def _open_foreign(path: Path, scale: int | None) -> tuple[nn.Module, Labels]:
    """A network that is not the zoo's. Its reach is unknown, and so taken for the whole image."""
    network = foreign.load(path)
    if scale not in (None, network.scale):
        raise ValueError(
            f"{path} is a {network.name} of factor {network.scale}, not {scale}: leave out --scale"
        )
    sha256 = checkpoints.sha256(path)
    return network, Labels(network.name, network.scale, path.name, sha256, "global")


def parse_size(text: str) -> tuple[int, int]:
    """ "80x120" (height x width) as numbers."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"a size is HEIGHTxWIDTH in pixels, such as 80x120, not {text!r}")
    return int(parts[0]), int(parts[1])


def parse_groups(text: str) -> int | None:
    """ "3" as a number, "all" as None."""
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"--merge-groups is all or a number of groups, not {text!r}")
    return int(text)


def main(
    *,
    model: str | None = None,
    scale: int | None = None,
    weights: Path | None = None,
    out: Path | None = None,
    attention: Attention = "curve",
    opset: Literal[17, 18] = 18,
    size: str | None = None,
    dtype: Dtype = "fp32",
    io: Dtype = "fp32",
    frames: Color | None = None,
    merge_groups: str = "1",
    tune_for: str | None = None,
    blocked: bool = False,
    tiles: bool = False,
    random_init: bool = False,
    photos: Path | None = None,
) -> int:
    """Export a network to ONNX and prove the file against PyTorch.

    Args:
        model: A network: gidrn, idrn, rfdn, rfdn_l, rfdn_aim, imdn, imdn_jdsr, pan, latticenet,
            smsr, carn, carn_m, edsr, rcan, srmdnf, idn, memnet, drrn, drcn, lapsrn, vdsr, fsrcnn,
            srcnn or bicubic. Without it, gidrn, or what --weights is of: one of these, or a
            network that spandrel knows, if that is installed.
        scale: 2, 3 or 4; without it, 4, or what --weights is of, where its tensors tell.
        weights: A .safetensors, .pth or .mat file, ours or its authors'; without it, the weights
            that ship.
        out: The file to write; without it, MODEL_xSCALE.onnx here, with _fp16, _bgr, _blocked
            or _tiles behind.
        attention: How ANRB's attention is computed: "curve" in memory that grows with the image
            alone, or "exact" with every pixel against all pooled points.
        opset: 18, or 17 for old TensorRT.
        size: Fix the input to HEIGHTxWIDTH and batch 1; without it all three are free.
        dtype: What the file computes in. In fp16 the parts that cannot bear it stay fp32; which, is
            measured in an emulation, printed, and kept in the file.
        io: Type of the tensors in and out.
        frames: Take and give uint8 frames, height x width x channel, in this channel order; without
            it, float RGB tensors in [0, 1], channel x height x width.
        merge_groups: Write so many groups of each grouped convolution as one, with zeros between
            (a number, or all): the same function, faster on some devices. "auto" times the forms
            on --tune-for, at --size or 80x120, and takes the fastest.
        tune_for: The engine that --merge-groups auto is for, such as ort-cpu; it must be here.
        blocked: Write G-IDRN in the form that ONNX Runtime is fastest with on CPUs with AVX2: the
            same function; the native engine leaves such a file to ort-cpu. In FP32, opset 18.
        tiles: Write the file that the runtime makes tiles of large frames with, to lie beside the
            plain one as MODEL_xSCALE_tiles.onnx: it takes and gives what a tile must know of the
            whole frame. In FP32, opset 18.
        random_init: Make weights up, for timing alone; the file says so in its metadata.
        photos: Folder of photos to prove on; without it, the samples that come with the project.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # "torchvision is not installed"
    try:
        network, labels = open_network(model, scale, weights, random_init)
    except ImportError as error:  # of SciPy for .mat files, or of spandrel
        raise ValueError(str(error)) from error
    if frames is not None and io != "fp32":
        raise ValueError("--frames makes the file's ends uint8: leave out --io")
    if (merge_groups == "auto") != (tune_for is not None):
        known = ", ".join(engines.ENGINES)
        raise ValueError(f"--merge-groups auto and --tune-for ENGINE ({known}) go together")
    if dtype == "fp16" and isinstance(network, foreign.Foreign):
        foreign.require_types(network)
    if blocked and (dtype, io, opset, tiles) != ("fp32", "fp32", 18, False):
        raise ValueError(
            "--blocked is a form of the plain FP32 file in opset 18: leave out --dtype, --io, "
            "--opset and --tiles"
        )
    labels = dataclasses.replace(labels, frames=frames, dtype=dtype, io=io, blocked=blocked)
    size_hw = None if size is None else parse_size(size)
    if tune_for is None:
        labels = dataclasses.replace(labels, merged_groups=parse_groups(merge_groups))
    elif tiles:
        raise ValueError("--tiles has no size to time at: leave out --tune-for")
    else:
        try:
            choice, _ = choose_groups(
                network, labels, tune_for, how=attention, opset=opset, size_hw=size_hw
            )
        except EngineUnavailable as error:
            raise ValueError(str(error)) from error
        labels = dataclasses.replace(labels, merged_groups=choice.factor, groups_choice=choice)
    if tiles and (dtype, io, frames, opset, size_hw) != ("fp32", "fp32", None, 18, None):
        raise ValueError(
            "--tiles writes FP32 tensors of any size in opset 18, whatever the plain file is: "
            "leave out --dtype, --io, --frames, --opset and --size"
        )
    marks = [
        dtype if dtype != "fp32" else None,
        frames,
        "blocked" if blocked else None,
        "tiles" if tiles else None,
    ]
    path = out or Path(
        "_".join([labels.model, f"x{labels.scale}", *(m for m in marks if m)]) + ".onnx"
    )
    on = None if photos is None else proof.read_photos(photos)
    if tiles:
        made = export_tiles(network, path, labels, how=attention, photos=on)
        print(
            f"{path}: tiles of {labels.model} x{labels.scale}, {path.stat().st_size / 1e6:.2f} MB, "
            f"weights {labels.weights}, attention {attention}, halo {made.reach} pixels\n"
            f"{tile_model.in_words(made.deviations, made.exaggerated)}"
        )
        return 0
    try:
        result = export(
            network,
            path,
            labels,
            how=attention,
            opset=opset,
            size_hw=size_hw,
            photos=on,
        )
    except proof.NotProvedError as error:
        if size_hw is None and isinstance(network, foreign.Foreign):
            raise proof.NotProvedError(
                f"{error}; some of {network.name} may hold for one size alone: try --size "
                "HEIGHTxWIDTH"
            ) from error
        raise
    print(report(result, labels, attention))
    return 0


if __name__ == "__main__":
    command_line.run(main)
