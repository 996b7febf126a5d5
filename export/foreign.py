"""Networks of others: any super-resolution or restoration checkpoint that `spandrel` recognises.

spandrel reads from a checkpoint's names and shapes which architecture it is of, and describes the
network: its factor, its channels, and what sizes it takes. Here that becomes a network by our
contract: (N, 3, H, W) -> (N, 3, s*H, s*W), RGB in [0, 1], any H, W >= 1. Images of other sizes are
padded inside by repeating the last row and column, and the output is cut, in PyTorch as in the
graph (spandrel's own call mirrors instead). The output is not clamped.

spandrel is an optional extra: `pip install gidrn[spandrel]`. The code of its architectures has
licences of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from export import fp16
from export.rewrites import RefusedError
from gidrn import checkpoints
from gidrn.networks.padding import pad_to


class Foreign(nn.Module):
    """A network of spandrel's by our contract."""

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        scale: int,
        least: int = 1,
        multiple: int = 1,
        call: Callable[[Any, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.name = name
        self.scale = scale
        self.least = least
        self.multiple = multiple
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        low = pad_to(x, self.least, self.multiple)
        pixels: Tensor = self.network(low) if self.call is None else self.call(self.network, low)
        return pixels[:, :, : self.scale * height, : self.scale * width]


def load(path: Path) -> Foreign:
    """The network of a checkpoint, in eval mode.

    Raises:
        ImportError: spandrel is not installed.
        FileNotFoundError: there is no such file.
        ValueError: the file is not plain tensors, spandrel does not know it, or it is of a network
            that is no enlargement or restoration of RGB images of any size.
    """
    weights = checkpoints.read_weights(path)
    try:
        import spandrel
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision of another torch
        raise ImportError(
            f"{path} is of none of the networks here; those that spandrel knows need it: "
            f"pip install gidrn[spandrel] ({error})"
        ) from error
    try:
        found = spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(weights))
    except spandrel.UnsupportedModelError as error:
        raise ValueError(
            f"{path} is of none of the networks here, nor of one that spandrel "
            f"{spandrel.__version__} knows; --model NAME says why it does not fit one of ours"
        ) from error
    except Exception as error:  # what an architecture says of tensors that do not fit it
        words = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} is none that spandrel {spandrel.__version__} can open: "
            f"{type(error).__name__}: {words}"
        ) from error
    name = str(found.architecture.id)
    if not isinstance(found, spandrel.ImageModelDescriptor):
        raise ValueError(f"{path} is a {name}, which needs more than an image: not exported")
    if (found.input_channels, found.output_channels) != (3, 3):
        raise ValueError(
            f"{path} is a {name} from {found.input_channels} channels to {found.output_channels}; "
            "files here take and give RGB"
        )
    wants = found.size_requirements
    if wants.square:
        raise ValueError(f"{path} is a {name} for square images alone: not exported")
    _settle(found.model)
    return Foreign(
        found.model.float(),
        name=name,
        scale=found.scale,
        least=max(1, wants.minimum),
        multiple=wants.multiple_of,
        call=getattr(found, "_call_fn", None),  # nothing public leads there but with padding
    ).eval()


def _settle(network: nn.Module) -> None:
    """Fold branches of training once and for all, where a network would do it at every call.

    SPAN's convolutions do, by writing weights, which cannot be traced.
    """
    for module in network.eval().modules():
        update = getattr(module, "update_params", None)
        if callable(update):
            with torch.no_grad():
                update()
            module.update_params = lambda: None  # type: ignore[assignment]


def require_types(network: Foreign) -> None:
    """Raises RefusedError where the network has parts that FP16 files are not made of.

    Of such parts, as of normalisations over channels, no emulation says what they do in FP16.
    """
    known = fp16.parts(network)
    other = sorted(
        {
            type(module).__name__
            for path, module in network.named_modules()
            if any(True for _ in module.parameters(recurse=False))
            and not any(path == part or path.startswith(f"{part}.") for part in known)
        }
    )
    if other:
        raise RefusedError(
            f"{network.name} cannot be written in FP16: nothing here says how {', '.join(other)} "
            "behave in it; leave out --dtype fp16"
        )
