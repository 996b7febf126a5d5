"""The networks by name, and the weights that ship with the project.

A network is one file in `gidrn/networks` and one line in `NETWORKS`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gidrn import checkpoints, matlab, official
from gidrn.networks.bicubic import Bicubic, BicubicConfig
from gidrn.networks.carn import CARN, CARNConfig
from gidrn.networks.drcn import DRCN, DRCNConfig
from gidrn.networks.drrn import DRRN, DRRNConfig
from gidrn.networks.edsr import EDSR, EDSRConfig
from gidrn.networks.fsrcnn import FSRCNN, FSRCNNConfig
from gidrn.networks.gidrn import GIDRN, GIDRNConfig
from gidrn.networks.idn import IDN, IDNConfig
from gidrn.networks.imdn import IMDN, IMDNConfig
from gidrn.networks.lapsrn import LapSRN, LapSRNConfig
from gidrn.networks.latticenet import LatticeNet, LatticeNetConfig
from gidrn.networks.memnet import MemNet, MemNetConfig
from gidrn.networks.pan import PAN, PANConfig
from gidrn.networks.rcan import RCAN, RCANConfig
from gidrn.networks.rfdn import RFDN, RFDNConfig
from gidrn.networks.rfdn_aim import LEAST_SIDE, RFDNAIM, RFDNAIMConfig
from gidrn.networks.smsr import MULTIPLE, SMSR, SMSRConfig
from gidrn.networks.srcnn import SRCNN, SRCNNConfig
from gidrn.networks.srmdnf import SRMDNF, SRMDNFConfig
from gidrn.networks.vdsr import VDSR, VDSRConfig

SCALES = (2, 3, 4)
"""The factors of the paper's tables."""

WEIGHTS_FOLDER = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Network:
    """A line of the zoo: how to build a network, and how it looks at its input."""

    build: Callable[[int, Any], nn.Module]
    """(scale, config) -> module."""
    config: Any
    """The configuration that the name stands for: a frozen dataclass."""
    context: int | Literal["global"]
    """Reach of one output pixel in input pixels, or "global" where it sees the whole image."""
    source: str
    """Where the network comes from."""
    others: tuple[Any, ...] = ()
    """Configurations that weight files of this name have, too."""
    least_side: int = 1
    """Least height and width that it sees: smaller images are padded inside, and cut behind."""
    multiple: int = 1
    """What the height and width that it sees divide by, by the same padding."""


NETWORKS: dict[str, Network] = {
    "gidrn": Network(GIDRN, GIDRNConfig(), "global", "the paper, Section 2"),
    "idrn": Network(GIDRN, GIDRNConfig(group_width=None), "global", "the paper, Table 6"),
    "rfdn": Network(RFDN, RFDNConfig(channels=48), "global", "the paper, Table 1, row 1"),
    "rfdn_l": Network(RFDN, RFDNConfig(channels=52), "global", "the paper, Table 4"),
    "rfdn_aim": Network(
        RFDNAIM,
        RFDNAIMConfig(),
        "global",  # ESA stretches its coarse map over the whole image, whatever its size
        "Liu et al., ECCV Workshops 2020",
        least_side=LEAST_SIDE,
    ),
    "imdn": Network(IMDN, IMDNConfig(), "global", "Hui et al., ACM MM 2019"),
    "imdn_jdsr": Network(IMDN, IMDNConfig(), "global", "the paper, Table 4"),
    "pan": Network(PAN, PANConfig(), 36, "Zhao et al., ECCV Workshops 2020"),
    "latticenet": Network(LatticeNet, LatticeNetConfig(), "global", "Luo et al., ECCV 2020"),
    "smsr": Network(SMSR, SMSRConfig(), "global", "Wang et al., CVPR 2021", multiple=MULTIPLE),
    "carn": Network(
        CARN,
        CARNConfig(),
        21,
        "Ahn et al., ECCV 2018",
        others=(CARNConfig(multi_scale=False),),
    ),
    "carn_m": Network(
        CARN,
        CARNConfig(groups=4, shared=True),
        21,
        "Ahn et al., ECCV 2018, Sec. 3.3",
        others=(CARNConfig(groups=4, shared=True, multi_scale=False),),
    ),
    "edsr": Network(EDSR, EDSRConfig(), 68, "Lim et al., CVPR Workshops 2017"),
    "rcan": Network(RCAN, RCANConfig(), "global", "Zhang et al., ECCV 2018"),
    "srmdnf": Network(SRMDNF, SRMDNFConfig(), 12, "Zhang et al., CVPR 2018"),
    "idn": Network(IDN, IDNConfig(), 30, "Hui et al., CVPR 2018"),
    "memnet": Network(MemNet, MemNetConfig(), 39, "Tai et al., ICCV 2017"),
    "drrn": Network(
        DRRN, DRRNConfig(), 28, "Tai et al., CVPR 2017", others=(DRRNConfig(bias=False),)
    ),
    "drcn": Network(
        DRCN, DRCNConfig(), 12, "Kim et al., CVPR 2016", others=(DRCNConfig(bias=True),)
    ),
    "lapsrn": Network(
        LapSRN,
        LapSRNConfig(),
        18,
        "Lai et al., CVPR 2017",
        others=(LapSRNConfig(depth=10, up_kernel=3),),
    ),
    "vdsr": Network(
        VDSR, VDSRConfig(), 12, "Kim et al., CVPR 2016", others=(VDSRConfig(bias=False),)
    ),
    "fsrcnn": Network(FSRCNN, FSRCNNConfig(), 8, "Dong et al., ECCV 2016"),
    "srcnn": Network(
        SRCNN, SRCNNConfig(), 6, "Dong et al., TPAMI 2016", others=(SRCNNConfig(kernels=(9, 5, 5)),)
    ),
    "bicubic": Network(Bicubic, BicubicConfig(), 2, "MATLAB's imresize"),
}


@dataclass(frozen=True)
class Variant:
    """Weights that ship with the project."""

    network: str
    scale: int
    path: Path
    parameters: int
    color_range: str
    """What the network takes and gives, whatever its authors used inside."""
    licence: str
    paper: str
    """The place in the paper that it answers to."""


VARIANTS: dict[str, Variant] = {
    f"gidrn_x{scale}": Variant(
        "gidrn",
        scale,
        WEIGHTS_FOLDER / f"gidrn_x{scale}.safetensors",
        parameters,
        "RGB in [0, 1]",
        "Apache-2.0",
        f"Table 4, x{scale}",
    )
    for scale, parameters in ((2, 553_641), (3, 564_516), (4, 579_741))
}


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a name that is not there: the nearest first, then all."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ValueError(f"no {kind} is called {name!r}: {hint}there are {', '.join(names)}")


def find(name: str) -> Network:
    """The network called `name`. Raises ValueError that names the nearest."""
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    return NETWORKS[name]


def configured(name: str, fields: Mapping[str, Any]) -> Any:
    """The configuration that `name` stands for, with `fields` in the place of its own.

    `fields` are as JSON holds them: a list stands for a tuple. Raises ValueError for an unknown
    field, naming the nearest, and for a value that the network does not take.
    """
    config = find(name).config
    known = [field.name for field in dataclasses.fields(config)]
    for field, value in fields.items():
        if field not in known:
            raise unknown(f"field of {name}'s configuration", field, known)
        if isinstance(getattr(config, field), bool) != isinstance(value, bool):
            kind = type(getattr(config, field)).__name__
            raise ValueError(f"{field} of {name} is of the kind {kind}, which {value!r} is not")
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
    try:
        made = dataclasses.replace(config, **values)
        hash(made)  # which lists within a value would forbid
        return made
    except TypeError as error:  # such as a word where a check compares numbers
        raise ValueError(f"{name} cannot be configured with {values}: {error}") from error


def create(name: str, scale: int, *, config: Any = None) -> nn.Module:
    """Build a network with fresh weights: (N, 3, H, W) -> (N, 3, s*H, s*W), RGB in [0, 1].

    `config` replaces the configuration that the name stands for; it is of the same dataclass.
    Raises ValueError for an unknown name, a scale other than 2, 3 or 4, and another config class.
    """
    network = find(name)
    if scale not in SCALES:
        raise ValueError(f"scale is one of {', '.join(map(str, SCALES))}, not {scale}")
    if config is None:
        config = network.config
    if type(config) is not type(network.config):
        raise ValueError(
            f"{name} is configured by a {type(network.config).__name__}, "
            f"not a {type(config).__name__}"
        )
    return network.build(scale, config)


def load(
    name: str, scale: int, *, weights: Path | str | None = None, config: Any = None
) -> nn.Module:
    """Build a network and give it weights: the shipped ones, or those of a file; in eval mode.

    The file is one of ours, or one of the authors' (`gidrn.official` and `gidrn.matlab` know their
    names); without `config`, it may also be of one of the network's other configurations, or of the
    one that its own recipe names, as an ablation's is. Bicubic needs none.
    Raises ValueError where nothing ships for `name` and `scale` or the file does not fit, and
    FileNotFoundError where there is none. Made-up weights are never put in their place.
    """
    if weights is None and needs_no_weights(name):
        return create(name, scale, config=config).eval()
    path = shipped_weights(name, scale) if weights is None else Path(weights)
    named = _reader(path)
    configs = _configs(name, checkpoints.trained_in(path)) if config is None else [config]
    modules = [create(name, scale, config=one) for one in configs]
    tried = []
    for module in modules:
        wanted = module.state_dict()
        found = _with_blur(named(name, wanted), wanted, path)
        tried.append((len(checkpoints.faults(wanted, found)), module, found))
    _, module, found = min(tried, key=lambda one: one[0])
    try:
        checkpoints.fill(module, found, source=str(path))
    except ValueError as error:
        fits = recognise(path)
        if config is not None or not fits:
            raise
        words = ", ".join(f"{known} x{factor}" for known, factor in fits)
        raise ValueError(f"{error}; it is of {words}") from error
    return module.eval()


def recognise(path: Path) -> list[tuple[str, int]]:
    """Every network and factor, (name, scale), whose tensors a weights file has; [] for none.

    In the zoo's order: IMDN comes before IMDN-JDSR, which is the same network. Some networks are
    the same at several factors, as VDSR is. Raises as `load` does for a file that cannot be read.
    """
    named = _reader(path)
    found: list[tuple[str, int]] = []
    recorded = checkpoints.trained_in(path)
    for name in NETWORKS:
        configs = _configs(name, recorded)
        for factor in SCALES:
            for config in configs:
                wanted = _layout(find(name).build, factor, config)
                try:
                    tensors = named(name, wanted)
                except ValueError:  # not laid out as this network's MATLAB files are
                    continue
                lacking = set(checkpoints.faults(wanted, tensors)) - {_NO_BLUR}
                if wanted and not lacking and (name, factor) not in found:
                    found.append((name, factor))
    return found


def needs_no_weights(name: str) -> bool:
    """Whether a network is all formula, as bicubic is. Raises ValueError for an unknown name."""
    network = find(name)
    return not _layout(network.build, SCALES[0], network.config)


@functools.cache
def _layout(
    build: Callable[[int, Any], nn.Module], scale: int, config: Any
) -> Mapping[str, Tensor]:
    """The names and shapes of a network's tensors, without values; not to be changed."""
    with torch.device("meta"):
        return dict(build(scale, config).state_dict())


def _configs(name: str, recorded: tuple[str, dict[str, Any]] | None) -> list[Any]:
    """The configuration that a file says it was trained in; else the network's, and its others.

    `recorded` is the file's word, as `checkpoints.trained_in` gives it.
    Its word comes before its tensors, which do not tell all: ANRB's sampling has none.
    """
    network = find(name)
    if recorded is not None and recorded[0] == name:
        return [configured(name, recorded[1])]
    return [network.config, *network.others]


def _reader(path: Path) -> Callable[[str, Mapping[str, Tensor]], dict[str, Tensor]]:
    """Reads a file; gives what it holds under a network's names, by name and tensors wanted."""
    if path.suffix == ".mat":
        variables = matlab.read(path)
        return lambda name, wanted: matlab.to_our_names(name, variables, wanted, source=str(path))
    loaded = checkpoints.read_weights(path)
    return lambda name, wanted: official.to_our_names(name, loaded, wanted)


_NO_BLUR = "missing degradation"
"""What SRMDNF's own files lack: it lies in a file beside them."""


def _with_blur(
    found: dict[str, Tensor], wanted: Mapping[str, Tensor], path: Path
) -> dict[str, Tensor]:
    """SRMDNF's tensors with the one that lies beside its authors' file; others as they are."""
    if checkpoints.faults(wanted, found) != [_NO_BLUR]:
        return found
    degradation = matlab.degradation_of_bicubic(path)
    if degradation is None:
        raise ValueError(
            f"{path} says nothing of the blur: put the authors' projection beside it, "
            f"{' or '.join(matlab.PROJECTIONS)} (with the matrix P of 15 x 225)"
        )
    return {**found, "degradation": degradation}


def shipped_weights(name: str, scale: int) -> Path:
    """Path of the shipped weights for `name` x`scale`. Raises ValueError where none ship."""
    find(name)
    for variant in VARIANTS.values():
        if (variant.network, variant.scale) == (name, scale):
            return variant.path
    raise ValueError(
        f"no weights ship for {name} x{scale}, only for {', '.join(VARIANTS)}: "
        "name a file of yours, or train one with python -m gidrn.train"
    )


def variants() -> dict[str, Variant]:
    """The shipped weights by name."""
    return dict(VARIANTS)
