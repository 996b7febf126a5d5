"""G-IDRN read out of an ONNX file: its configuration and its weights.

The exporter's graph is followed node by node from the first convolution to the pixel shuffle, so
that a file which computes anything else is told from one of ours. The dense shortcuts' scalars, for
which a file has no names, are read off the sums they stand in. What leads from frames to the first
convolution and from the pixel shuffle to frames is not followed: the file's metadata say what it
is, and its golden frame proves it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gidrn_runtime import onnx_reader, plans
from gidrn_runtime.errors import ModelError
from gidrn_runtime.onnx_reader import Node, OnnxFile

Weights = npt.NDArray[np.float32]

GROUP_WIDTH = 8
"""Channels of a group of the 3x3 convolutions that the native engine takes."""
STEPS = 3
"""Residual blocks (LSRBs) in a G-IDB."""
VARIANCE_FLOOR = 1e-12


class OtherNetworkError(ModelError):
    """The file is a model, but of no network that is read here; the message says why."""


@dataclass(frozen=True)
class Config:
    """The network's form."""

    channels: int
    reduced: int
    """Channels inside the contrast attention."""
    blocks: int
    """G-IDBs, those of all groups together."""
    scale: int
    anrb: bool
    knots: int
    """Of the attention's curve; 0 for the exact attention."""
    pool_sizes: tuple[int, ...]
    """ANRB's pyramid; () for all points."""
    slope: float
    """Of LeakyReLU."""


@dataclass(frozen=True)
class GidrnGraph:
    """A network read."""

    file: OnnxFile
    config: Config
    weights: tuple[Weights, ...]
    """Each convolution's weight before its bias: shallow; coarse; a block's three times pointwise
    and grouped, then grouped, fuse, attention down and up; with an ANRB its query, key and value as
    one, and expand; fine."""
    shortcuts: Weights
    """(blocks, blocks): input j + 1 is block j's output plus the sum over i <= j of
    shortcuts[j, i] * input i."""


def read(path: Path) -> GidrnGraph:
    """Read the network in a toolkit file.

    Raises:
        ModelError: it is not an ONNX file.
        OtherNetworkError: it is one, of a network or a form that is not read here.
    """
    if plans.is_plan(path):
        raise OtherNetworkError(f"{path} is a TensorRT plan, not an ONNX file")
    file = onnx_reader.read(path)
    try:
        _check_labels(file.metadata)
        return _Follower(file).follow()
    except OtherNetworkError as error:
        raise OtherNetworkError(f"{path}: {error}") from error
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise OtherNetworkError(f"{path}: a node of its graph is not as ours: {error}") from error


def _check_labels(metadata: dict[str, str]) -> None:
    """Refuse by what a file says of itself, in the words of the one who exported it."""
    model, dtype = metadata.get("model", "unknown"), metadata.get("dtype", "unknown")
    if model != "gidrn":
        raise OtherNetworkError(f"it takes G-IDRN alone, and this is {model!r}")
    if dtype != "fp32":
        raise OtherNetworkError(f"it computes in FP32, and this file is {dtype}")
    merged = metadata.get("merged_groups", "1")
    if merged != "1":
        raise OtherNetworkError(
            f"it takes groups as they are, and this file was exported with --merge-groups {merged}"
        )
    if "blocked" in metadata:
        raise OtherNetworkError("it takes the ordinary file, and this one was exported --blocked")


class _Follower:
    def __init__(self, file: OnnxFile) -> None:
        self.file = file
        self.made_by: dict[str, Node] = {}
        self.taken_by: dict[str, list[Node]] = {}
        for node in file.nodes:
            for name in node.outputs:
                self.made_by[name] = node
            for name in node.inputs:
                self.taken_by.setdefault(name, []).append(node)
        prefixes = [p for p in ("", "network.") if f"{p}shallow.weight" in file.constants]
        if len(prefixes) != 1:
            raise OtherNetworkError("it has no convolution 'shallow'")
        self.prefix = prefixes[0]
        self.weights: list[Weights] = []

    def follow(self) -> GidrnGraph:
        """Walk from the first convolution to the last."""
        shallow = self.convolution("shallow", side=3)
        coarse = self.convolution("coarse", side=5)
        self.require(shallow.inputs[0] == coarse.inputs[0], "coarse", "takes another input")
        channels = len(self.weights[0])
        if channels % GROUP_WIDTH:
            raise OtherNetworkError(f"its channels are a multiple of {GROUP_WIDTH}, not {channels}")
        shortcuts: list[dict[int, float]] = []
        slopes: set[float] = set()
        inputs = [shallow.outputs[0]]
        names = list(self.blocks())
        for i, name in enumerate(names):
            output = self.block(name, inputs[-1], channels, slopes)
            after = f"{names[i + 1]}.steps.0.pointwise" if i + 1 < len(names) else None
            following = self.input_of(after or self.end())
            terms = self.summands(following, {output: -1} | {x: k for k, x in enumerate(inputs)})
            self.require(terms.pop(-1, 0) == 1, name, "is not added to what follows it")
            shortcuts.append(terms)
            inputs.append(following)
        self.require(len(slopes) == 1, "activation", f"has the slopes {sorted(slopes)}")
        knots = 0
        pools: tuple[int, ...] = ()
        anrb = self.has("anrb.project")
        features = inputs[-1]
        if anrb:
            features, knots, pools = self.attention(features)
        fine = self.convolution("fine", side=3)
        self.require(fine.inputs[0] == features, "fine", "takes another input")
        table = np.zeros((len(names), len(names)), np.float32)
        for j, terms in enumerate(shortcuts):
            for i, factor in terms.items():
                table[j, i] = factor
        reduced = len(self.file.constants[f"{self.prefix}{names[0]}.attention.weigh.0.weight"])
        config = Config(
            channels, reduced, len(names), self.scale(fine, coarse), anrb, knots, pools, *slopes
        )
        return GidrnGraph(self.file, config, tuple(self.weights), table)

    def block(self, name: str, x: str, channels: int, slopes: set[float]) -> str:
        """Follow one G-IDB from its input to its gated output."""
        groups = channels // GROUP_WIDTH
        kept = []
        for step in range(STEPS):
            here = f"{name}.steps.{step}"
            pointwise = self.convolution(f"{here}.pointwise")
            self.require(pointwise.inputs[0] == x, here, "takes another input")
            grouped = self.convolution(f"{here}.grouped", side=3, groups=groups)
            self.require(grouped.inputs[0] == pointwise.outputs[0], here, "takes another input")
            added = self.only(grouped.outputs[0], "Add")
            self.require(set(added.inputs) == {grouped.outputs[0], x}, here, "adds another input")
            activation = self.only(added.outputs[0], "LeakyRelu")
            slopes.add(float(np.float32(activation.attributes.get("alpha", 0.01))))
            kept.append(pointwise.outputs[0])
            x = activation.outputs[0]
        grouped = self.convolution(f"{name}.grouped", side=3, groups=groups)
        self.require(grouped.inputs[0] == x, name, "takes another input")
        fuse = self.convolution(f"{name}.fuse")
        joined = self.maker(fuse.inputs[0], "Concat")
        self.require(
            joined.inputs == (*kept, grouped.outputs[0]) and joined.attributes.get("axis") == 1,
            name,
            "fuses something else",
        )
        return self.gated(name, fuse.outputs[0])

    def gated(self, name: str, fused: str) -> str:
        """Follow a block's contrast attention, from behind: the name of what it weighs."""
        down = self.convolution(f"{name}.attention.weigh.0")
        up = self.convolution(f"{name}.attention.weigh.2")
        self.require(
            self.maker(up.inputs[0], "Relu").inputs == down.outputs, name, "has another attention"
        )
        weighed = self.only(self.only(up.outputs[0], "Sigmoid").outputs[0], "Mul")
        contrast = self.maker(down.inputs[0], "Add")
        root, mean = (self.made_by.get(x) for x in contrast.inputs)
        if root is not None and root.operation == "ReduceMean":
            root, mean = mean, root
        self.require(
            root is not None
            and mean is not None
            and (root.operation, mean.operation) == ("Sqrt", "ReduceMean"),
            name,
            "has another contrast",
        )
        assert root is not None
        assert mean is not None
        clip = self.maker(root.inputs[0], "Clip")
        squares = self.maker(self.maker(clip.inputs[0], "ReduceMean").inputs[0], "Mul")
        centred = self.maker(squares.inputs[0], "Sub")
        floor = self.file.constants.get(clip.inputs[1])
        self.require(
            mean.inputs[0] == fused
            and centred.inputs == (fused, mean.outputs[0])
            and squares.inputs == centred.outputs * 2
            and floor is not None
            and float(floor.reshape(-1)[0]) == np.float32(VARIANCE_FLOOR)
            and fused in weighed.inputs,
            name,
            "has another contrast",
        )
        return weighed.outputs[0]

    def attention(self, x: str) -> tuple[str, int, tuple[int, ...]]:
        """Follow the ANRB: its output, and how many knots and which pool sizes it has."""
        project = self.convolution("anrb.project")
        self.require(project.inputs[0] == x, "anrb", "takes another input")
        expand = self.convolution("anrb.expand")
        added = self.only(expand.outputs[0], "Add")
        self.require(set(added.inputs) == {x, expand.outputs[0]}, "anrb", "adds another input")
        between = list(self.between(expand.inputs[0], project.outputs[0]))
        softmax = [node for node in between if node.operation == "Softmax"]
        self.require(len(softmax) == 1, "anrb", "has another attention than ours")
        said = self.file.metadata.get("attention", "")
        curve = re.fullmatch(r"curve, (\d+) knots", said)
        if said != "exact" and not curve:
            raise OtherNetworkError(f"its metadata say attention={said!r}, which is not known")
        knots = int(curve[1]) if curve else 0
        is_curve = any(node.operation == "GatherElements" for node in between)
        self.require(is_curve == bool(knots), "anrb", f"has another attention than {said!r}")
        cells = [
            self.file.constants[node.inputs[1]].reshape(-1)
            for node in between
            if node.operation in ("Gather", "GatherND") and node.inputs[1] in self.file.constants
        ]
        self.require(len(cells) <= 1, "anrb", "pools in another way than ours")
        return added.outputs[0], knots, pool_sizes(cells[0].tolist()) if cells else ()

    def scale(self, fine: Node, coarse: Node) -> int:
        """Follow the end: the sum of both branches, shuffled."""
        added = self.only(fine.outputs[0], "Add")
        shuffle = self.only(added.outputs[0], "DepthToSpace")
        scale = int(shuffle.attributes.get("blocksize", 0))
        self.require(
            set(added.inputs) == {fine.outputs[0], coarse.outputs[0]}
            and shuffle.attributes.get("mode") == "CRD"
            and len(self.weights[2]) == 3 * scale**2,
            "fine",
            "ends in another way than ours",
        )
        return scale

    def blocks(self) -> Iterator[str]:
        """Names of the G-IDBs, in order."""
        group = 0
        while self.has(f"deep.bodies.{group}.bodies.0.fuse"):
            block = 0
            while self.has(name := f"deep.bodies.{group}.bodies.{block}.fuse"):
                yield name.removesuffix(".fuse")
                block += 1
            group += 1

    def summands(self, name: str, known: dict[str, int]) -> dict[int, float]:
        """What a sum consists of: factor by the number of a known value."""
        if name in known:
            return {known[name]: 1.0}
        node = self.made_by.get(name)
        if node is not None and node.operation == "Add":
            total: dict[int, float] = {}
            for part in node.inputs:
                for key, factor in self.summands(part, known).items():
                    total[key] = total.get(key, 0.0) + factor
            return total
        if node is not None and node.operation == "Mul":
            for value, scalar in (node.inputs, node.inputs[::-1]):
                constant = self.file.constants.get(scalar)
                if constant is not None and constant.size == 1:
                    factor = float(constant.reshape(-1)[0])
                    return {k: factor * f for k, f in self.summands(value, known).items()}
        raise OtherNetworkError("a dense shortcut is another sum than ours")

    def between(self, name: str, start: str) -> Iterator[Node]:
        """The nodes from which a value is made, back to `start`; what only asks for a shape, and
        what is made of a shape, is left out."""
        done = {start}
        waiting = [name]
        while waiting:
            node = self.made_by.get(waiting.pop())
            if node is None or node.outputs[0] in done:
                continue
            done.add(node.outputs[0])
            maker = self.made_by.get(node.inputs[0]) if node.inputs else None
            if "Shape" in (node.operation, maker.operation if maker else ""):
                continue
            yield node
            waiting += node.inputs

    def convolution(self, name: str, *, side: int = 1, groups: int = 1) -> Node:
        """The convolution of a module; its weight and bias are kept."""
        weight = self.file.constants.get(f"{self.prefix}{name}.weight")
        bias = self.file.constants.get(f"{self.prefix}{name}.bias")
        if weight is None or bias is None:
            raise OtherNetworkError(f"it has no convolution {name!r} with a bias")
        node = self.only(f"{self.prefix}{name}.weight", "Conv")
        found = node.attributes
        came = int(found.get("group", 1))
        if came != groups:
            raise OtherNetworkError(
                f"{name!r} has {came} groups of {weight.shape[1]} channels, and it takes groups of "
                f"{GROUP_WIDTH}"
            )
        self.require(
            weight.dtype == bias.dtype == np.float32
            and weight.shape[2:] == (side, side)
            and bias.shape == weight.shape[:1]
            and node.inputs[2] == f"{self.prefix}{name}.bias"
            and tuple(found.get("pads", (0,) * 4)) == (side // 2,) * 4
            and tuple(found.get("strides", (1, 1))) == (1, 1)
            and tuple(found.get("dilations", (1, 1))) == (1, 1)
            and found.get("auto_pad", "NOTSET") == "NOTSET",
            name,
            "is another convolution than ours",
        )
        self.weights += [weight, bias]
        return node

    def has(self, name: str) -> bool:
        return f"{self.prefix}{name}.weight" in self.file.constants

    def end(self) -> str:
        return "anrb.project" if self.has("anrb.project") else "fine"

    def input_of(self, name: str) -> str:
        """What a convolution takes."""
        if not self.has(name):
            raise OtherNetworkError(f"it has no convolution {name!r}")
        return self.only(f"{self.prefix}{name}.weight", "Conv").inputs[0]

    def only(self, value: str, operation: str) -> Node:
        """The one operation of this kind that takes a value."""
        found = [node for node in self.taken_by.get(value, ()) if node.operation == operation]
        self.require(len(found) == 1, value, f"is taken by {len(found)} {operation}, not by one")
        return found[0]

    def maker(self, value: str, operation: str) -> Node:
        """What makes a value."""
        node = self.made_by.get(value)
        if node is None or node.operation != operation:
            raise OtherNetworkError(f"{value!r} is made in another way than by {operation}")
        return node

    def require(self, holds: Any, name: str, otherwise: str) -> None:
        if not holds:
            raise OtherNetworkError(f"{name!r} {otherwise}")


def pool_sizes(cells: list[int]) -> tuple[int, ...]:
    """The pyramid's sides, told by which cells of all pairs of windows it keeps.

    With R windows on each axis, all sizes together, the cells of the size whose windows begin at o
    are (o + y) * R + o + x: see `export.rewrites.pyramid_pooling`.

    Raises OtherNetworkError where they are of no pyramid.
    """
    for windows in range(1, len(cells) + 1):
        sizes: list[int] = []
        begin, at = 0, 0
        while begin < windows and at < len(cells):
            size = 1
            while (
                size < windows - begin
                and at + size < len(cells)
                and cells[at + size] == cells[at] + size
            ):
                size += 1
            wanted = [(begin + y) * windows + begin + x for y in range(size) for x in range(size)]
            if cells[at : at + size * size] != wanted:
                break
            sizes.append(size)
            begin, at = begin + size, at + size * size
        if begin == windows and at == len(cells):
            return tuple(sizes)
    raise OtherNetworkError("the cells that its ANRB keeps are of no pyramid")
