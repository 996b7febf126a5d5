"""Build a TensorRT engine from an ONNX file of ours; one that is not what was asked is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import onnx
from filelock import FileLock, Timeout
from tqdm import tqdm

from export import golden_frames, layer_types, profiles
from export.profiles import Profile
from gidrn import checkpoints, command_line
from gidrn.files import replacing
from gidrn_runtime import cuda_devices, plans, tensorrt_api
from gidrn_runtime.cuda_devices import Device
from gidrn_runtime.errors import EngineUnavailable
from gidrn_runtime.golden import Golden
from gidrn_runtime.models import FORMAT
from gidrn_runtime.tensorrt_api import Api, Flavor, Messages

MOST_GOLDEN_PIXELS = 540 * 960
"""A larger frame takes G-IDRN more than 3 GiB and many seconds on a CPU."""

MEMORY_WORDS = ("out of memory", "outofmemory", "insufficient memory", "insufficient workspace")
"""What TensorRT says, in lower case, where a build had too little memory."""


class BuildError(ValueError):
    """TensorRT did not build what was asked; no file was written."""


@dataclass(frozen=True)
class Source:
    """An ONNX file of ours, read."""

    path: Path
    model: onnx.ModelProto
    sha256: str
    metadata: dict[str, str]

    @property
    def scale(self) -> int:
        """The network's factor."""
        return int(self.metadata["scale"])

    @property
    def is_frames(self) -> bool:
        """Whether it takes uint8 frames (N, H, W, 3) rather than tensors (N, 3, H, W)."""
        return self.metadata.get("range") == "0-255"

    @property
    def sides(self) -> profiles.Size:
        """Batch, height and width as the file fixes them; 0 where it leaves them free."""
        dims = self.model.graph.input[0].type.tensor_type.shape.dim
        axes = (0, 1, 2) if self.is_frames else (0, 2, 3)
        batch, height, width = (dims[axis].dim_value for axis in axes)
        return batch, height, width

    @property
    def fixed_size(self) -> profiles.Size | None:
        """Batch, height and width, where the file fixes all of them."""
        return self.sides if min(self.sides) > 0 else None

    def shape(self, size: profiles.Size) -> tuple[int, int, int, int]:
        """The input's shape for a batch, height and width."""
        batch, height, width = size
        return (batch, height, width, 3) if self.is_frames else (batch, 3, height, width)


@dataclass(frozen=True)
class Request:
    """What an engine is built for, beside its file, library and GPU."""

    profile: Profile | None
    """None where the file fixes its size."""
    workspace_mib: int | None = None
    """Scratch memory that TensorRT may use; None leaves it all of the GPU's."""
    optimization_level: int = 3
    """0 to 5: how long TensorRT looks for fast kernels; 3 is its own default."""
    tf32: bool = False
    """Whether convolutions that are FP32 in the file may round their factors to ten bits."""
    timing_cache: Path | None = None
    """Where kernels' measured times are kept from build to build; TensorRT's alone."""
    targets: tuple[str, ...] = ()
    """Compute capabilities to build for, of TensorRT for RTX alone; () is its default."""


@dataclass(frozen=True)
class Built:
    """A plan on the disk and what its sidecar says."""

    path: Path
    facts: dict[str, Any]
    is_new: bool
    """False where it was there already."""


def read_source(path: Path) -> Source:
    """Read an ONNX file of ours. Raises FileNotFoundError, or ValueError for any other file."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no ONNX file {path}")
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's, and others where the file is none
        raise ValueError(f"{path} is no ONNX file: make one with export/to_onnx.py") from error
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a file of ours: wanted metadata format={FORMAT!r}, came "
            f"{metadata.get('format')!r}; make one with export/to_onnx.py"
        )
    domains = sorted({node.domain for node in model.graph.node} - {"", "ai.onnx"})
    if domains:
        raise ValueError(
            f"{path} has operators of {', '.join(domains)}, as ONNX Runtime writes them into a "
            "file it has optimized; give the file that export/to_onnx.py wrote"
        )
    return Source(path, model, checkpoints.sha256(path), metadata)


def check_request(source: Source, request: Request, api: Api) -> None:
    """Raise ValueError where the file and the library do not allow what is asked."""
    sides, profile = source.sides, request.profile
    if source.fixed_size is None and profile is None:
        raise ValueError(f"{source.path} takes any size: say which with --profile")
    if profile is not None and not all(
        side in (0, least) and side in (0, most)
        for side, least, most in zip(sides, profile.least, profile.most, strict=True)
    ):
        size = "x".join(str(side or "any") for side in sides)
        raise ValueError(
            f"{source.path} takes batch x height x width of {size} alone, not "
            f"{profile.in_words()}: leave out --profile and --batch, or export it without --size"
        )
    if not 0 <= request.optimization_level <= 5:
        raise ValueError(f"an optimization level is 0 to 5, not {request.optimization_level}")
    if request.workspace_mib is not None and request.workspace_mib < 1:
        raise ValueError(f"a workspace is at least 1 MiB, not {request.workspace_mib}")
    if request.timing_cache is not None and not api.keeps_timings:
        raise ValueError(f"{api.flavor} measures nothing at a build: leave out --timing-cache")
    if request.timing_cache is not None and not request.timing_cache.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {request.timing_cache.parent}")
    known = list(api.compute_capabilities())
    if request.targets and not known:
        raise ValueError(
            f"{api.flavor} builds for the GPU that is here: leave out --compute-capability"
        )
    for target in request.targets:
        if target not in known:
            raise ValueError(
                f"{api.flavor} {api.version} builds for compute capabilities {', '.join(known)}, "
                f"not {target}"
            )


def key(source: Source, request: Request, api: Api, device: Device | None) -> dict[str, Any]:
    """All that a plan depends on; one with an equal key need not be built again."""
    asked = dataclasses.asdict(request)
    del asked["timing_cache"]  # makes a build shorter and its plan no other
    return {
        "onnx_sha256": source.sha256,
        "library": api.flavor,
        "library_version": api.version,
        "gpu": None if device is None else dataclasses.asdict(device),
        **asked,
    }


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into a flag while the library's threads work."""
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def build_plan(
    source: Source, request: Request, api: Api
) -> tuple[bytes, dict[str, dict[str, int]]]:
    """Build, with a progress bar; the plan's bytes and the network's layers by type.

    Raises:
        BuildError: the library did not build, with its reason.
        layer_types.OtherTypesError: it would compute in other types than the file says.
        KeyboardInterrupt: it was interrupted.
    """
    trt, messages = api.module, Messages()
    logger = api.logger(messages)
    builder = trt.Builder(logger)
    network = api.create_network(builder)
    parser = trt.OnnxParser(network, logger)
    _parse(source, api, parser)
    types = layer_types.of_network(network)
    wanted = layer_types.of_onnx_convolutions(source.model)
    layer_types.check_network(types, wanted)
    config = builder.create_builder_config()
    config.builder_optimization_level = request.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not request.tf32:  # on by default, and not the precision that the file asks for
        config.clear_flag(trt.BuilderFlag.TF32)
    api.make_capturable(config)
    if request.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_mib << 20)
    if request.timing_cache is not None:
        _read_timings(config, request.timing_cache, api)
    if request.targets:
        api.set_targets(config, list(request.targets))
    if source.fixed_size is None:
        assert request.profile is not None  # check_request
        profile = builder.create_optimization_profile()
        sizes = (request.profile.least, request.profile.best, request.profile.most)
        profile.set_shape("input", *(source.shape(size) for size in sizes))
        if config.add_optimization_profile(profile) < 0:
            raise BuildError(_failure("the profile is refused", api, messages, request))
    with _interruptible() as asked, _Bar(asked) as bar:
        config.progress_monitor = api.progress_monitor(bar.begin, bar.step)
        plan = builder.build_serialized_network(network, config)
        config.progress_monitor = None
    if asked.is_set():
        raise KeyboardInterrupt
    if plan is None:
        raise BuildError(_failure("no engine was built", api, messages, request))
    if request.timing_cache is not None:
        with replacing(request.timing_cache) as temporary:
            temporary.write_bytes(bytes(config.get_timing_cache().serialize()))
    counts = {
        "network": dict(sorted(Counter(types.values()).items())),
        "convolutions": dict(sorted(Counter(types[name] for name in wanted).items())),
    }
    return bytes(plan), counts


def _read_timings(config: Any, path: Path, api: Api) -> None:
    """Give the builder what it measured before. Raises BuildError where it does not take it."""
    known = path.read_bytes() if path.exists() else b""
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        raise BuildError(
            f"{api.flavor} {api.version} does not take the timing cache {path}: it is damaged, or "
            "of another GPU or version; name another file"
        )


def _parse(source: Source, api: Api, parser: Any) -> None:
    if parser.parse(source.model.SerializeToString()):
        return
    faults = [parser.get_error(index) for index in range(parser.num_errors)]
    told = [f"{one.node_operator()} {one.node_name()}: {one.desc()}" for one in faults[:4]]
    reason = " ".join("; ".join(told).split()) or "no reason"
    raise BuildError(f"{api.flavor} {api.version} cannot read {source.path}: {reason}")


class _Bar:
    """The library's progress as one bar over its outermost phase.

    The library cancels a build at an exception of `step`, and says that the user did: a bar that
    cannot be drawn must not come to that.
    """

    def __init__(self, asked: threading.Event) -> None:
        self.asked = asked
        self.bar = tqdm(desc="building", unit="", leave=False)
        self.outermost: str | None = None

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    def begin(self, name: str, parent: str | None, steps: int) -> None:
        if parent is None and self.outermost is None:
            self.outermost = name
            self.bar.total = steps
        with suppress(Exception):
            self.bar.set_description(name[:40], refresh=True)

    def step(self, name: str) -> bool:
        if name == self.outermost:
            with suppress(Exception):
                self.bar.update()
        return not self.asked.is_set()


def _failure(what: str, api: Api, messages: Messages, request: Request) -> str:
    told = [" ".join(text.split()) for text in messages.errors] or ["it gave no reason"]
    remedy = ""
    if any(word in text.lower() for text in told for word in MEMORY_WORDS):
        size = "" if request.profile is None else f" ({request.profile.in_words()})"
        remedy = f"; raise --workspace, or take a smaller --profile{size} or batch"
    return f"{api.flavor} {api.version}: {what}: {'; '.join(told[-3:])}{remedy}"


def inspect(
    plan: bytes, shape: tuple[int, int, int, int], api: Api
) -> list[layer_types.EngineLayer]:
    """The engine's own report, layer by layer, at an input of `shape`. Needs the GPU it is for.

    Raises BuildError where the library cannot open what it has just built.
    """
    messages = Messages()
    logger = api.logger(messages)
    runtime = api.module.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        told = "; ".join(messages.errors[-3:]) or "no reason"
        raise BuildError(f"{api.flavor} {api.version} cannot open the engine it built: {told}")
    inspector = engine.create_engine_inspector()
    context = engine.create_execution_context()
    if context is not None:  # else too little memory: the report then tells no types of free sizes
        context.set_input_shape("input", shape)
        inspector.execution_context = context
    report = inspector.get_engine_information(api.module.LayerInformationFormat.JSON)
    return layer_types.of_engine(report)


def is_current(plan: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """The facts on a plan that is there, whole, and of this key; None otherwise."""
    try:
        facts: dict[str, Any] = json.loads(plans.sidecar_path(plan).read_text(encoding="utf-8"))
        same = facts["format"] == plans.FORMAT and facts["key"] == json.loads(json.dumps(wanted))
        return facts if same and facts["plan_sha256"] == checkpoints.sha256(plan) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def build(
    source: Source,
    out: Path,
    request: Request,
    api: Api,
    device: Device | None,
    *,
    force: bool = False,
) -> Built:
    """Write `out` and its sidecar, unless a plan of the same key is there.

    Of processes that build the same plan at once, one builds and the others wait for it. The plan
    is written before its sidecar, which has its sha256: one without the other is built again.

    Raises:
        BuildError, layer_types.OtherTypesError: nothing is written.
    """
    wanted = key(source, request, api, device)
    with _lock(out):
        facts = None if force else is_current(out, wanted)
        if facts is not None:
            return Built(out, facts, is_new=False)
        began = time.monotonic()
        plan, layers = build_plan(source, request, api)
        engine: dict[str, int] | None = None
        told: list[int] | None = None
        if device is not None and opens_on(device, request, api):
            found = inspect(plan, source.shape(tuned_for(source, request)), api)
            convolutions = layer_types.of_onnx_convolutions(source.model)
            told = list(layer_types.check_engine(found, convolutions))
            engine = layer_types.shares(found)
        facts = {
            "format": plans.FORMAT,
            "plan_sha256": hashlib.sha256(plan).hexdigest(),
            "plan_bytes": len(plan),
            "key": json.loads(json.dumps(wanted)),
            "layers": {**layers, "engine": engine, "told_fp16_of_asked": told},
            "built_in_s": round(time.monotonic() - began, 3),
            "project_version": version("gidrn"),
            "metadata": _metadata(source, request),
        }
        with replacing(out) as temporary:
            temporary.write_bytes(plan)
        with replacing(plans.sidecar_path(out)) as temporary:
            temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return Built(out, facts, is_new=True)


def tuned_for(source: Source, request: Request) -> profiles.Size:
    """The size that the engine is best at."""
    if request.profile is not None:
        return request.profile.best
    assert source.fixed_size is not None  # check_request
    return source.fixed_size


def opens_on(device: Device, request: Request, api: Api) -> bool:
    """Whether the library can open the plan on this GPU and report on it."""
    if not api.builds_without_gpu:
        return True
    return device.compute_capability in (request.targets or api.compute_capabilities())


def _metadata(source: Source, request: Request) -> dict[str, str]:
    """The file's metadata, its golden frame made anew where the plan does not take that size.

    Without one where the plan takes no size at which the file is soon run on a CPU.
    """
    text = source.metadata.get("golden")
    if text is None or request.profile is None:
        return source.metadata
    golden = Golden.from_text(text)
    if request.profile.takes((1, *golden.size_hw)):
        return source.metadata
    height, width = request.profile.least[1:]
    if height * width > MOST_GOLDEN_PIXELS:
        return {key: value for key, value in source.metadata.items() if key != "golden"}
    other = golden_frames.at_size(source.path, golden, (height, width))
    return {**source.metadata, "golden": other.to_text()}


@contextmanager
def _lock(out: Path) -> Iterator[None]:
    if not out.parent.is_dir():
        raise FileNotFoundError(f"cannot write {out}: there is no folder {out.parent}")
    lock = FileLock(out.with_name(f".{out.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tqdm.write(f"another process builds {out}: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def report(built: Built) -> str:
    """What was built and what is in it, as a few lines for the screen."""
    facts = built.facts
    wanted, layers = facts["key"], facts["layers"]
    gpu = wanted["gpu"]
    where = gpu["name"] if gpu else ", ".join(wanted["targets"]) or "its default GPUs"
    size = f"{facts['plan_bytes'] / 1e6:.2f} MB"
    if built.is_new:
        first = f"{built.path}: {size}, built in {facts['built_in_s']:.1f} s"
    else:
        first = f"{built.path}: {size}, there already; --force builds it again"
    lines = [f"{first}; {wanted['library']} {wanted['library_version']} for {where}"]
    network, convolutions = _counts(layers["network"]), _counts(layers["convolutions"])
    lines.append(f"network as read: {network}; convolutions: {convolutions}")
    if "golden" not in facts["metadata"]:
        lines.append("no golden frame: none is made for frames of this size")
    if layers["engine"] is None:
        lines.append("the engine's own report was not read: that needs a GPU that it is for")
    else:
        told, asked = layers["told_fp16_of_asked"]
        rest = ", of the others it does not tell" if told < asked else ""
        lines.append(f"layers of the engine: {_counts(layers['engine'])}")
        lines.append(f"of {asked} FP16 convolutions it says so itself of {told}{rest}")
    return "\n".join(lines)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def main(
    model: Path,
    /,
    *,
    out: Path | None = None,
    cache: Path | None = None,
    library: Flavor = "tensorrt",
    profile: str | None = None,
    batch: int = 1,
    workspace: int | None = None,
    optimization_level: int = 3,
    tf32: bool = False,
    timing_cache: Path | None = None,
    compute_capability: str | None = None,
    force: bool = False,
) -> int:
    """Build a TensorRT engine from an ONNX file of ours.

    Precision is the file's: for FP16 export with --dtype fp16. A plan that is there already, of the
    same file, library, GPU and options, is not built again.

    Args:
        model: A file that export/to_onnx.py wrote.
        out: The plan to write; its facts go into the same name with .json behind. Without it,
            MODEL_PROFILE.plan here, with _rtx for that library.
        cache: In place of --out: a folder that keeps plans under a name of all they depend on.
        library: tensorrt, which builds for the GPU in this machine, or tensorrt-rtx, which builds
            for RTX GPUs and needs none.
        profile: Sizes of the low-resolution input: b100 (its images at this scale), 540p, 720p,
            1080p, HEIGHTxWIDTH, or three of those with commas between: the least, the one to tune
            for, the greatest. Without it, 64x64,540x960,1080x1920.
        batch: Frames at once, at most and to tune for.
        workspace: Scratch memory in MiB that may be used; without it, all of the GPU's.
        optimization_level: 0 to 5: how long to look for fast kernels.
        tf32: Let what is FP32 in the file be computed in TF32, with factors of ten bits: faster
            where much is FP32.
        timing_cache: A file that keeps kernels' measured times, so that the next build is faster.
        compute_capability: For tensorrt-rtx: GPUs to build for, such as 8.6,8.9; without it, the
            library's default.
        force: Build again what is there already.
    """
    source = read_source(model)
    text = profile
    if text is None and source.fixed_size is None:
        text = profiles.DEFAULT
    sizes = None if text is None else profiles.parse_profile(text, source.scale, batch)
    targets = command_line.words(compute_capability or "")
    request = Request(sizes, workspace, optimization_level, tf32, timing_cache, targets)
    try:
        api = tensorrt_api.open_api(library)
        check_request(source, request, api)
        device = find_device(api)
    except EngineUnavailable as error:
        raise ValueError(str(error)) from error
    if sizes is None and batch != 1:
        raise ValueError(f"{model} takes one size and batch: leave out --batch")
    if out is not None and cache is not None:
        raise ValueError("--out names the plan, --cache the folder for all: leave out one")
    path = out or plan_path(source, profile, request, api, device, cache)
    if not plans.is_plan(path):
        raise ValueError(f"a plan is called {' or '.join(plans.SUFFIXES)}, not {path.name}")
    print(report(build(source, path, request, api, device, force=force)))
    return 0


def find_device(api: Api) -> Device | None:
    """The GPU to build for; None where the library builds without one and there is none.

    Raises EngineUnavailable where the library needs a GPU: plain TensorRT ends the process where
    there is none.
    """
    try:
        return cuda_devices.find_device()
    except EngineUnavailable:
        if not api.builds_without_gpu:
            raise
        return None


def plan_path(
    source: Source,
    profile: str | None,
    request: Request,
    api: Api,
    device: Device | None,
    cache: Path | None,
) -> Path:
    """Where a plan goes that was not given a name: into `cache`, or here."""
    if cache is None:
        batch = 1 if request.profile is None else request.profile.most[0]
        marks = [
            (profile or "").replace(",", "_").replace(" ", ""),
            f"batch{batch}" if batch > 1 else "",
            "" if api.flavor == "tensorrt" else "rtx",
        ]
        return Path("_".join([source.path.stem, *(mark for mark in marks if mark)]) + ".plan")
    cache.mkdir(parents=True, exist_ok=True)
    text = json.dumps(key(source, request, api, device), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return cache / f"{source.path.stem}-{digest[:16]}.plan"


if __name__ == "__main__":
    command_line.run(main)
