"""Weights that their authors keep as MATLAB files (.mat): SRCNN, VDSR and LapSRN.

SRCNN's are matrices of unfolded patches. VDSR's and LapSRN's are of MatConvNet: arrays (height,
width, in, out) for convolutions and (height, width, out, in) for transposed ones, which are
correlations as PyTorch's are. MATLAB drops trailing sides of 1. SRMDNF's (15, 225) projection
of blurs, `P`, turns into what `gidrn.networks.srmdnf` needs for bicubic images.

Reading them needs SciPy: `pip install gidrn[matlab]`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Named = Iterator[tuple[str, NDArray[Any]]]


def read(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file (up to version 7.2), sides of 1 dropped.

    Raises ImportError where SciPy is missing, FileNotFoundError, and ValueError for what is no
    MATLAB file or of version 7.3, which is HDF5.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError(
            f"{path.name} is a MATLAB file, which needs SciPy: pip install gidrn[matlab]"
        ) from error
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {path}")
    try:
        found = loadmat(path, squeeze_me=True, struct_as_record=False)
    except NotImplementedError as error:
        raise ValueError(
            f"{path} is a MATLAB file of version 7.3: save it again with MATLAB's save(..., '-v7')"
        ) from error
    except Exception as error:  # SciPy has no error of its own for a file cut short
        raise ValueError(f"{path} is no whole MATLAB file: {error}") from error
    return {name: value for name, value in found.items() if not name.startswith("__")}


def to_our_names(
    network: str, variables: Mapping[str, Any], wanted: Mapping[str, Tensor], *, source: str
) -> dict[str, Tensor]:
    """The tensors of `variables` under our names, in our order of sides.

    An array whose number of elements is another than its place wants comes as it is, for
    `checkpoints.fill` to refuse. Raises ValueError where a network has no MATLAB files or its
    variables are missing.
    """
    if network not in LAYOUTS:
        raise ValueError(
            f"{source}: {network} has no weights in MATLAB files, only {', '.join(LAYOUTS)}"
        )
    try:
        named = dict(LAYOUTS[network](variables))
    except (KeyError, AttributeError, TypeError) as error:
        there = ", ".join(variables) or "nothing"
        raise ValueError(
            f"{source} is not laid out as the authors of {network} do it ({error}); "
            f"there is {there}"
        ) from error
    return {name: _tensor(array, wanted.get(name)) for name, array in named.items()}


def _tensor(array: NDArray[Any], wanted: Tensor | None) -> Tensor:
    """(height, width, a, b) or a list of numbers, in the order and shape of its place."""
    array = np.asarray(array, dtype=np.float32)
    if wanted is not None and array.size == wanted.numel():
        if wanted.dim() == 4:
            outer, inner, height, width = wanted.shape
            array = array.reshape(height, width, inner, outer).transpose(3, 2, 0, 1)
        else:
            array = array.reshape(tuple(wanted.shape))
    return torch.from_numpy(np.ascontiguousarray(array))


def _srcnn(variables: Mapping[str, Any]) -> Named:
    """Patches are unfolded column after column, as MATLAB's reshape folds them."""
    places = {"extract": 1, "map": 2, "reconstruct": 3}
    kernels = {ours: np.asarray(variables[f"weights_conv{i}"]) for ours, i in places.items()}
    biases = {ours: np.atleast_1d(variables[f"biases_conv{i}"]) for ours, i in places.items()}
    wide, narrow = (biases[name].size for name in ("extract", "map"))
    # (taps, out), (in, taps, out) and (in, taps), all of them to (taps, in, out)
    by_tap = {
        "extract": kernels["extract"].reshape(-1, 1, wide),
        "map": kernels["map"].reshape(wide, -1, narrow).transpose(1, 0, 2),
        "reconstruct": kernels["reconstruct"].reshape(narrow, -1).T[:, :, None],
    }
    for name, taps in by_tap.items():
        side = math.isqrt(len(taps))
        yield f"{name}.weight", taps.reshape(side, side, *taps.shape[1:]).swapaxes(0, 1)
        yield f"{name}.bias", biases[name]


def _vdsr(variables: Mapping[str, Any]) -> Named:
    model = variables["model"]
    for kind in ("weight", "bias"):
        for i, array in enumerate(np.atleast_1d(getattr(model, kind))):
            yield f"deep.{2 * i}.{kind}", array


def _lapsrn(variables: Mapping[str, Any]) -> Named:
    """Levels are counted from the largest, which is level 1, down to the input."""
    arrays = {str(one.name): one.value for one in np.atleast_1d(variables["net"].params)}
    levels = sum(name.endswith("_img_up_f") for name in arrays)
    places = {"input_conv": "shallow.0"}
    for level in range(levels):
        theirs, ours = f"level{levels - level}", f"levels.{level}"
        depth = sum(name.startswith(f"{theirs}_conv") for name in arrays) // 2
        places |= {f"{theirs}_conv{d + 1}": f"{ours}.deep.{2 * d}" for d in range(depth)}
        places[f"{theirs}_upconv"] = f"{ours}.enlarge"
        places[f"{theirs}_residual_conv"] = f"{ours}.residual"
        places[f"{theirs}_img_up"] = f"{ours}.enlarge_image"
    for name, array in arrays.items():
        layer, _, kind = name.rpartition("_")
        ending = {"f": "weight", "b": "bias"}.get(kind)
        yield (f"{places[layer]}.{ending}" if layer in places and ending else name), array


LAYOUTS: dict[str, Callable[[Mapping[str, Any]], Named]] = {
    "srcnn": _srcnn,
    "vdsr": _vdsr,
    "lapsrn": _lapsrn,
}
"""For each network with such files, how its variables become our names and arrays."""

PROJECTIONS = ("srmd_pca_matlab.mat", "PCA_P.mat")
"""What SRMD's authors call the file of their projection."""


def degradation_of_bicubic(beside: Path) -> Tensor | None:
    """SRMDNF's fifteen numbers for bicubic images: (15,), from a projection beside a weights file.

    The blur of a bicubic image is a single 1 in the middle of a 15 x 15 kernel, so that they are
    the middle column of the projection. None where there is no such file. Raises as `read` does,
    and ValueError for a file without a (15, 225) matrix `P`.
    """
    path = next((one for n in PROJECTIONS if (one := beside.parent / n).is_file()), None)
    if path is None:
        return None
    matrix = np.asarray(read(path).get("P"))
    if matrix.ndim != 2 or matrix.shape[1] != 15 * 15:
        raise ValueError(f"{path} has no matrix P of (15, 225), but {matrix.shape}")
    return torch.from_numpy(matrix[:, 15 * 15 // 2].astype(np.float32))
