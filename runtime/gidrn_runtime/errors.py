"""The errors that a caller may want to catch apart from a plain ``ValueError``."""


class ModelError(ValueError):
    """A file is not a G-IDRN toolkit model, or does not keep what its metadata promises."""


class EngineUnavailable(RuntimeError):  # noqa: N818 - the name says the state, as in engine tables
    """A known engine cannot be used here; the message gives the reason and the remedy."""


class EngineError(RuntimeError):
    """An engine failed while it ran a model that it had loaded."""


class WrongOutputError(EngineError):
    """An engine gives another picture than the model was exported with; the message says how."""


class FrameTooLargeError(MemoryError):
    """There is not enough memory to enlarge a frame of this size."""


class SourceError(OSError):
    """A camera, file or address cannot be opened or broke off; the message says which and why."""
