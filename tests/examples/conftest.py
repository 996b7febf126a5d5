"""The runtime's tiny models, for examples too: they are fast on a machine that is very busy."""

from __future__ import annotations

import importlib.util
from pathlib import Path

spec = importlib.util.spec_from_file_location(
    "runtime_conftest", Path(__file__).parents[1] / "runtime/conftest.py"
)
assert spec is not None
assert spec.loader is not None
fixtures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fixtures)
make_model, tiny, repeat = fixtures.make_model, fixtures.tiny, fixtures.repeat_fixture
