"""The ONNX file of one tile, and its proof: a frame in tiles is the frame in one.

The file's ends and formulas are in `export.rewrites.tiles`; `gidrn_runtime.tiles` puts frames
together with it, and the proof goes through that, against PyTorch on the whole frame.
"""

from __future__ import annotations

import json
import math
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxslim
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from export import proof
from export.proof import NotProvedError
from export.rewrites.tiles import TileNetwork
from gidrn.evaluation import to_tensor
from gidrn_runtime import engines, models, tiles

LIMIT_LEVELS = 0.1
"""Most that a frame in tiles may differ from PyTorch's whole one, every statistic being exact: what
is left is FP32 in another order and twice the attention curve's 0.01."""


def to_model(network: TileNetwork, scale: int) -> onnx.ModelProto:
    """Trace and simplify; height and width of the tile are free, the batch is 1.

    By PyTorch's older exporter, which is many times quicker and makes the same graph.
    """
    axes = {"input": {2: "height", 3: "width"}, "rows": {1: "height"}, "columns": {0: "width"}}
    if network.pool is not None:
        axes |= {"pool_rows": {1: "height"}, "pool_columns": {1: "width"}}
    axes["output"] = {2: f"{scale}*height", 3: f"{scale}*width"}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside PyTorch's exporter
        path = Path(folder) / "traced.onnx"
        torch.onnx.export(
            network,
            tuple(network.example(20, 28)),
            path,
            dynamo=False,
            opset_version=18,
            input_names=network.input_names,
            output_names=network.output_names,
            dynamic_axes=axes,
        )
        model = onnxslim.slim(onnx.load(path))
    assert isinstance(model, onnx.ModelProto)
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model


def metadata(network: TileNetwork) -> dict[str, str]:
    """What a tile file says beside what every file of ours does."""
    return {
        "format": models.TILES_FORMAT,
        "reach": str(network.reach),
        "pool_sizes": json.dumps(network.pool_sizes),
        "statistics": json.dumps(
            [
                {"kind": one.kind, "shape": list(one.shape), "reach": one.reach}
                for one in network.statistics
            ]
        ),
    }


@dataclass(frozen=True)
class Case:
    """A frame, and the tiles that it is cut into."""

    name: str
    image: Tensor
    """(1, 3, H, W) in [0, 1]."""
    side_hw: tuple[int, int]


@dataclass(frozen=True)
class TileDeviation:
    """How far a frame in tiles is from PyTorch on the whole frame."""

    case: str
    size_hw: tuple[int, int]
    side_hw: tuple[int, int]
    tiles: int
    levels: float
    """Largest difference of a value, in levels, every statistic being exact."""
    settled_levels: float
    """The same with the rounds that the runtime takes by default."""
    diverged: bool = False
    """Whether the network itself is lost on it, so that it proves nothing: `proof.Diverged`."""


def cases(photos: Sequence[NDArray[np.uint8]], reach: int) -> list[Case]:
    """Photos in odd sizes whose tiles do not divide them, are smaller than the halo or one pixel
    high, and the flat and the wild: black, white, half of each, noise."""
    high, wide = 2 * reach + 21, 2 * reach + 46

    def photo(index: int, height: int, width: int) -> Tensor:
        cut = photos[index % len(photos)]
        rows, columns = (max(0, a - b) for a, b in zip((height, width), cut.shape[:2], strict=True))
        cut = np.pad(cut, ((0, rows), (0, columns), (0, 0)), mode="symmetric")
        return to_tensor(np.ascontiguousarray(cut[-height:, -width:]))

    halves = torch.zeros(1, 3, high, wide)
    halves[..., wide // 2 :] = 1
    noise = torch.rand(1, 3, high, wide, generator=torch.Generator().manual_seed(0))
    return [
        Case("photo", photo(0, high, wide), (11, 17)),
        Case("photo, rows of 1 to 3", photo(1, 2 * reach + 5, reach + 9), (2, 64)),
        Case("photo in one tile", photo(2, 31, 45), (64, 64)),
        Case("black", torch.zeros(1, 3, 2 * reach + 9, reach), (5, 64)),
        Case("white", torch.ones(1, 3, reach, 2 * reach + 9), (64, 5)),
        Case("half black, half white", halves, (high, 19)),
        Case("noise", noise, (30, 30)),
    ]


@torch.inference_mode()
def compare(
    network: nn.Module, path: Path, on: Sequence[Case], *, title: str
) -> list[TileDeviation]:
    """Both on every case; the file on ONNX Runtime's CPU engine."""
    found = []
    tile_file = tiles.TileFile(engines.open_engine("ort-cpu", path), path)
    try:
        for case in tqdm(on, desc=title, unit="", leave=False):
            output = network(case.image)
            wanted, image = output.numpy(), case.image.numpy()
            size_hw = image.shape[2], image.shape[3]
            every = tiles.grid(size_hw, case.side_hw, tile_file.reach)
            one = proof.Case(case.name, case.image)
            if proof.diverged(network, one, case.image, output) is not None:
                lost = (case.name, size_hw, case.side_hw, len(every), math.nan, math.nan, True)
                found.append(TileDeviation(*lost))
                continue
            levels = []
            for rounds in (len(tile_file.statistics), tiles.ROUNDS):
                came = tiles.enlarge_tensor(tile_file, image, case.side_hw, rounds)
                if not np.isfinite(came).all():
                    raise NotProvedError(f"{title}: on {case.name} the output is not finite")
                levels.append(float(np.abs(came - wanted).max()) * 255)
            exact, settled = levels
            found.append(
                TileDeviation(case.name, size_hw, case.side_hw, len(every), exact, settled)
            )
    finally:
        tile_file.close()
    return found


def require(found: Sequence[TileDeviation], *, title: str) -> None:
    """Raises NotProvedError, naming the worst case, where exact tiles pass `LIMIT_LEVELS`.

    And where the network itself is lost on half of the cases or more.
    """
    proving = [one for one in found if not one.diverged]
    if 2 * len(proving) <= len(found):
        raise NotProvedError(
            f"{title}: the network itself diverges on {len(found) - len(proving)} of {len(found)} "
            "frames, so that nothing can be proved there; no file was written"
        )
    worst = max(proving, key=lambda one: one.levels)
    if not worst.levels <= LIMIT_LEVELS:
        raise NotProvedError(
            f"{title}: in {worst.tiles} tiles {worst.case} of {worst.size_hw[0]}x"
            f"{worst.size_hw[1]} differs from PyTorch's whole frame by {worst.levels:.3g} levels, "
            f"and {LIMIT_LEVELS:g} is the limit; no file was written"
        )


def in_words(real: Sequence[TileDeviation], loud: Sequence[TileDeviation]) -> str:
    """The proof as lines for the screen."""
    lines = [
        "proof against PyTorch on the whole frame, largest difference in 8-bit levels with exact "
        f"statistics, and with {tiles.ROUNDS} round(s) of them:"
    ]
    for one, other in zip(real, loud, strict=True):
        size, side = ("x".join(map(str, pair)) for pair in (one.size_hw, one.side_hw))
        lines.append(
            f"  {one.case:22} {size:>8} in {one.tiles:>2} tiles of {side:>7} {_levels(one)}   "
            f"exaggerated attention {_levels(other)}"
        )
    return "\n".join(lines)


def _levels(one: TileDeviation) -> str:
    if one.diverged:
        return "the network diverges"
    return f"{one.levels:8.5f} {one.settled_levels:8.5f}"
