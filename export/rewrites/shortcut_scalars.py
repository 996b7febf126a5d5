"""The dense shortcut's learnt scalars as constants of the graph.

output_j = body_j + sum of w_i^j * input_i with w_i^j read as numbers: exporting the parameter would
leave a lookup in the graph for each. A scalar that is exactly 0 or 1 costs no multiplication.
"""

from __future__ import annotations

from torch import Tensor, nn

from export.rewrites import replace
from gidrn.networks.gidrn import DenseShortcut


class ConstantShortcut(nn.Module):
    """DenseShortcut with numbers for weights."""

    def __init__(self, shortcut: DenseShortcut) -> None:
        super().__init__()
        self.bodies = shortcut.bodies
        self.weights = [[float(w) for w in row.detach()] for row in shortcut.weights]

    def forward(self, x: Tensor) -> Tensor:
        inputs = [x]
        for body, weights in zip(self.bodies, self.weights, strict=True):
            output = body(inputs[-1])
            for weight, earlier in zip(weights, inputs, strict=True):
                if weight != 0:
                    output = output + (earlier if weight == 1 else weight * earlier)
            inputs.append(output)
        return inputs[-1]


def apply(network: nn.Module) -> int:
    """Rewrite every dense shortcut below `network`, inner ones too; returns how many there were."""
    count = 0
    while changed := replace(network, DenseShortcut, ConstantShortcut):
        count += changed
    return count
