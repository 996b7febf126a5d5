"""G-IDRN by kernels of our own, in C++: `gidrn_runtime/native`.

One network in FP32, fast: residual blocks fused, grouped convolutions by Winograd's F(4x4, 3x3), in
AVX2, AVX-512 or what the compiler makes of plain vectors (NEON). Everything else is refused.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gidrn_runtime import gidrn_graph, processor
from gidrn_runtime.engines.base import Array, Engine, TensorSpec
from gidrn_runtime.errors import EngineError, EngineUnavailable, FrameTooLargeError, ModelError
from gidrn_runtime.gidrn_graph import Config, GidrnGraph

FOLDER = Path(__file__).resolve().parent.parent / "native"
LIBRARIES = ("libgidrn.so", "libgidrn.dylib")
"""What the build compiles into `FOLDER`, by platform."""
INTERFACE = 1
"""Of the library that this module can call."""
INSTRUCTIONS = ("avx512", "avx2", "portable")
"""The sets of vector instructions that the kernels are compiled for, the best first."""
CHOICE = "GIDRN_NATIVE_INSTRUCTIONS"
"""The environment variable that asks for one of them."""
OK, NO_MEMORY = 0, 1
KINDS = {None: 0, "rgb": 1, "bgr": 2}
"""What runs: float tensors, or frames by the order of their channels."""
MOST_POOLS = 16


class _Config(ctypes.Structure):
    _fields_: ClassVar = [
        *[(name, ctypes.c_int32) for name in ("channels", "reduced", "blocks", "scale")],
        *[(name, ctypes.c_int32) for name in ("anrb", "knots", "pools")],
        ("pool_sizes", ctypes.c_int32 * MOST_POOLS),
        ("slope", ctypes.c_float),
    ]


@cache
def library() -> Any:
    """The compiled kernels.

    Raises:
        EngineUnavailable: they were not compiled, or do not load here.
    """
    found = [path for name in LIBRARIES if (path := FOLDER / name).is_file()]
    if not found:
        raise EngineUnavailable(
            f"native was built without a C++ compiler, so that there is no {LIBRARIES[0]} in "
            f"{FOLDER}; {Native.remedy}"
        )
    return load(found[0])


def load(path: Path) -> Any:
    """A compiled library, its functions typed. Raises EngineUnavailable where it does not load."""
    try:
        loaded = ctypes.CDLL(str(path))
        interface = int(loaded.gidrn_interface())
    except (OSError, AttributeError) as error:
        raise EngineUnavailable(f"native cannot load {path}: {error}; {Native.remedy}") from error
    if interface != INTERFACE:
        raise EngineUnavailable(
            f"native calls interface {INTERFACE} of its library, and {path} has {interface}; "
            f"{Native.remedy}"
        )
    pointer, number, text = ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p
    for name, result, arguments in (
        ("has", number, [text]),
        ("weights", ctypes.c_uint64, [pointer]),
        ("open", pointer, [pointer, pointer, number, text]),
        ("memory", ctypes.c_uint64, [pointer, number, number]),
        ("run", number, [pointer, number, pointer, pointer, number, number, number]),
        ("close", None, [pointer]),
    ):
        function = getattr(loaded, f"gidrn_{name}")
        function.restype, function.argtypes = result, arguments
    return loaded


def instructions(loaded: Any) -> str:
    """The best set of instructions here, or the one that the environment asks for.

    Raises:
        EngineUnavailable: that one is unknown, or not there.
    """
    here = [name for name in INSTRUCTIONS if loaded.gidrn_has(name.encode())]
    asked = os.environ.get(CHOICE)
    if not asked:
        return here[0]
    if asked not in here:
        raise EngineUnavailable(
            f"{CHOICE} asks for {asked!r}, and this machine has {', '.join(here)}"
        )
    return asked


def c_config(config: Config) -> ctypes.Structure:
    """The configuration as the library takes it. Raises ModelError on too many pool sizes."""
    pools = config.pool_sizes
    if len(pools) > MOST_POOLS:
        raise ModelError(f"native takes at most {MOST_POOLS} pool sizes, not {len(pools)}")
    return _Config(
        *(config.channels, config.reduced, config.blocks, config.scale),
        *(int(config.anrb), config.knots, len(pools)),
        (ctypes.c_int32 * MOST_POOLS)(*pools),
        config.slope,
    )


class Network:
    """Weights packed for one set of instructions, with threads of their own."""

    def __init__(
        self, loaded: Any, config: Config, weights: np.ndarray, threads: int, chosen: str
    ) -> None:
        """`weights` is flat, in the order that native/network.h gives.

        Raises:
            ModelError: the configuration, or the number of weights, is none that it takes.
            EngineError: there is no memory.
        """
        c = c_config(config)
        wanted = int(loaded.gidrn_weights(ctypes.byref(c)))
        if wanted != weights.size:
            raise ModelError(
                f"native does not take this network: {config} with {weights.size} weights"
                + (f", and not {wanted}" if wanted else "")
            )
        flat = np.ascontiguousarray(weights, np.float32)
        self._library = loaded
        self._handle = loaded.gidrn_open(
            ctypes.byref(c), flat.ctypes.data, threads, chosen.encode()
        )
        if not self._handle:
            raise EngineError("native has too little memory for the network or for its threads")
        self.scale = config.scale
        # Also where nobody closes it. Not at the process's end: a thread may be at a run then.
        self._release = weakref.finalize(self, _release, loaded, self._handle, os.getpid())
        self._release.atexit = False

    def memory(self, height: int, width: int) -> int:
        """Bytes of working memory for one image."""
        return int(self._library.gidrn_memory(self._handle, height, width))

    def run(self, images: Array, frames: str | None = None, out: Array | None = None) -> Array:
        """float32 (N, 3, H, W), or uint8 (N, H, W, 3) in the order `frames`, enlarged; into `out`
        if given.

        Raises FrameTooLargeError without the memory, and EngineError once it is closed.
        """
        if not self._handle:
            raise EngineError("native is closed; open the model again")
        if frames is None:
            n, channels, height, width = images.shape
            shape = (n, channels, self.scale * height, self.scale * width)
        else:
            n, height, width, channels = images.shape
            shape = (n, self.scale * height, self.scale * width, channels)
        size = f"{n} of {height}x{width}"
        try:
            high = np.empty(shape, images.dtype) if out is None else out
        except (MemoryError, ValueError) as error:
            raise FrameTooLargeError(f"native has no memory for the output of {size}") from error
        status = self._library.gidrn_run(
            *(self._handle, KINDS[frames], images.ctypes.data, high.ctypes.data),
            *(n, height, width),
        )
        if status == NO_MEMORY:
            needed = self.memory(height, width) / 2**20
            raise FrameTooLargeError(f"native could not get {needed:.0f} MiB for {size}")
        if status != OK:
            raise EngineError(f"native failed with status {status} on {size}")
        return high

    def close(self) -> None:
        self._handle = None
        self._release()


def _release(loaded: Any, handle: int, opened_in: int) -> None:
    """Free a network, its threads and its memory. In a fork, which has no such threads to wait for,
    it is left to the process's end."""
    if os.getpid() == opened_in:
        loaded.gidrn_close(handle)


class Native(Engine):
    """One G-IDRN file on the CPU.

    Weights come from the ordinary ONNX file. Any number of threads may call `run`: each call has
    its own working memory, one of which is kept for the next call of the same size, and all share
    `threads` threads (the cores it may use by default). The output is the same to the bit for each
    number of threads. With the shipped models the working memory is six times height x width x
    channels floats, and eight times that for small frames on several threads.
    """

    name = "native"
    tile_engine = "ort-cpu"
    runs_in_turn = True
    remedy = (
        "install a C++ compiler (on Debian: apt install g++) and gidrn again, without a cached "
        "wheel: pip install --no-cache-dir --force-reinstall --no-deps gidrn"
    )

    @classmethod
    def installed_version(cls) -> str:
        from gidrn_runtime import __version__

        instructions(library())
        return __version__

    @classmethod
    def build(cls) -> str:
        return f"{cls.installed_version()} {instructions(library())}"

    @classmethod
    def refusal(cls, model: Path) -> str:
        try:
            gidrn_graph.read(model)
        except ModelError as error:
            return str(error)
        return ""

    def __init__(self, model: Path, threads: int | None = None) -> None:
        loaded = library()
        self._instructions = instructions(loaded)
        try:
            graph = gidrn_graph.read(model)
        except gidrn_graph.OtherNetworkError as error:
            raise ModelError(f"native does not take {error}; take engine='ort-cpu'") from error
        self._threads = threads
        self._frames = frames_of(graph)
        self._config = graph.config
        self.metadata = dict(graph.file.metadata)
        self.inputs, self.outputs = (
            tuple(TensorSpec(value.name, value.dtype, value.shape) for value in values)
            for values in (graph.file.inputs, graph.file.outputs)
        )
        cores = threads or processor.usable_cores()
        self._network = Network(loaded, graph.config, flat(graph), cores, self._instructions)

    def run(self, tensor: Array) -> Array:
        return self._network.run(tensor, self._frames)

    def run_into(self, tensor: Array, out: Array) -> None:
        self._network.run(tensor, self._frames, out)

    def run_frames(self, frames: Array, color: str, out: Array | None = None) -> Array | None:
        return self._network.run(np.ascontiguousarray(frames), color, out)

    def close(self) -> None:
        self._network.close()

    def describe(self) -> dict[str, object]:
        from gidrn_runtime import __version__

        return {
            "engine": self.name,
            "engine_version": __version__,
            "device": "cpu",
            "instructions": self._instructions,
            "threads": self._threads,
        }


def frames_of(graph: GidrnGraph) -> str | None:
    """Order of the channels of a model of frames, None for one of tensors."""
    metadata = graph.file.metadata
    return metadata.get("color") if metadata.get("range") == "0-255" else None


def flat(graph: GidrnGraph) -> np.ndarray:
    """All weights as the library wants them."""
    parts = [*graph.weights, graph.shortcuts]
    return np.concatenate([part.reshape(-1) for part in parts]).astype(np.float32, copy=False)
