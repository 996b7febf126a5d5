"""The manifest: what is read back, what counts for nothing, who is let in."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gidrn_runtime.archive.manifest import DONE, FAILED, NAME, Manifest, Record, Settings

SETTINGS = Settings("/photos", "gidrn_x4.onnx", "ab" * 32, "png")
RECORD = Record("ö/a\udcff.jpg", DONE, 7, 1, "cd", "ö/a\udcff_x4.png", 99, "ef", "ort-cpu")


def test_what_is_added_is_read_back_and_the_last_line_counts(tmp_path: Path) -> None:
    failed = Record(RECORD.item, FAILED, error="it is\nnot")
    with Manifest(tmp_path, SETTINGS, overwrite=False) as manifest:
        assert manifest.get(RECORD.item) is None
        manifest.add(failed)
        manifest.add(replace(RECORD, output_size=98))
        manifest.add(RECORD)
    with Manifest(tmp_path, SETTINGS, overwrite=False) as manifest:
        assert manifest.get(RECORD.item) == RECORD
        assert manifest.wrote(RECORD.output, 99)
        assert manifest.wrote(RECORD.output, 98)
        assert not manifest.wrote(RECORD.output, 97)
        manifest.add(failed)
    with Manifest(tmp_path, SETTINGS, overwrite=False) as manifest:
        assert manifest.get(RECORD.item) == failed


@pytest.mark.parametrize("left", range(1, 160, 9))
def test_a_torn_last_line_counts_for_nothing_and_spoils_nothing(tmp_path: Path, left: int) -> None:
    other = replace(RECORD, item="b.jpg")
    path = tmp_path / NAME
    with Manifest(tmp_path, SETTINGS, overwrite=False) as manifest:
        manifest.add(RECORD)
    before = path.read_bytes()
    with Manifest(tmp_path, SETTINGS, overwrite=False) as manifest:
        manifest.add(other)
    path.write_bytes(before + path.read_bytes().splitlines()[-1][:left])
    for _ in range(2):
        with Manifest(tmp_path, SETTINGS, overwrite=False) as manifest:
            assert manifest.get(RECORD.item) == RECORD
            assert manifest.get("b.jpg") is None
    with Manifest(tmp_path, SETTINGS, overwrite=False) as manifest:
        manifest.add(other)
    with Manifest(tmp_path, SETTINGS, overwrite=False) as manifest:
        assert manifest.get("b.jpg") == other


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source": "/other"}, "source: '/photos' there, '/other' now"),
        ({"model_sha256": "12" * 32}, "model_sha256: 'abab"),
        ({"picture_format": "keep"}, "picture_format: 'png' there, 'keep' now"),
    ],
)
def test_other_settings_are_refused_or_begin_anew(
    tmp_path: Path, change: dict[str, str], words: str
) -> None:
    with Manifest(tmp_path, SETTINGS, overwrite=False) as manifest:
        manifest.add(RECORD)
    other = replace(SETTINGS, **change)
    with pytest.raises(ValueError, match=words):
        Manifest(tmp_path, other, overwrite=False)
    with Manifest(tmp_path, SETTINGS, overwrite=True) as manifest:  # nothing to overwrite
        assert manifest.get(RECORD.item) == RECORD
    for overwrite in (True, False):
        with Manifest(tmp_path, other, overwrite=overwrite) as manifest:
            assert manifest.get(RECORD.item) is None
            assert manifest.wrote(RECORD.output, RECORD.output_size)  # and may be replaced
    with pytest.raises(ValueError, match="other settings"):
        Manifest(tmp_path, SETTINGS, overwrite=False)


def test_a_manifest_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(json.dumps({"run": {}, "format": "gidrn-folder/2"}) + "\n")
    with pytest.raises(ValueError, match="format 'gidrn-folder/2', not 'gidrn-folder/1'"):
        Manifest(tmp_path, SETTINGS, overwrite=True)


def test_two_runs_at_once_are_refused_until_the_first_ends(tmp_path: Path) -> None:
    with Manifest(tmp_path, SETTINGS, overwrite=False):
        with pytest.raises(ValueError, match=r"another run is at work on .*process \d+, since 20"):
            Manifest(tmp_path, SETTINGS, overwrite=True)
    Manifest(tmp_path, SETTINGS, overwrite=False).close()


def test_a_killed_run_holds_no_lock(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3] / "runtime"
    code = (
        "import sys; from pathlib import Path\n"
        "from gidrn_runtime.archive.manifest import Manifest, Settings\n"
        f"held = Manifest(Path({str(tmp_path)!r}), Settings('/photos', 'm', 's', 'png'), False)\n"
        "print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(root)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match=f"process {process.pid}, since"):
            Manifest(tmp_path, Settings("/photos", "m", "s", "png"), overwrite=False)
        process.kill()
    Manifest(tmp_path, Settings("/photos", "m", "s", "png"), overwrite=False).close()
