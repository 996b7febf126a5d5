"""A file is written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gidrn.files import replacing


def test_the_new_content_takes_the_place_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o444


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="no regular file"), replacing(pipe):
        pytest.fail("the block must not run")
    assert pipe.is_fifo()


@pytest.mark.parametrize(("name", "message"), [("no/a.txt", "no folder"), ("", "is a folder")])
def test_a_place_that_cannot_be_written_is_told_first(
    tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(OSError, match=message), replacing(tmp_path / name):
        pytest.fail("the block must not run")
