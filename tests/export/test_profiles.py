"""Profiles by name and in pixels."""

from __future__ import annotations

import pytest

from export.profiles import Profile, parse_profile


@pytest.mark.parametrize(
    ("text", "scale", "batch", "wanted"),
    [
        ("b100", 4, 1, Profile((1, 80, 80), (1, 80, 120), (1, 120, 120))),
        ("b100", 2, 1, Profile((1, 160, 160), (1, 160, 240), (1, 240, 240))),
        ("1080p", 2, 1, Profile((1, 1080, 1920), (1, 1080, 1920), (1, 1080, 1920))),
        ("540p", 2, 8, Profile((1, 540, 960), (8, 540, 960), (8, 540, 960))),
        ("7x9", 2, 1, Profile((1, 7, 9), (1, 7, 9), (1, 7, 9))),
        ("8x8, 20x30, 90X120", 2, 2, Profile((1, 8, 8), (2, 20, 30), (2, 90, 120))),
    ],
)
def test_profiles(text: str, scale: int, batch: int, wanted: Profile) -> None:
    assert parse_profile(text, scale, batch) == wanted


@pytest.mark.parametrize(
    ("text", "batch", "message"),
    [
        ("4k", 1, "a profile is b100, 540p, 720p, 1080p, HEIGHTxWIDTH"),
        ("8x8,9x9", 1, "three of them"),
        ("8x8,9x9,", 1, "three of them"),
        ("9x9,8x8,10x10", 1, "grow in this order"),
        ("0x8", 1, "from 1 on"),
        ("8x8", 0, "a batch is a whole number"),
    ],
)
def test_profiles_that_are_none(text: str, batch: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_profile(text, 2, batch)


def test_a_profile_in_words() -> None:
    assert parse_profile("540p", 2).in_words() == "1x540x960"
    assert parse_profile("8x8,9x9,10x10", 2, 4).in_words() == "1x8x8 to 4x10x10, best at 4x9x9"
