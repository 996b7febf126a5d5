"""Network weights as files: safetensors with a few words about what they are.

Pickled checkpoints (.pth, .pt) load only as plain tensors (`weights_only=True`), never as code.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from gidrn import official
from gidrn.files import replacing

TRAINING_FORMAT = "gidrn-checkpoint/1"
"""What a checkpoint of `gidrn.train` says under the key "format"."""


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_weights(weights: Mapping[str, Tensor], path: Path, *, metadata: Mapping[str, str]) -> None:
    """Write named tensors as safetensors, whole or not at all."""
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in weights.items()}
    data = save(tensors, metadata=dict(metadata))
    with replacing(path) as temporary:
        temporary.write_bytes(data)  # an OSError on a full disk, which save_file does not give


def read_metadata(path: Path) -> dict[str, str]:
    """The words that `save_weights` put beside the tensors; {} for a file without."""
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def trained_in(path: Path) -> tuple[str, dict[str, Any]] | None:
    """The network's name and its configuration's fields, by the recipe that a file of ours carries.

    None for other files.
    """
    if path.suffix != ".safetensors":
        return None
    try:
        recipe = json.loads(read_metadata(path)["recipe"])
        return str(recipe["network"]), dict(recipe.get("config") or {})
    except (KeyError, ValueError, TypeError, SafetensorError):
        return None


def read_weights(path: Path) -> dict[str, Tensor]:
    """Named tensors of a .safetensors, .pth or .pt file, on the CPU.

    Of a checkpoint of `gidrn.train` these are the averaged weights; dicts that other tools wrap
    around a state dict are opened. Raises FileNotFoundError, and ValueError for a file that is
    empty, cut short, of another kind, or a pickle that wants to run code.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {path}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty: copy or make it again")
    _refuse_other_kinds(path)
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}
        except SafetensorError as error:
            raise ValueError(f"{path} is no whole safetensors file: {error}") from error
    if path.suffix not in {".pth", ".pt"}:
        raise ValueError(f"weights are .safetensors, .pth or .pt files here, not {path.name}")
    loaded = load_pickle(path, "cpu")
    if isinstance(loaded, dict) and loaded.get("format") == TRAINING_FORMAT:
        loaded = loaded["average"]
    loaded = official.unwrap(loaded)
    if not official.is_state(loaded):
        what = f"it is a {type(loaded).__name__}"
        if isinstance(loaded, dict):
            keys = ", ".join(map(str, list(loaded)[:8]))
            what += f" of {keys}{', ...' if len(loaded) > 8 else ''}" if loaded else " of nothing"
        raise ValueError(f"{path} is not a state dict (names to tensors): {what}")
    found: dict[str, Tensor] = loaded
    return found


def _refuse_other_kinds(path: Path) -> None:
    """Raise ValueError for what a download often leaves in a file's place."""
    with path.open("rb") as file:
        begin = file.read(64).lstrip()
    if begin.startswith(b"<"):
        raise ValueError(f"{path} is a web page: download the file that it leads to")
    if begin.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path} only points to a file of Git LFS: fetch it with git lfs pull")


def load_pickle(path: Path, device: str) -> object:
    """What `torch.save` wrote, as plain data and tensors. Raises ValueError in one line."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # torch.load fails in many ways on a file that is none of its own
        more = isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path)
        if more or "unsupported global" in str(error).lower():
            raise ValueError(
                f"{path} holds more than tensors and is not loaded, since that would run its code; "
                "open it where you trust it and save its state dict alone"
            ) from error
        # torch.load's own advice, to load the file as code, stands before what it came upon.
        found = str(error).rpartition("WeightsUnpickler error:")[2].strip()
        cause = (found.splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(f"{path} is no whole PyTorch checkpoint: {cause}") from error


def faults(wanted: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    """What keeps `weights` from being those `wanted`: missing, unknown, of another shape."""
    found = [f"missing {name}" for name in wanted if name not in weights]
    found += [f"unknown {name}" for name in weights if name not in wanted]
    found += [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    return found


def fill(network: nn.Module, weights: Mapping[str, Tensor], *, source: str) -> None:
    """Load `weights` into `network`; every name and shape must match.

    Raises ValueError that lists what is missing, unknown or of another shape, and says `source`.
    """
    if found := faults(network.state_dict(), weights):
        shown = "; ".join(found[:8]) + (f"; and {len(found) - 8} more" * (len(found) > 8))
        raise ValueError(f"{source} does not fit this network: {shown}")
    network.load_state_dict(weights)
