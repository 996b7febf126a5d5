"""Configurations of every network that make it quick and leave all its parts."""

from __future__ import annotations

from typing import Any

import torch

from gidrn.networks.bicubic import BicubicConfig
from gidrn.networks.carn import CARNConfig
from gidrn.networks.drcn import DRCNConfig
from gidrn.networks.drrn import DRRNConfig
from gidrn.networks.edsr import EDSRConfig
from gidrn.networks.fsrcnn import FSRCNNConfig
from gidrn.networks.gidrn import GIDRN, GIDRNConfig
from gidrn.networks.idn import IDNConfig
from gidrn.networks.imdn import IMDNConfig
from gidrn.networks.lapsrn import LapSRNConfig
from gidrn.networks.latticenet import LatticeNetConfig
from gidrn.networks.memnet import MemNetConfig
from gidrn.networks.pan import PANConfig
from gidrn.networks.rcan import RCANConfig
from gidrn.networks.rfdn import RFDNConfig
from gidrn.networks.rfdn_aim import RFDNAIMConfig
from gidrn.networks.smsr import SMSRConfig
from gidrn.networks.srcnn import SRCNNConfig
from gidrn.networks.srmdnf import SRMDNFConfig
from gidrn.networks.vdsr import VDSRConfig

SMALL: dict[str, Any] = {
    "gidrn": GIDRNConfig(channels=16, groups_of_blocks=2, blocks_per_group=2),
    "idrn": GIDRNConfig(channels=16, groups_of_blocks=1, blocks_per_group=1, group_width=None),
    "rfdn": RFDNConfig(channels=8, blocks=2),
    "rfdn_l": RFDNConfig(channels=12, blocks=2, dual_path=True, dense_shortcut=True, anrb=True),
    "rfdn_aim": RFDNAIMConfig(channels=8, blocks=2),
    "imdn": IMDNConfig(channels=16, blocks=2, distilled=4),
    "imdn_jdsr": IMDNConfig(channels=16, blocks=2, distilled=4),
    "pan": PANConfig(channels=8, up_channels=4, blocks=2),
    "latticenet": LatticeNetConfig(channels=16, inner_channels=8, blocks=2),
    "smsr": SMSRConfig(channels=8, modules=2, layers=3, attention_reduction=4),
    "carn": CARNConfig(channels=8),
    "carn_m": CARNConfig(channels=8, groups=4, shared=True),
    "edsr": EDSRConfig(channels=8, blocks=2),
    "rcan": RCANConfig(channels=16, groups=2, blocks=2),
    "srmdnf": SRMDNFConfig(channels=8, depth=3),
    "idn": IDNConfig(channels=16, blocks=2),
    "memnet": MemNetConfig(channels=4, blocks=2, recursions=2),
    "drrn": DRRNConfig(channels=4, units=3),
    "drcn": DRCNConfig(channels=4, recursions=3),
    "lapsrn": LapSRNConfig(channels=4, depth=2),
    "vdsr": VDSRConfig(channels=4, depth=4),
    "fsrcnn": FSRCNNConfig(channels=8, shrunk=4, mappings=2),
    "srcnn": SRCNNConfig(widths=(8, 4)),
    "bicubic": BicubicConfig(),
}
"""In the zoo's order."""

ONE_BLOCK = GIDRNConfig(channels=16, groups_of_blocks=1, blocks_per_group=1)


def trained_like(scale: int, config: GIDRNConfig = ONE_BLOCK) -> GIDRN:
    """A small G-IDRN with outputs in [0, 1] or near it, as trained weights give them.

    Fresh ones leave that range, and the proof of an export then takes some five times as long: it
    asks FP64 whether the network is lost.
    """
    torch.manual_seed(0)
    network = GIDRN(scale, config).eval()
    with torch.no_grad():
        for part in (network.fine.conv, network.coarse.conv):
            part.weight.mul_(0.25)
        assert network.fine.conv.bias is not None
        network.fine.conv.bias.add_(0.5)
    return network
