"""Which models come with the package, and what a model file must say of itself.

A toolkit model has one input ``input`` (N, 3, H, W) and one output ``output`` (N, 3, s*H, s*W),
float32 (or both float16) RGB in [0, 1]; or, for frames, uint8 (N, H, W, 3) and (N, s*H, s*W, 3) in
the order that its metadata `color` says, `range` being "0-255". Metadata of the format
``gidrn-onnx/1``, all strings: `format`, `model`, `scale`, `color`, `range`, `layout`, `context`,
`dtype`, `attention`, `weights`, `weights_sha256`, `project_version`; `precision_plan` (JSON) in an
FP16 file; `golden` (JSON, see `gidrn_runtime.golden`) since 0.1; `proof_levels`, the largest
difference from PyTorch at its proof in 8-bit levels, and `proof_inputs`, of how many inputs;
`proof_diverged`, the inputs that proved nothing, since the network itself is lost on them.

A tile file, of the format ``gidrn-tiles/1``, lies beside a model and is none itself: see
`gidrn_runtime.tiles`. It says, beside `model`, `scale`, `weights_sha256` and others of the above,
`reach`, `pool_sizes` and `statistics` (JSON).
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from gidrn_runtime.engines.base import Engine, TensorSpec
from gidrn_runtime.errors import ModelError
from gidrn_runtime.golden import Golden

MODELS_DIR = Path(__file__).resolve().parent / "models"
FORMAT = "gidrn-onnx/1"
TILES_SUFFIX = "_tiles.onnx"
"""How the name of the tile file beside a model ends: see `gidrn_runtime.tiles`."""
TILES_FORMAT = "gidrn-tiles/1"
REMEDY = "make one with: python export/to_onnx.py"


@dataclass(frozen=True)
class ModelInfo:
    """What a checked model says of itself."""

    name: str
    scale: int
    precision: str
    """``fp32`` or ``fp16``, as the export wrote it."""
    dtype: str
    """Of what goes in and comes out: ``float32``, ``float16``, or ``uint8`` for frames."""
    frames: str | None
    """``bgr`` or ``rgb`` for a model of uint8 frames in that order, None for one of tensors."""
    random_weights: bool
    """True for a model with made-up weights, which is good for timing and nothing else."""
    least: tuple[int, int, int]
    """The least batch, height and width it takes: 1 where it was not built for a range."""
    most: tuple[int | None, int | None, int | None]
    """The greatest batch, height and width it takes; None where there is no limit."""
    golden: Golden | None
    """An input and its output to check an engine with; None where the file carries none."""
    metadata: dict[str, str]
    """As it stands in the file, without the golden frame."""

    @property
    def size_hw(self) -> tuple[int | None, int | None]:
        """The only height and width the model takes; None where there are several."""
        (_, *least), (_, *most) = self.least, self.most
        height, width = (b if a == b else None for a, b in zip(least, most, strict=True))
        return height, width

    def takes(self, batch: int, height: int, width: int) -> bool:
        """Whether such an input fits as it is, neither split nor padded."""
        limits = zip(self.least, (batch, height, width), self.most, strict=True)
        return all(a <= side and (b is None or side <= b) for a, side, b in limits)


def shipped() -> dict[str, Path]:
    """The models inside the package: name -> path of the ONNX file, sorted by name."""
    return {
        path.stem: path
        for path in sorted(MODELS_DIR.glob("*.onnx"))
        if not path.name.endswith(TILES_SUFFIX)
    }


def find(model: str | os.PathLike[str]) -> Path:
    """The file of `model`: a shipped model's name such as ``gidrn_x4``, or a path.

    A string is a path when it ends in ``.onnx``, has a folder in it or names a file that is there.

    Raises:
        ValueError: no shipped model has this name; the message names the nearest and all of them.
        FileNotFoundError: it is a path and there is no such file.
    """
    known = shipped()
    text = os.fspath(model)
    path = Path(text)
    if isinstance(model, str) and text in known:
        return known[text]
    if path.is_file():
        return path
    if path.is_dir() and text:
        raise ModelError(f"a model is an ONNX file, but {text!r} is a folder; {REMEDY}")
    if not isinstance(model, str) or path.suffix or path.name != text:
        hint = f"; the shipped model is called {path.stem!r}" if path.stem in known else ""
        raise FileNotFoundError(f"there is no model file {text!r}{hint}")
    nearest = difflib.get_close_matches(text, known, n=1, cutoff=0.0)
    answer = (
        f"the nearest is {nearest[0]!r}; shipped models: {', '.join(known)}"
        if known
        else ("no model is shipped with this installation")
    )
    raise ValueError(f"there is no model {text!r}; {answer}; or give the path of an .onnx file")


def check(engine: Engine, path: Path) -> ModelInfo:
    """Read an opened model's metadata and signature.

    Raises:
        ModelError: it is not a toolkit model; the message says what was wanted and what came.
    """
    metadata = engine.metadata
    came = metadata.get("format")
    if came == TILES_FORMAT:
        raise ModelError(
            f"{path} holds the tiles of a model, and is opened by the runtime where it needs them: "
            "open the model itself, beside which it lies"
        )
    if came != FORMAT:
        raise _refusal(path, f"metadata format={FORMAT!r}", f"{came!r}" if came else "none")
    if len(engine.inputs) != 1 or engine.inputs[0].name != "input":
        raise _refusal(path, "one input 'input'", _names(engine.inputs))
    if len(engine.outputs) != 1 or engine.outputs[0].name != "output":
        raise _refusal(path, "one output 'output'", _names(engine.outputs))
    is_frames = metadata.get("range") == "0-255"
    dtype, signature, channel = (
        ("uint8", "(N, H, W, 3)", 3) if is_frames else ("float32", "(N, 3, H, W)", 1)
    )
    if not is_frames and engine.inputs[0].dtype == "float16":
        dtype = "float16"
    for spec in (engine.inputs[0], engine.outputs[0]):
        if spec.dtype != dtype or len(spec.shape) != 4 or spec.shape[channel] not in (3, None):
            shape = ", ".join("?" if size is None else str(size) for size in spec.shape)
            raise _refusal(path, f"{spec.name!r} as {dtype} {signature}", f"{spec.dtype} ({shape})")
    if not is_frames and metadata.get("range") != "0-1":
        raise _refusal(path, "metadata range='0-1' or '0-255'", repr(metadata.get("range")))
    color = metadata.get("color")
    if color not in (("bgr", "rgb") if is_frames else ("rgb",)):
        wanted = "'bgr' or 'rgb'" if is_frames else "'rgb'"
        raise _refusal(path, f"metadata color={wanted}", repr(color))
    text = metadata.get("scale", "")
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise _refusal(path, "metadata scale as a whole number >= 1", repr(metadata.get("scale")))
    scale = int(text)
    _, *size = (s for i, s in enumerate(engine.inputs[0].shape) if i != channel)
    _, *large = (s for i, s in enumerate(engine.outputs[0].shape) if i != channel)
    for low, high in zip(size, large, strict=True):
        if low is not None and high is not None and high != scale * low:
            raise _refusal(path, f"sides enlarged by its scale {scale}", f"{low} -> {high}")
    least, most = _limits(engine.inputs[0], channel)
    return ModelInfo(
        name=metadata.get("model", path.stem),
        scale=scale,
        precision=metadata.get("dtype", "unknown"),
        frames=color if is_frames else None,
        dtype=dtype,
        random_weights=metadata.get("weights") == "random",
        least=least,
        most=most,
        golden=_golden(metadata, scale, path),
        metadata={key: value for key, value in metadata.items() if key != "golden"},
    )


def _limits(
    spec: TensorSpec, channel: int
) -> tuple[tuple[int, int, int], tuple[int | None, int | None, int | None]]:
    """Between which batch, height and width an input lies."""
    least = spec.least or tuple(side or 1 for side in spec.shape)
    most = spec.most or spec.shape
    axes = [axis for axis in range(4) if axis != channel]
    low, high = [least[axis] for axis in axes], [most[axis] for axis in axes]
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def _golden(metadata: dict[str, str], scale: int, path: Path) -> Golden | None:
    text = metadata.get("golden")
    try:
        golden = None if text is None else Golden.from_text(text)
        if golden is not None and any(
            side % scale or side > scale * low
            for side, low in zip(golden.window.shape, golden.size_hw, strict=False)
        ):
            raise ValueError(f"its window {golden.window.shape} is no part of the output")
        return golden
    except ValueError as error:
        raise ModelError(f"{path}: {error}; {REMEDY}") from error


def _refusal(path: Path, wanted: str, came: str) -> ModelError:
    return ModelError(
        f"{path} is not a G-IDRN toolkit model; wanted {wanted}, came {came}; {REMEDY}"
    )


def _names(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(repr(spec.name) for spec in specs) or "none"
