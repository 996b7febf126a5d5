"""The table of engines: names, availability, and an engine that is not what was asked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gidrn_runtime import EngineUnavailable, Upscaler, engines
from gidrn_runtime.engines.base import Engine
from gidrn_runtime.engines.ort_cpu import OrtCpu


def test_every_line_of_the_table_names_an_engine() -> None:
    for name in engines.ENGINES:
        engine = engines.engine_class(name)
        assert issubclass(engine, Engine)
        assert engine.name == name
        assert engine.remedy


def test_available_tells_the_version(tiny: Path) -> None:
    import onnxruntime

    (status,) = (status for status in engines.available() if status.name == "ort-cpu")
    assert status == engines.EngineStatus("ort-cpu", True, onnxruntime.__version__, "", "")
    with Upscaler(tiny) as upscale:
        assert upscale.describe()["engine"] == "ort-cpu"


@pytest.mark.parametrize(
    ("name", "nearest"), [("ort_cpu", "ort-cpu"), ("cpu", "ort-cpu"), ("ORT-CPU", None)]
)
def test_unknown_engines_are_answered(name: str, nearest: str | None) -> None:
    with pytest.raises(
        ValueError,
        match="engines are: auto, tensorrt, tensorrt-rtx, ort-cuda, native, ort-cpu, openvino",
    ) as caught:
        engines.engine_class(name)
    assert ("did you mean" in str(caught.value)) == (nearest is not None)


@pytest.fixture
def no_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing onnxruntime, or OpenVINO in its stead, raises ImportError."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "openvino", None)


@pytest.mark.usefixtures("no_onnxruntime")
def test_a_missing_engine_is_told_with_its_remedy(tiny: Path) -> None:
    assert not [s for s in engines.available() if s.available and s.name != "native"]
    status = engines.status("ort-cpu")
    assert status.version is None
    assert "cannot be imported here" in status.reason
    assert status.remedy == 'pip install "gidrn[cpu]"'
    for name in ("ort-cpu", "auto"):
        with pytest.raises(EngineUnavailable, match=r'onnxruntime.*pip install "gidrn\[cpu\]"'):
            Upscaler(tiny, engine=name)


def test_a_provider_that_was_not_asked_for_is_refused(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setattr(
        onnxruntime.InferenceSession, "get_providers", lambda self: ["AzureExecutionProvider"]
    )
    with pytest.raises(EngineUnavailable, match=r"asked for CPU.*uses .*Azure"):
        OrtCpu(tiny)


def test_auto_takes_the_first_available_in_table_order(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Absent(OrtCpu):
        name = "absent"

        @classmethod
        def installed_version(cls) -> str:
            raise EngineUnavailable("no such device")

    class Fast(OrtCpu):
        name = "fast"

    monkeypatch.setattr(sys.modules[__name__], "Absent", Absent, raising=False)
    monkeypatch.setattr(sys.modules[__name__], "Fast", Fast, raising=False)
    monkeypatch.setitem(sys.modules, "engines_of_this_test", sys.modules[__name__])
    table = {
        "absent": ("engines_of_this_test", "Absent"),
        "fast": ("engines_of_this_test", "Fast"),
        **engines.ENGINES,
    }
    monkeypatch.setattr(engines, "ENGINES", table)
    with Upscaler(tiny) as upscale:
        assert upscale.describe()["engine"] == "fast"


def test_threads_reach_the_session(tiny: Path) -> None:
    for threads in (1, 2):
        engine = OrtCpu(tiny, threads)
        assert engine._session.get_session_options().intra_op_num_threads == threads
        engine.close()
        engine.close()


def test_output_memory_is_the_callers(tiny: Path) -> None:
    engine = OrtCpu(tiny, 1)
    tensor: Any = np.ones((1, 3, 2, 2), np.float32)
    first = engine.run(tensor)
    first += 1
    assert (engine.run(tensor) == 1).all()
    assert (first == 2).all()
    engine.close()
    assert (first == 2).all()
