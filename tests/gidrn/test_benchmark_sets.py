"""Benchmark sets in every folder shape, incomplete ones and none."""

from __future__ import annotations

from pathlib import Path

import pytest

from gidrn.benchmark_sets import IMAGE_COUNTS, canonical, data_root, find_images, parse_names


def put(folder: Path, names: list[str]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")
    return sorted(folder / name for name in names)


LAYOUTS = [  # folder, names of a hundred images
    ("B100", "{}.jpg"),
    ("B100/HR", "{}.png"),
    ("benchmark/B100/HR", "{}.png"),
    ("BSD100/image_SRF_4", "img_{}_SRF_4_HR.png"),
    ("BSDS100", "{}.bmp"),
    ("B100", "{}.PNG"),
]


@pytest.mark.parametrize(("folder", "form"), LAYOUTS)
def test_every_layout_is_found(tmp_path: Path, folder: str, form: str) -> None:
    wanted = put(tmp_path / folder, [form.format(k) for k in range(100)])
    put(tmp_path / folder, ["readme.txt"])
    if "SRF" in folder:
        put(tmp_path / folder, [f"img_{k}_SRF_4_LR.png" for k in range(100)])
    assert find_images("B100", tmp_path, 4) == wanted


@pytest.mark.parametrize(("name", "count"), IMAGE_COUNTS.items())
def test_number_of_images_is_checked(tmp_path: Path, name: str, count: int) -> None:
    put(tmp_path / name, [f"{k}.png" for k in range(count)])
    assert len(find_images(name, tmp_path, 4)) == count
    put(tmp_path / name, ["extra.png"])
    with pytest.raises(ValueError, match=f"holds {count + 1} images, and {name} has {count}"):
        find_images(name, tmp_path, 4)


def test_missing_set_lists_where_it_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "B100").mkdir()
    with pytest.raises(FileNotFoundError, match="no images of B100: looked for") as caught:
        find_images("B100", tmp_path, 4)
    message = str(caught.value)
    for place in ("B100/*", "B100/HR/*", "benchmark/B100/HR/*", "BSD100/image_SRF_4/*_HR.*"):
        assert str(tmp_path / place) in message


def test_names_are_forgiving_but_not_guessed() -> None:
    assert canonical("set5") == "Set5"
    assert canonical("BSD100") == "B100"
    assert parse_names("Set5, b100,set5") == ("Set5", "B100")
    with pytest.raises(
        ValueError, match=r"no benchmark set is called 'Set15': did you mean 'Set1?[45]'"
    ):
        parse_names("Set15")
    with pytest.raises(ValueError, match="no benchmark set is named"):
        parse_names(" , ")


def test_data_root_comes_from_the_argument_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GIDRN_DATA", raising=False)
    with pytest.raises(ValueError, match="give --data-root or set GIDRN_DATA"):
        data_root(None)
    monkeypatch.setenv("GIDRN_DATA", str(tmp_path))
    assert data_root(None) == tmp_path
    with pytest.raises(FileNotFoundError, match="no data folder"):
        data_root(tmp_path / "none")


@pytest.mark.parametrize("name", ["Set5", "Set14", "B100"])
def test_the_real_sets_are_whole(data_root: Path, name: str) -> None:
    assert len(find_images(name, data_root, 4)) == IMAGE_COUNTS[name]
