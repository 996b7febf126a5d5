"""G-IDRN: networks, training and evaluation in PyTorch.

`create(name, scale)` builds a network, `load(name, scale)` one with weights, and `variants()`
lists the weights that ship.
"""

from gidrn.zoo import NETWORKS, create, load, variants

__all__ = ["NETWORKS", "create", "load", "variants"]
