"""Super-resolution of frames and images with G-IDRN toolkit ONNX models.

Importing this package needs NumPy and nothing else; an engine such as ONNX Runtime is imported when
the first :class:`Upscaler` opens a model, OpenCV when a command decodes an image.

    from gidrn_runtime import Upscaler

    with Upscaler("gidrn_x4") as upscale:
        high = upscale(low)  # uint8 BGR (H, W, 3) -> (4H, 4W, 3)
"""

from importlib import metadata

from gidrn_runtime.errors import (
    EngineError,
    EngineUnavailable,
    FrameTooLargeError,
    ModelError,
    SourceError,
    WrongOutputError,
)
from gidrn_runtime.streams import Stream
from gidrn_runtime.upscaler import Upscaler

try:
    __version__ = metadata.version("gidrn")
except metadata.PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

__all__ = [
    "EngineError",
    "EngineUnavailable",
    "FrameTooLargeError",
    "ModelError",
    "SourceError",
    "Stream",
    "Upscaler",
    "WrongOutputError",
    "__version__",
]
