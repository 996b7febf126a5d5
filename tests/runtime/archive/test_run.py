"""The leader of a run: what it finds, what it leaves, and that no picture is lost or done twice."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from gidrn_runtime.archive.manifest import NAME, WRITING, Manifest, Record
from gidrn_runtime.archive.run import MAX_TRIES, check_folders, find_pictures, plan

NAMES = ["a.png", "b.png", "c.jpg", "sub/a.png", "sub/deep [1]/e.png", "sub/f.PNG"]
OutputFiles = Callable[[Path], dict[str, bytes]]


def done_lines(out: Path) -> Counter[str]:
    lines = [json.loads(line) for line in (out / NAME).read_text().splitlines()]
    return Counter(line["item"] for line in lines if line.get("state") == "done")


def test_pictures_are_found(pictures: Path) -> None:
    out = pictures / "big"
    (out / "sub").mkdir(parents=True)
    (pictures / ".trash").mkdir()
    (pictures / "former").mkdir()
    (pictures / "former" / NAME).touch()
    for name in ("big/sub/a_x2.png", ".trash/a.png", ".a.png", "text.txt", "former/a_x2.png"):
        (pictures / name).touch()
    assert find_pictures(pictures, out) == NAMES
    assert find_pictures(pictures, out, recursive=False) == NAMES[:3]
    assert find_pictures(pictures, out, ["*.jpg", "*.txt"]) == ["c.jpg", "text.txt"]
    assert find_pictures(pictures, out, ["sub/*.png"]) == ["sub/a.png"]
    with pytest.raises(ValueError, match=r"no picture under .*; wanted \*\.gif"):
        find_pictures(pictures, out, ["*.gif"])


def test_folders_that_would_feed_on_themselves_are_refused(pictures: Path, tmp_path: Path) -> None:
    check_folders(pictures, tmp_path / "out")
    check_folders(pictures, pictures / "out")
    with pytest.raises(ValueError, match="would count as new ones"):
        check_folders(pictures, pictures / "sub" / "..")
    with pytest.raises(ValueError, match="would count as new ones"):
        check_folders(pictures / "sub", pictures)
    with pytest.raises(ValueError, match="is no folder; the command upscale"):
        check_folders(pictures / "a.png", tmp_path / "out")
    with pytest.raises(ValueError, match="is a file; name a folder"):
        check_folders(pictures / "sub", pictures / "a.png")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        check_folders(tmp_path / "none", tmp_path / "out")


def test_names_of_outputs(tmp_path: Path) -> None:
    def outputs(names: list[str], picture_format: str) -> list[str]:
        items = plan(Path("in"), tmp_path, names, 4, picture_format)
        assert [item.target for item in items] == [tmp_path / item.output for item in items]
        return [item.output for item in items]

    assert outputs(["s/a.jpg", "b.TIF"], "png") == ["s/a_x4.png", "b_x4.png"]
    assert outputs(["s/a.jpg", "b.TIF", "b.png"], "keep") == ["s/a_x4.jpg", "b_x4.TIF", "b_x4.png"]
    with pytest.raises(ValueError, match=r"in/b\.TIF and b\.png would both become b_x4\.png"):
        outputs(["b.TIF", "b.png"], "png")
    with pytest.raises(ValueError, match=r"b_x4\.jp2 has '\.jp2'"):
        outputs(["b.jp2"], "keep")


def test_a_run_mirrors_the_tree_and_a_second_does_nothing(
    pictures: Path, tmp_path: Path, tiny: Path, run_folder: Any, direct_pool: Any, repeat: Any
) -> None:
    out = tmp_path / "out"
    outcomes = run_folder(pictures, out, direct_pool(tiny))
    assert [outcome.state for outcome in outcomes] == ["done"] * 6
    low = cv2.imread(str(pictures / "sub/deep [1]/e.png"))
    assert low is not None
    high = cv2.imread(str(out / "sub/deep [1]/e_x2.png"))
    np.testing.assert_array_equal(high, repeat(low))
    assert run_folder(pictures, out, direct_pool(tiny)) == []


def names_done(outcomes: list[Any]) -> list[str]:
    assert all(outcome.state == "done" for outcome in outcomes)
    return [outcome.item.name for outcome in outcomes]


def test_what_changed_is_done_again_and_nothing_else(
    pictures: Path, tmp_path: Path, tiny: Path, run_folder: Any, direct_pool: Any
) -> None:
    out = tmp_path / "out"
    run_folder(pictures, out, direct_pool(tiny))

    def again() -> list[str]:
        return names_done(run_folder(pictures, out, direct_pool(tiny)))

    other = np.full((5, 5, 3), 7, np.uint8)
    cv2.imwrite(str(pictures / "b.png"), other)  # another content
    os.utime(pictures / "a.png", ns=(1, 1))  # the same content at another time
    (out / "c_x2.png").unlink()  # an output that is gone
    cv2.imwrite(str(pictures / "new.png"), other)
    assert again() == ["b.png", "c.jpg", "new.png"]
    data = bytearray((pictures / "sub/f.PNG").read_bytes())
    data[-1] ^= 255  # the same size at another time
    (pictures / "sub/f.PNG").write_bytes(data)
    assert again() == ["sub/f.PNG"]
    assert again() == []


def test_files_that_are_not_ours_stay(
    pictures: Path, tmp_path: Path, tiny: Path, run_folder: Any, direct_pool: Any
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "b_x2.png").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"b_x2\.png is there already"):
        run_folder(pictures, out, direct_pool(tiny))
    assert sorted(os.listdir(out)) == ["b_x2.png", NAME]
    (out / "b_x2.png").unlink()
    run_folder(pictures, out, direct_pool(tiny))
    (out / "b_x2.png").write_bytes(b"mine again")  # where ours was
    with pytest.raises(FileExistsError, match=r"b_x2\.png is there already"):
        run_folder(pictures, out, direct_pool(tiny))
    assert (out / "b_x2.png").read_bytes() == b"mine again"


def test_bad_files_do_not_stop_the_others_and_are_tried_again(
    pictures: Path, tmp_path: Path, tiny: Path, run_folder: Any, direct_pool: Any
) -> None:
    out = tmp_path / "out"
    good = (pictures / "b.png").read_bytes()
    (pictures / "b.png").write_bytes(b"no picture")
    (pictures / "gone.png").symlink_to("nowhere")
    outcomes = run_folder(pictures, out, direct_pool(tiny))
    assert Counter(outcome.state for outcome in outcomes) == {"done": 5, "failed": 2}
    errors = {outcome.item.name: outcome.error for outcome in outcomes if outcome.error}
    assert isinstance(errors["b.png"], ValueError)
    assert isinstance(errors["gone.png"], FileNotFoundError)
    (pictures / "b.png").write_bytes(good)
    (pictures / "gone.png").unlink()
    assert names_done(run_folder(pictures, out, direct_pool(tiny))) == ["b.png"]


def test_poison_is_given_up_and_its_last_try_is_alone(
    pictures: Path, tmp_path: Path, tiny: Path, run_folder: Any, direct_pool: Any
) -> None:
    poison = ("b.png", "c.jpg")
    pool = direct_pool(tiny, workers=3, dies=lambda job: job.source.endswith(poison))
    outcomes = run_folder(pictures, tmp_path / "out", pool)
    assert Counter(outcome.state for outcome in outcomes) == {
        "done": 4,
        "again": 2 * (MAX_TRIES - 1),
        "failed": 2,
    }
    assert "was given up after 3 tries: it was told to" in str(outcomes[-1].error)
    for name in poison:
        together = [names for names in pool.names if name in names]
        assert max(len(names) for names in together) == 3
        assert together[-1] == [name]


def test_whatever_workers_die_and_in_whatever_order_the_outcome_is_the_same(
    pictures: Path,
    tmp_path: Path,
    tiny: Path,
    run_folder: Any,
    direct_pool: Any,
    output_files: OutputFiles,
) -> None:
    run_folder(pictures, tmp_path / "whole", direct_pool(tiny, workers=1))
    expected = output_files(tmp_path / "whole")
    assert len(expected) == 6
    for seed in range(12):
        chance = random.Random(seed)
        deaths: Counter[str] = Counter()

        def dies(job: Any, chance: random.Random = chance, deaths: Counter[str] = deaths) -> bool:
            if deaths[job.source] < MAX_TRIES - 1 and chance.random() < 0.4:
                deaths[job.source] += 1
                return True
            return False

        order = [chance.randrange(9) for _ in range(30)]
        out = tmp_path / f"out{seed}"
        outcomes = run_folder(pictures, out, direct_pool(tiny, chance.randint(1, 5), order, dies))
        assert sum(outcome.state == "again" for outcome in outcomes) == deaths.total()
        assert output_files(out) == expected
        assert done_lines(out) == dict.fromkeys(NAMES, 1)


def test_what_a_killed_run_left_half_written_is_removed(
    pictures: Path, tmp_path: Path, tiny: Path, run_folder: Any, direct_pool: Any, settings: Any
) -> None:
    out = tmp_path / "out"
    folder = out / "sub/deep [1]"
    folder.mkdir(parents=True)
    leftover, foreign = folder / ".e_x2.png.k3x9.part", folder / ".mine.part"
    for path in (leftover, foreign):
        path.write_bytes(b"half")
    with Manifest(out, settings(pictures), overwrite=False) as manifest:
        name = "sub/deep [1]/e"
        manifest.add(Record(f"{name}.png", WRITING, output=f"{name}_x2.png", output_size=4))
    assert len(names_done(run_folder(pictures, out, direct_pool(tiny)))) == 6
    assert sorted(os.listdir(folder)) == [".mine.part", "e_x2.png"]


class Killed(BaseException):
    """What stands for the end of the process."""


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("after", [False, True])
def test_ended_at_every_step_of_writing_it_goes_on_as_if_it_had_not(
    pictures: Path,
    tmp_path: Path,
    tiny: Path,
    run_folder: Any,
    direct_pool: Any,
    output_files: OutputFiles,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    after: bool,
) -> None:
    run_folder(pictures, tmp_path / "whole", direct_pool(tiny))
    expected = output_files(tmp_path / "whole")
    out = tmp_path / "out"
    written: Counter[str] = Counter()
    real_replace = os.replace

    def count(source: Path, target: Path) -> None:
        real_replace(source, target)
        written[target.relative_to(out).as_posix()] += 1

    monkeypatch.setattr(os, "replace", count)
    real = getattr(os, function)
    ends = 0
    for _ in range(60):
        calls = 0
        at = 1 + ends % 6  # every step in its turn, some of them after a whole picture

        def step(*arguments: Any, at: int = at) -> Any:
            nonlocal calls
            calls += 1
            if calls == at and not after:
                raise Killed
            result = real(*arguments)
            if calls == at:
                raise Killed
            return result

        try:
            with monkeypatch.context() as patch:
                patch.setattr(os, function, step)
                run_folder(pictures, out, direct_pool(tiny))
            break
        except Killed:
            ends += 1
    assert ends >= (3 if function == "replace" else 6)
    assert output_files(out) == expected
    assert done_lines(out) == dict.fromkeys(NAMES, 1)
    assert written == dict.fromkeys(expected, 1)  # none is made twice, not even the last
