"""ONNX Runtime and GStreamer in one process: whose unwinder C++ exceptions take."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def of_libgcc() -> Iterator[None]:
    """Import ONNX Runtime inside: its exceptions then take the unwinder of C++'s own runtime.

    Debian's libgstreamer brings libunwind, which has libgcc's functions under the same names and
    for the whole process. Where Python imports NumPy, then GStreamer, then ONNX Runtime, the first
    has C++'s runtime bound to libgcc and the last would take libunwind: the process then dies at
    the first exception inside of ONNX Runtime, which has one in each run with bound memory. With
    RTLD_DEEPBIND it takes libgcc too. In any other order all of them take the same one.
    """
    loaded = list(sys.modules)
    if (
        not hasattr(os, "RTLD_DEEPBIND")
        or "onnxruntime" in loaded
        or not {"numpy", "gi.repository.Gst"} <= sys.modules.keys()
        or loaded.index("gi.repository.Gst") < loaded.index("numpy")
    ):
        yield
        return
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
    try:
        yield
    finally:
        sys.setdlopenflags(flags)
