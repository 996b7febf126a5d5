"""Rewrites: a part of a network in other operations, with the same result.

Each is a file here: the formula in its docstring; `apply(network) -> int`, which changes a network
in place and says how many places, or `rewrite(network)` where the whole changes; and `RefusedError`
with a reason where it does not hold. `export.to_onnx.rewritten` calls them in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

Old = TypeVar("Old", bound=nn.Module)


class RefusedError(ValueError):
    """A rewrite that does not hold for this network, with the reason."""


def replace(network: nn.Module, kind: type[Old], make: Callable[[Old], nn.Module]) -> int:
    """Put `make(part)` in the place of every part of type `kind` below `network`; count them."""
    count = 0
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kind):
                setattr(parent, name, make(child))
                count += 1
    return count
