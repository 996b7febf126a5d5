"""The journal of a long measurement: what is read back, and what counts for nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks.journal import Journal

KEY: dict[str, str | int] = {"model": "bicubic", "scale": 4, "image": "Bäckerei.png"}
VALUE = {"psnr_db": 0.1 + 0.2, "gain_db": -1e-17, "ssim": math.inf}


def test_what_is_added_is_read_back_to_the_last_digit(tmp_path: Path) -> None:
    path = tmp_path / "q.json.journal"
    journal = Journal(path)
    assert (len(journal), journal.get(KEY), path.exists()) == (0, None, False)
    journal.add(KEY, VALUE)
    backwards = dict(reversed(KEY.items()))
    for one in (journal, Journal(path)):
        assert one.get(KEY) == one.get(backwards) == VALUE
        assert one.get({**KEY, "scale": 2}) is None
        assert len(one) == 1
    journal.remove()
    journal.remove()
    assert not path.exists()


def test_of_two_equal_keys_the_later_counts(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    Journal(path).add(KEY, {"psnr_db": 1.0})
    Journal(path).add(KEY, {"psnr_db": 2.0})
    assert Journal(path).get(KEY) == {"psnr_db": 2.0}


@pytest.mark.parametrize("left", range(1, 60, 4))
def test_a_torn_last_line_counts_for_nothing_and_spoils_nothing(tmp_path: Path, left: int) -> None:
    path = tmp_path / "journal"
    whole = Journal(path)
    whole.add(KEY, VALUE)
    first = path.read_bytes()
    path.write_bytes(first + first.replace(b'"scale": 4', b'"scale": 2')[:left])
    torn = Journal(path)
    assert len(torn) == 1
    torn.add({**KEY, "scale": 3}, VALUE)
    again = Journal(path)
    assert len(again) == 2
    assert again.get({**KEY, "scale": 3}) == again.get(KEY) == VALUE


@pytest.mark.parametrize(
    "line",
    [b"", b"[]", b"7", b"null", b'{"key": {}}', b'{"key": {}, "value": 3}', b"\xff\xfe", b"{"],
)
def test_lines_of_another_kind_are_passed_over(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "journal"
    good = json.dumps({"key": KEY, "value": VALUE}).encode()
    path.write_bytes(line + b"\n" + good + b"\n")
    assert Journal(path).get(KEY) == VALUE
    assert len(Journal(path)) == 1
