"""The native engine: exact against PyTorch, the same on any number of threads, and choosy."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import gidrn
from export import to_onnx
from export.rewrites.attention import CurveAttention, ExportedANRB
from gidrn.networks.anrb import ANRB
from gidrn.networks.gidrn import GIDRN, DenseShortcut, GIDRNConfig
from gidrn_runtime import (
    EngineError,
    EngineUnavailable,
    ModelError,
    Upscaler,
    engines,
    gidrn_graph,
    models,
    onnx_reader,
)
from gidrn_runtime.engines import native
from gidrn_runtime.gidrn_graph import Config

REPOSITORY = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("native_driver.cpp")
LEVELS = 0.01
"""Most that the engine may differ from PyTorch, in 8-bit levels: FP32 sums in another order. On the
small networks here it is under 0.001."""

CONFIGS = {
    "72 channels": GIDRNConfig(groups_of_blocks=1, blocks_per_group=1),
    "two by two": GIDRNConfig(channels=16, groups_of_blocks=2, blocks_per_group=2),
    "one group": GIDRNConfig(channels=8, groups_of_blocks=1, blocks_per_group=2),
    "40 channels": GIDRNConfig(channels=40, groups_of_blocks=1, blocks_per_group=1),
    "no attention": GIDRNConfig(channels=16, groups_of_blocks=1, blocks_per_group=1, anrb=False),
    "all points": GIDRNConfig(channels=16, groups_of_blocks=1, blocks_per_group=1, pool_sizes=()),
    "large pyramid": GIDRNConfig(
        channels=24, groups_of_blocks=1, blocks_per_group=1, pool_sizes=(1, 6, 8, 11)
    ),
}
SIZES_HW = [(1, 1), (1, 7), (9, 1), (2, 3), (5, 4), (13, 18), (8, 131), (3, 260), (5, 530)]
"""Sides under a tile, thin ones, odd ones, widths of one to three spans, and of two strips."""


@pytest.fixture(scope="module")
def library() -> Any:
    """The compiled kernels; a skip where gidrn was installed without a compiler."""
    try:
        return native.library()
    except EngineUnavailable as error:
        if shutil.which("c++"):
            pytest.fail(f"there is a compiler, and the kernels are not compiled: {error}")
        pytest.skip(str(error))


def made_up(config: GIDRNConfig, scale: int) -> Any:
    """A network whose every part shows in its output."""
    torch.manual_seed(0)
    network = GIDRN(scale, config).eval()
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, DenseShortcut):
                for scalars in part.weights:
                    scalars.add_(0.3 * torch.randn_like(scalars))
        if config.anrb:
            for parameter in network.anrb.parameters():
                parameter.mul_(3)
    return network


def flat(network: Any, knots: int = 0) -> tuple[Config, np.ndarray]:
    """The network as the library takes it."""
    bodies = [
        (block, list(group.weights[j]))
        for group in network.deep.bodies
        for j, block in enumerate(group.bodies)
    ]
    state = {k: v.numpy() for k, v in network.state_dict().items()}
    parts = []

    def add(*names: str) -> None:
        for name in names:
            parts.extend([state[f"{name}.weight"].reshape(-1), state[f"{name}.bias"]])

    add("shallow", "coarse.conv")
    groups = len(network.deep.bodies)
    per_group = len(bodies) // groups
    for group in range(groups):
        for j in range(per_group):
            here = f"deep.bodies.{group}.bodies.{j}"
            for step in range(3):
                add(f"{here}.steps.{step}.pointwise", f"{here}.steps.{step}.grouped")
            add(f"{here}.grouped", f"{here}.fuse")
            add(f"{here}.attention.weigh.0", f"{here}.attention.weigh.2")
    config = network_config(network, len(bodies), knots)
    if config.anrb:
        names = ("query", "key", "value")
        parts.extend(state[f"anrb.{name}.weight"].reshape(-1) for name in names)
        parts.extend(state[f"anrb.{name}.bias"] for name in names)
        add("anrb.expand")
    add("fine.conv")
    table = np.zeros((len(bodies), len(bodies)), np.float32)
    for group in range(groups):
        for j in range(per_group):
            row = group * per_group + j
            for i in range(j + 1):
                table[row, group * per_group + i] += state[f"deep.bodies.{group}.weights.{j}"][i]
        for i in range(group + 1):
            table[row, i * per_group] += state[f"deep.weights.{group}"][i]
    parts.append(table.reshape(-1))
    return config, np.concatenate(parts)


def network_config(network: Any, blocks: int, knots: int) -> Config:
    anrb = isinstance(network.anrb, ANRB)
    first = network.deep.bodies[0].bodies[0]
    return Config(
        channels=network.shallow.out_channels,
        reduced=first.attention.weigh[0].out_channels,
        blocks=blocks,
        scale=round((network.fine.conv.out_channels / 3) ** 0.5),
        anrb=anrb,
        knots=knots,
        pool_sizes=network.anrb.pool_sizes if anrb else (),
        slope=0.05,
    )


def opened(library: Any, network: Any, threads: int = 1, chosen: str = "", knots: int = 0) -> Any:
    config, weights = flat(network, knots)
    best = chosen or native.instructions(library)
    return native.Network(library, config, weights, threads, best)


def images(size_hw: tuple[int, int], batch: int = 2) -> np.ndarray:
    """Smooth, so that a network with made-up weights is not lost on them."""
    ramp = np.linspace(0, 1, batch * 3 * size_hw[0] * size_hw[1], dtype=np.float32)
    return np.sin(9 * ramp).reshape(batch, 3, *size_hw) / 2 + np.float32(0.5)


@torch.no_grad()
def by_torch(network: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    found: np.ndarray = network(torch.from_numpy(x)).numpy()
    return found


def levels(a: np.ndarray, b: np.ndarray) -> float:
    return float(255 * np.abs(a - b).max())


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("chosen", ["portable", "avx2", "avx512"])
def test_it_computes_what_pytorch_computes(library: Any, name: str, chosen: str) -> None:
    if not library.gidrn_has(chosen.encode()):
        pytest.skip(f"this machine has no {chosen}")
    scale = 2 + list(CONFIGS).index(name) % 3
    network = made_up(CONFIGS[name], scale)
    engine = opened(library, network, 3, chosen)
    for size_hw in SIZES_HW:
        x = images(size_hw)
        assert levels(engine.run(x), by_torch(network, x)) < LEVELS, size_hw
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run(images((4, 4)))


@pytest.mark.parametrize("value", ["black", "white", "noise"])
def test_flat_and_noisy_images(library: Any, value: str) -> None:
    network = made_up(CONFIGS["two by two"], 4)
    x = np.full((1, 3, 21, 30), 1.0 if value == "white" else 0.0, np.float32)
    if value == "noise":
        x = np.random.default_rng(0).random(x.shape, np.float32)
    assert levels(opened(library, network).run(x), by_torch(network, x)) < LEVELS


def test_the_curve_is_the_exports(library: Any) -> None:
    network = made_up(CONFIGS["large pyramid"], 2)
    x = images((17, 23), batch=1)
    curve = opened(library, network, knots=16).run(x)
    exact = by_torch(network, x)
    network.anrb = ExportedANRB(network.anrb, CurveAttention(16))
    assert levels(curve, by_torch(network, x)) < LEVELS
    assert levels(curve, exact) > LEVELS  # else this would test nothing


def test_no_point_of_many_is_lost(library: Any) -> None:
    """Sums over all points of a flat frame: each term rounds in the same direction."""
    config = GIDRNConfig(channels=8, groups_of_blocks=1, blocks_per_group=1, pool_sizes=())
    network = made_up(config, 2)
    x = np.full((1, 3, 200, 200), 0.7, np.float32)
    high = opened(library, network, knots=4).run(x)
    network.anrb = ExportedANRB(network.anrb, CurveAttention(4))
    assert levels(high, by_torch(network.double(), x.astype(np.float64))) < LEVELS


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted as Linux tells them")
def test_what_nobody_closes_is_released(library: Any) -> None:
    gc.collect()
    threads = len(os.listdir("/proc/self/task"))
    engine = opened(library, made_up(CONFIGS["one group"], 2), threads=9)
    engine.run(images((4, 4)))
    assert len(os.listdir("/proc/self/task")) == threads + 8
    del engine
    # A thread that has been joined may be listed for a moment more.
    until = time.monotonic() + 20
    while len(os.listdir("/proc/self/task")) > threads and time.monotonic() < until:
        time.sleep(0.01)
    assert len(os.listdir("/proc/self/task")) <= threads


@pytest.mark.parametrize(
    ("name", "size_hw"),
    [
        ("two by two", (33, 150)),
        pytest.param("no attention", (517, 530), id="all stages in one pass on two threads"),
    ],
)
def test_any_number_of_threads_and_callers_gives_the_same_bits(
    library: Any, name: str, size_hw: tuple[int, int]
) -> None:
    network = made_up(CONFIGS[name], 3)
    x = images(size_hw)
    one = opened(library, network, 1).run(x)
    for threads in (2, 3, 7):
        engine = opened(library, network, threads)
        with ThreadPoolExecutor(2) as callers:
            for high in callers.map(engine.run, [x, x]):
                np.testing.assert_array_equal(high, one)
        engine.close()


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_frames_are_converted_inside(library: Any, color: str) -> None:
    network = made_up(CONFIGS["two by two"], 2)
    engine = opened(library, network)
    frames = np.random.default_rng(1).integers(0, 256, (2, 11, 14, 3), np.uint8)
    order = slice(None, None, -1 if color == "bgr" else 1)
    x = np.ascontiguousarray(frames[..., order].transpose(0, 3, 1, 2), np.float32) / np.float32(255)
    high = np.rint(np.clip(engine.run(x), 0, 1) * np.float32(255)).astype(np.uint8)
    np.testing.assert_array_equal(engine.run(frames, color)[..., order], high.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("name", models.shipped())
def test_shipped_models_come_out_as_in_pytorch(library: Any, name: str) -> None:
    scale = int(name[-1])
    photo = torch.from_numpy(images((40, 52), batch=1)).numpy()
    with Upscaler(name, check=True, threads=1) as upscale:
        told = upscale.describe()
        assert (told["engine"], told["threads"]) == ("native", 1)
        assert told["instructions"] in native.INSTRUCTIONS
        high = upscale.run_tensor(photo)
        frame = np.rint(255 * photo[0].transpose(1, 2, 0)).astype(np.uint8)
        ours = upscale(frame)
    # The curve's bound of 0.01 levels, and sums in another order over a deep network.
    assert levels(high, by_torch(gidrn.load("gidrn", scale), photo)) < 0.05
    with Upscaler(name, engine="ort-cpu", threads=1) as upscale:
        assert np.abs(upscale(frame).astype(int) - ours).max() <= 1


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network exported for frames by PyTorch's older exporter, whose names are others."""
    network = made_up(CONFIGS["two by two"], 2)
    changed, curve = to_onnx.rewritten(network, "exact", [])
    model = to_onnx.to_model(changed, 2, opset=17, frames="bgr")
    labels = to_onnx.Labels("gidrn", 2, "shipped", "", "global", frames="bgr")
    to_onnx.label(model, labels, "exact", curve)
    path = tmp_path_factory.mktemp("exported") / "frames.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_file_of_frames(library: Any, exported: Path) -> None:
    graph = gidrn_graph.read(exported)
    config, weights = flat(made_up(CONFIGS["two by two"], 2))
    assert graph.config == Config(**{**vars(config), "slope": graph.config.slope})
    # Scalars are products and sums in the table, and single numbers in the file.
    np.testing.assert_allclose(native.flat(graph), weights, rtol=1e-6, atol=1e-7)
    frame = np.random.default_rng(2).integers(0, 256, (9, 14, 3), np.uint8)
    results = []
    for engine in ("native", "ort-cpu"):
        for color in ("bgr", "rgb"):
            with Upscaler(exported, engine=engine, color=color, threads=1) as upscale:
                results.append(upscale(frame).astype(int))
    assert np.abs(results[0] - results[2]).max() <= 1
    assert np.abs(results[1] - results[3]).max() <= 1


def test_the_reader_reads_what_onnx_reads(shipped_model: Path) -> None:
    ours, theirs = onnx_reader.read(shipped_model), onnx.load(shipped_model)
    assert ours.metadata == {entry.key: entry.value for entry in theirs.metadata_props}
    assert [node.operation for node in ours.nodes] == [node.op_type for node in theirs.graph.node]
    for node, other in zip(ours.nodes, theirs.graph.node, strict=True):
        assert (node.inputs, node.outputs) == (tuple(other.input), tuple(other.output))
    assert set(ours.constants) >= {one.name for one in theirs.graph.initializer}
    for one in theirs.graph.initializer:
        array = numpy_helper.to_array(one)
        assert ours.constants[one.name].dtype == array.dtype
        np.testing.assert_array_equal(ours.constants[one.name], array)


def test_a_damaged_file_is_told(shipped_model: Path, tmp_path: Path) -> None:
    data = shipped_model.read_bytes()
    path = tmp_path / "damaged.onnx"
    rng = np.random.default_rng(0)
    for length in (0, 1, 9, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(ModelError, match=str(path)):
            gidrn_graph.read(path)
    for _ in range(30):
        at = int(rng.integers(0, 3000))
        path.write_bytes(rng.bytes(1).join([data[:at], data[at + 1 :]]))
        # A byte of a weight or of a name changes nothing here; no other error comes out.
        with contextlib.suppress(ModelError):
            gidrn_graph.read(path)
    with pytest.raises(ModelError, match="cannot be read"):
        gidrn_graph.read(tmp_path)


Change = Callable[[onnx.ModelProto], None]


def node_of(model: onnx.ModelProto, weight: str) -> Any:
    return next(node for node in model.graph.node if weight in node.input)


def set_fact(key: str, value: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        facts = {entry.key: entry.value for entry in model.metadata_props}
        onnx.helper.set_model_props(model, facts | {key: value})

    return change


def other_padding(model: onnx.ModelProto) -> None:
    node = node_of(model, "fine.weight")
    next(a for a in node.attribute if a.name == "pads").ints[:] = [0, 1, 1, 1]


def other_input(model: onnx.ModelProto) -> None:
    name = "deep.bodies.1.bodies.0.steps.1.grouped.weight"
    node_of(model, name).input[0] = node_of(model, "shallow.weight").output[0]


def another_activation(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "LeakyRelu").op_type = "Elu"


def another_slope(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "LeakyRelu")
    node.attribute[0].f = 0.1


def another_sum(model: onnx.ModelProto) -> None:
    name = node_of(model, "deep.bodies.2.bodies.1.steps.0.pointwise.weight").input[0]
    next(node for node in model.graph.node if node.output[0] == name).op_type = "Sub"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_fact("model", "imdn"), "G-IDRN alone, and this is 'imdn'"),
        (set_fact("dtype", "fp16"), "FP32, and this file is fp16"),
        (set_fact("merged_groups", "3"), "--merge-groups 3"),
        (set_fact("blocked", "8"), "exported --blocked"),
        (set_fact("attention", "exact"), "another attention than 'exact'"),
        (other_padding, "'fine' is another convolution"),
        (other_input, "takes another input"),
        (another_activation, "not by one"),
        (another_slope, "slopes"),
        (another_sum, "another sum"),
    ],
)
def test_other_networks_are_refused_and_auto_goes_on(
    library: Any, shipped_model: Path, tmp_path: Path, change: Change, words: str
) -> None:
    model = onnx.load(shipped_model)
    change(model)
    path = tmp_path / "other.onnx"
    onnx.save(model, path)
    with pytest.raises(ModelError, match=f"native does not take .*{words}.*engine='ort-cpu'"):
        native.Native(path)
    assert "native" not in engines.that_open(path)
    assert "ort-cpu" in engines.that_open(path)


def test_auto_goes_on_where_it_is_not_built(
    shipped_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "FOLDER", tmp_path)
    native.library.cache_clear()
    try:
        status = engines.status("native")
        assert not status.available
        assert "built without a C++ compiler" in status.reason
        with Upscaler(shipped_model, threads=1) as upscale:
            assert upscale.describe()["engine"] == "ort-cpu"
        (tmp_path / native.LIBRARIES[0]).write_bytes(b"no library")
        assert "cannot load" in engines.status("native").reason
    finally:
        native.library.cache_clear()


def test_another_interface_is_refused(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "INTERFACE", 99)
    with pytest.raises(EngineUnavailable, match="calls interface 99"):
        native.load(next(native.FOLDER.glob("libgidrn.*")))


def test_the_set_of_instructions_can_be_chosen(
    library: Any, shipped_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(native.CHOICE, "portable")
    with Upscaler(shipped_model, engine="native", threads=1) as upscale:
        assert upscale.describe()["instructions"] == "portable"
    monkeypatch.setenv(native.CHOICE, "mmx")
    with pytest.raises(EngineUnavailable, match=r"asks for 'mmx', and this machine has .*portable"):
        Upscaler(shipped_model, engine="native")


def test_a_configuration_that_it_does_not_know_is_refused(library: Any) -> None:
    config, weights = flat(made_up(CONFIGS["one group"], 2))
    for change in ({"channels": 12}, {"scale": 0}, {"blocks": 0}, {"pool_sizes": (0,)}):
        with pytest.raises(ModelError, match="does not take this network"):
            native.Network(library, Config(**{**vars(config), **change}), weights, 1, "portable")
    with pytest.raises(ModelError, match=f"{weights.size - 1} weights, and not {weights.size}"):
        native.Network(library, config, weights[:-1], 1, "portable")


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's here")
def test_too_little_memory_is_told(library: Any, run_python: Any) -> None:
    done = run_python(
        "import resource, numpy as np\n"
        "from gidrn_runtime import FrameTooLargeError, Upscaler\n"
        "with Upscaler('gidrn_x4', engine='native', threads=1, tiles='never') as upscale:\n"
        "    frame = np.zeros((500, 700, 3), np.uint8)\n"
        "    used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, -1))\n"
        "    try:\n"
        "        upscale(frame)\n"
        "    except FrameTooLargeError as error:\n"
        "        print(error)\n"
        "    print(upscale(frame[:20, :20]).shape)\n"
    )
    assert done.returncode == 0, done.stderr
    assert "not enough memory to enlarge 1 frame(s) of 500x700" in done.stdout
    assert "native could not get" in done.stdout
    assert done.stdout.endswith("(80, 80, 3)\n")


def test_memory_is_what_is_said(library: Any) -> None:
    config, weights = flat(made_up(CONFIGS["two by two"], 2))

    def maps(threads: int, side: int) -> float:
        with contextlib.closing(
            native.Network(library, config, weights, threads, "portable")
        ) as engine:
            return engine.memory(side, side) / (4 * side * side * 16)

    # Three inputs of blocks at most are kept, and the fusion's sum; two outputs of residual blocks
    # too, where two threads have so few rows that the blocks go one by one.
    assert 4 < maps(1, 1000) < 5
    assert 4 < maps(2, 1000) < 5
    assert 6 < maps(2, 500) < 8


def hook() -> Any:
    """The build hook's module, which is no part of any package."""
    spec = importlib.util.spec_from_file_location("hatch_build", REPOSITORY / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_a_compiler_the_build_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    build = hook()
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(build.NoCompilerError, match="none of no-such-compiler"):
        build.compile_library(REPOSITORY, tmp_path / "libgidrn.so")
    assert not list(tmp_path.iterdir())


@pytest.fixture(params=["address,undefined", "thread"])
def sanitized(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The driver, with the kernels of the best common set alone, under a sanitizer."""
    cxx = shutil.which("g++") or shutil.which("clang++")
    if cxx is None:
        pytest.skip("there is no C++ compiler")
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    table, name = ("kAvx2", "avx2") if is_x86 else ("kPortable", "portable")
    folder = REPOSITORY / "runtime/gidrn_runtime/native"
    program = tmp_path / "driver"
    # Each as is soonest done: the one compiles for long, the other runs for long.
    level = "-O1" if request.param == "thread" else "-O0"
    flags = ["-std=c++17", level, "-g1", "-Wno-psabi", "-pthread", f"-I{folder}"]
    flags += [f"-fsanitize={request.param}", "-fno-sanitize-recover=all"]
    kernels = [f"-DGIDRN_KERNELS={table}", f'-DGIDRN_NAME="{name}"']
    kernels += ["-mavx2", "-mfma"] if is_x86 else []
    kernels.append("-DGIDRN_NO_ASSEMBLER")  # whose reads no sanitizer sees
    objects = [str(tmp_path / f"{stem}.o") for stem in ("kernels", "network")]
    for command in (
        [*flags, *kernels, "-c", str(folder / "kernels.cpp"), "-o", objects[0]],
        [*flags, "-c", str(folder / "network.cpp"), "-o", objects[1]],
        [*flags, str(DRIVER), *objects, "-o", str(program)],
    ):
        done = subprocess.run([cxx, *command], capture_output=True, text=True, check=False)
        if "cannot find" in done.stderr:
            pytest.skip(f"{cxx} comes without the sanitizer {request.param}: {done.stderr[-200:]}")
        assert done.returncode == 0, done.stderr
    return program


def test_sanitizers_find_nothing(sanitized: Path) -> None:
    name = "avx2" if platform.machine().lower() in ("x86_64", "amd64") else "portable"
    done = subprocess.run([sanitized, name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "40 runs, 0 wrong\n"
    assert done.stderr == ""


Program = Callable[[str], str]


def compiled_by(cxx: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """The library that the build makes with this compiler."""
    monkeypatch.setenv("CXX", cxx)
    library = folder / "libgidrn.so"
    hook().compile_library(REPOSITORY, library)
    return library


def test_it_runs_on_aarch64(
    program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The library that a cross compiler makes, under an emulator."""
    cxx, emulator = program("aarch64-linux-gnu-g++"), program("qemu-aarch64")
    library = compiled_by(cxx, monkeypatch, tmp_path)
    driver = tmp_path / "driver"
    folder = REPOSITORY / "runtime/gidrn_runtime/native"
    command = [cxx, "-std=c++17", "-O1", "-static-libstdc++", "-static-libgcc", "-pthread"]
    command += [f"-I{folder}", str(DRIVER), str(library), "-o", str(driver)]
    subprocess.run(command, check=True)
    libraries = Path("/usr/aarch64-linux-gnu")  # Debian's
    if not libraries.is_dir():
        pytest.skip(f"there is no {libraries} with the libraries that the emulator loads")
    run = [emulator, "-L", str(libraries), str(driver), "portable"]
    for name in ("72 channels", "two by two"):
        network = made_up(CONFIGS[name], 3)
        config, weights = flat(network)
        for size_hw in [(1, 1), (5, 4), (9, 131)]:
            x = images(size_hw)
            shape = np.array([2, *size_hw], np.int32)
            given: list[Any] = [native.c_config(config), shape, weights, x]
            (tmp_path / "in").write_bytes(b"".join(bytes(memoryview(part)) for part in given))
            subprocess.run([*run, str(tmp_path / "in"), str(tmp_path / "out")], check=True)
            high = np.fromfile(tmp_path / "out", np.float32)
            wanted = by_torch(network, x)
            assert levels(high.reshape(wanted.shape), wanted) < LEVELS, size_hw


def test_what_is_for_another_machine_is_not_put_in_place(
    program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    build = hook()
    if platform.machine().lower() not in build.X86:
        pytest.skip("the cross compiler here makes what is for another machine on x86 alone")
    monkeypatch.setenv("CXX", program("aarch64-linux-gnu-g++"))
    with pytest.raises(RuntimeError, match=r"compiles for aarch64-linux-gnu, .*OUT"):
        build.main([])
    made = build.NativeBuildHook(str(tmp_path), {}, None, None, str(tmp_path), "wheel")
    with pytest.raises(RuntimeError, match="compiles for aarch64-linux-gnu"):
        made.initialize("standard", {"force_include": {}})
    assert not list(tmp_path.iterdir())


def test_clang_compiles_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if shutil.which("clang++") is None:
        pytest.skip("clang++ is not installed")
    loaded = native.load(compiled_by("clang++", monkeypatch, tmp_path))
    network = made_up(CONFIGS["72 channels"], 3)
    for name in native.INSTRUCTIONS:
        if loaded.gidrn_has(name.encode()):
            x = images((9, 131))
            assert levels(opened(loaded, network, 2, name).run(x), by_torch(network, x)) < LEVELS


def test_the_form_for_thirty_two_registers(
    library: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What AVX-512 gets, but for the instructions: eight pixels at a time, twelve tiles a batch."""
    if not library.gidrn_has(b"avx2"):
        pytest.skip("this machine has no AVX2 to run it with")
    built = tmp_path / "libgidrn.so"
    hook().compile_library(REPOSITORY, built, ["-O1", "-D__AVX512VL__"])
    network = made_up(CONFIGS["72 channels"], 2)
    engine = opened(native.load(built), network, 2, "avx2")
    for size_hw in [(1, 1), (5, 4), (13, 18), (9, 131)]:
        x = images(size_hw)
        assert levels(engine.run(x), by_torch(network, x)) < LEVELS, size_hw
    engine.close()


def test_pool_sizes_are_told_by_the_cells() -> None:
    from export.rewrites.pyramid_pooling import PyramidPooling

    for sizes in [(1, 3, 6, 8), (1,), (5,), (1, 1), (2, 2, 1), (1, 2, 3, 6), (8, 6, 3, 1)]:
        assert gidrn_graph.pool_sizes(PyramidPooling(sizes).cells.tolist()) == sizes
    for cells in ([1], [0, 2], [0, 1, 2], [0, 0, 0, 0, 7]):
        with pytest.raises(ModelError, match="no pyramid"):
            gidrn_graph.pool_sizes(cells)
