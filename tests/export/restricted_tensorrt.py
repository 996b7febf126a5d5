"""Other versions of TensorRT, as far as a machine without a GPU can have them.

TensorRT for RTX really parses and builds, but has the names of its own version alone. `Restricted`
is that library seen through the names that another version has: an attribute which that version
lacks raises AttributeError here too. `tensorrt_names.json` holds the names, read from NVIDIA's own
bindings of 10.3.0, 10.16.1.11 and 11.4.0.106. What needs a GPU (opening the plan, and the engine's
report on its layers) is played by `Engine`, under the same names.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

VERSIONS: dict[str, dict[str, list[str]]] = json.loads(
    Path(__file__).with_name("tensorrt_names.json").read_text()
)


def names_of(real: Any) -> dict[str, list[str]]:
    """The names of the library that is here, for the classes that others are looked at for."""
    kinds = {name for names in VERSIONS.values() for name in names} - {"module"}
    kinds |= {"IRuntimeConfig"}
    there = {kind: [n for n in dir(getattr(real, kind)) if n[:2] != "__"] for kind in kinds}
    return {"module": dir(real), **there}


class Restricted:
    """A stand-in for the module `tensorrt` of one version; `real` is `tensorrt_rtx`."""

    def __init__(
        self,
        real: Any,
        version: str,
        report: str = "",
        runtime: Callable[[Any], Any] | None = None,
    ) -> None:
        self.real = real
        self.names = VERSIONS.get(version) or names_of(real)
        self.__version__ = version
        self.report = report
        """What the engine says of its layers; without it, the library cannot open its plan."""
        self.runtime = runtime or (lambda logger: Runtime(self))
        """What opens plans, given a logger."""

    def __getattr__(self, name: str) -> Any:
        if name not in self.names["module"]:
            raise AttributeError(f"TensorRT {self.__version__} has no {name}")
        if name == "Runtime":
            return lambda logger: Seen(self.runtime(logger), "Runtime", self)
        value = getattr(self.real, name)
        members = getattr(value, "__members__", None)
        if name in self.names and members is not None:
            there = {n: members.get(n, enum.auto()) for n in self.names[name]}
            return SimpleNamespace(**there, __members__=there)
        if name in self.names:
            return lambda *given: Seen(value(*map(plain, given)), name, self)
        return value


class Seen:
    """An object of the library with the attributes that its class has in one version."""

    def __init__(self, real: Any, kind: str, version: Restricted) -> None:
        self.__dict__.update(real=real, kind=kind, version=version)

    def _check(self, name: str) -> None:
        if name not in self.version.names[self.kind]:
            raise AttributeError(f"TensorRT {self.version.__version__}: no {self.kind}.{name}")

    def __getattr__(self, name: str) -> Any:
        self._check(name)
        value = getattr(self.real, name)
        if not callable(value):
            return self._see(value)

        def call(*given: Any, **named: Any) -> Any:
            return self._see(value(*map(plain, given), **named))

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        self._check(name)
        setattr(self.real, name, plain(value))

    def _see(self, value: Any) -> Any:
        names = [kind.__name__ for kind in type(value).__mro__]
        kind = next((name for name in names if name in self.version.names), None)
        return value if kind is None else Seen(value, kind, self.version)


def plain(value: Any) -> Any:
    """The library's own object behind `value`."""
    return value.real if isinstance(value, Seen) else value


class Runtime:
    """Opens a plan without a GPU, as far as the engine's report goes."""

    def __init__(self, version: Restricted) -> None:
        self.version = version

    def deserialize_cuda_engine(self, plan: bytes) -> ICudaEngine | None:
        """An engine, or None as the library gives where it cannot open the plan."""
        return ICudaEngine(self.version) if plan and self.version.report else None


class ICudaEngine:
    """An engine that can be asked for its layers."""

    def __init__(self, version: Restricted) -> None:
        self.version = version

    def create_engine_inspector(self) -> EngineInspector:
        """What reads the layers."""
        return EngineInspector(self.version)

    def create_execution_context(self) -> IExecutionContext:
        """What holds the sizes."""
        return IExecutionContext()


class IExecutionContext:
    """Takes a size."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        """Sizes that are set are what the report's types need."""
        self.shapes[name] = shape
        return True


class EngineInspector:
    """Says what the test wants it to say."""

    def __init__(self, version: Restricted) -> None:
        self.version = version
        self.execution_context: IExecutionContext | None = None

    def get_engine_information(self, form: Any) -> str:
        """The report, which the library gives in this form alone."""
        assert form == self.version.real.LayerInformationFormat.JSON
        assert self.execution_context is not None
        assert "input" in self.execution_context.shapes
        return self.version.report
