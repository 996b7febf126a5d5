"""The replay: what it keeps, goes on with and leaves out, and the report in a real browser."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from benchmarks import (
    ablations,
    comparisons,
    frequencies,
    published,
    records,
    replay,
    replay_parts,
    report_evidence,
    report_figures,
    report_page,
    report_plots,
    report_tables,
)
from benchmarks.records import Figure, How, Record, What
from benchmarks.replay_parts import Part, Parts, Sources
from benchmarks.report_plots import Bar, Point
from benchmarks.report_section import Row, Section
from gidrn import benchmark_sets, checkpoints, recipes, world, zoo
from gidrn.images import write_image
from gidrn.losses import HighPass
from gidrn.networks.gidrn import GIDRNConfig
from gidrn.networks.imdn import IMDNConfig

Program = Callable[[str], str]

ROOT = Path(__file__).resolve().parents[2]


def test_the_command_says_what_it_does(help_of: Callable[..., str]) -> None:
    assert "report.html" in help_of(str(ROOT / "benchmarks" / "replay.py"))


# ------------------------------------------------------------------ parts, kept and left


def a_record(model: str = "gidrn", **values: records.Value) -> Record:
    return records.record(What(model, 4, "none"), How("made up for a test"), values=values)


def a_part(name: str, calls: list[str], *, seconds: float = 1.0, setting: int = 0) -> Part:
    def measure(path: Path) -> list[Record]:
        calls.append(name)
        return [a_record(setting=setting)]

    return Part(name, f"the part {name}", "made up", seconds, {"setting": setting}, measure)


def test_a_part_that_is_there_is_not_measured_again(tmp_path: Path) -> None:
    calls: list[str] = []
    parts = Parts((a_part("a", calls), a_part("b", calls)), {})
    first = replay.run(parts, tmp_path, 600)
    assert calls == ["a", "b"] == list(first.measured)
    again = replay.run(parts, tmp_path, 600)
    assert calls == ["a", "b"]
    assert again.measured == ()
    assert set(again.done) == {"a", "b"}
    assert replay.measured_records(parts, tmp_path, again)["a"][0].values == {"setting": 0}


def test_other_settings_other_code_or_a_lost_file_measure_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    replay.run(Parts((a_part("a", calls), a_part("b", calls)), {}), tmp_path, 600)
    parts = Parts((a_part("a", calls, setting=1), a_part("b", calls)), {})
    replay.run(parts, tmp_path, 600)
    assert calls == ["a", "b", "a"]
    (tmp_path / "b.json").unlink()
    replay.run(parts, tmp_path, 600)
    assert calls == ["a", "b", "a", "b"]
    monkeypatch.setattr(replay, "code_sha256", lambda: "other code")
    replay.run(parts, tmp_path, 600)
    assert calls == ["a", "b", "a", "b", "a", "b"]


def test_a_part_beyond_the_budget_is_left_and_a_smaller_one_still_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []
    parts = Parts((a_part("long", calls, seconds=5000), a_part("short", calls)), {"c": "no data"})
    progress = replay.run(parts, tmp_path, 600)
    assert calls == ["short"]
    assert progress.absent["long"].startswith("left for the next run: about 8")
    assert progress.absent["c"] == "no data"
    told = capsys.readouterr().err
    assert "1 parts, about" in told
    assert "min left, about 1 s for this] the part short" in told


def test_forecasts_follow_parts_of_their_own_kind(tmp_path: Path) -> None:
    quick = [dataclasses.replace(a_part(f"q{i}", [], seconds=100), kind="quick") for i in range(3)]
    slow = [dataclasses.replace(a_part(f"s{i}", [], seconds=100), kind="slow") for i in range(2)]
    parts = Parts((*quick, *slow), {})
    done = {
        "q0": replay.Done("q0", "", 20.0, (1.0, 1.0)),
        "q1": replay.Done("q1", "", 20.0, (1.0, 1.0)),
        "s0": replay.Done("s0", "", 400.0, (1.0, 1.0)),
    }
    assert replay._forecast(quick[2], parts, {}) == 100
    assert replay._forecast(quick[2], parts, done) == pytest.approx(100 * 70 / 230)
    assert replay._forecast(slow[1], parts, done) == pytest.approx(100 * 430 / 130)
    other = a_part("other", [], seconds=100)
    assert replay._forecast(other, parts, done) == pytest.approx(100 * 470 / 330)


def test_a_part_that_fails_is_told_and_does_not_end_the_others(tmp_path: Path) -> None:
    calls: list[str] = []

    def fail(_path: Path) -> list[Record]:
        raise ValueError("no such\n thing")

    broken = dataclasses.replace(a_part("broken", calls), measure=fail)
    progress = replay.run(Parts((broken, a_part("a", calls)), {}), tmp_path, 600)
    assert progress.absent == {"broken": "failed: no such thing"}
    assert calls == ["a"]
    assert not (tmp_path / "broken.json").exists()


def test_ctrl_c_ends_the_measuring_and_not_the_report(tmp_path: Path) -> None:
    calls: list[str] = []

    def interrupt(_path: Path) -> list[Record]:
        raise KeyboardInterrupt

    stopped = dataclasses.replace(a_part("stopped", calls), measure=interrupt)
    parts = Parts((a_part("a", calls), stopped, a_part("b", calls)), {})
    progress = replay.run(parts, tmp_path, 600)
    assert set(progress.done) == {"a"}
    assert "interrupted" in progress.absent["stopped"]
    assert "interrupted" in progress.absent["b"]


@pytest.mark.parametrize("text", ["", "[]", '{"schema": "other"}', '{"schema": "gidrn-replay/1"}'])
def test_a_ledger_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / replay.LEDGER).write_text(text)
    with pytest.raises(ValueError, match="no ledger of a replay"):
        replay.read_ledger(tmp_path)


# ------------------------------------------------------------------ what is measured


def noisy(height: int, width: int, seed: int) -> np.ndarray:
    small = np.random.default_rng(seed).integers(60, 200, (height // 8, width // 8, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def test_frequencies_add_up_and_are_scored_on_their_own() -> None:
    truth = noisy(48, 64, seed=0)
    high_pass = HighPass()
    y = truth[..., 1].astype(np.float64)
    low, high = frequencies.split(y, high_pass)
    np.testing.assert_allclose(low + high, y, atol=1e-9)
    # A shift of every level is all low frequency: the high ones stay, to FP32's rounding.
    near = frequencies.nearness(truth + np.uint8(4), truth, high_pass, border=2)
    assert near.low_db == pytest.approx(near.all_db, abs=1e-3)
    assert near.high_db > 90
    # 6.02 dB: the triangle inequality's limit for two errors of equal size.
    assert frequencies.least_high_db(30, 30) == pytest.approx(30 - 6.0206, abs=1e-3)
    assert frequencies.least_high_db(26.05, 36.72) == pytest.approx(23.82, abs=0.01)


def test_the_part_with_the_most_lines_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparisons, "PART_HW", (24, 32))
    plain = np.full((96, 128, 3), 120, np.uint8)
    noise_only, striped = plain.copy(), plain.copy()
    texture = np.random.default_rng(0).integers(60, 180, (24, 32, 3), np.uint8)
    noise_only[8:32, 8:40] = texture
    striped[8:32, 8:40] = texture
    striped[56:80, 72:104] = (np.arange(32) // 3 % 2 * 120 + 60).astype(np.uint8)[None, :, None]
    assert comparisons.most_lined(striped) == (56, 72)
    assert comparisons.most_lined(striped[:20, :20]) == (0, 0)
    paths = [tmp_path / f"{name}.png" for name in ("a", "b", "c")]
    for path, image in zip(paths, (plain, noise_only, striped), strict=True):
        write_image(path, image)
    assert comparisons.by_lines(paths) == paths[::-1]


def test_the_attention_alone_holds_two_matrices() -> None:
    recipe = recipes.ABLATIONS[2]["table2_samples_infinite"]
    network = replay_parts._on_meta(recipe)
    alone = replay_parts._attention_mib(network, (64, 64))
    # Query, key and value beside two matrices of 4096 x 4096 in FP32: 128 MiB and some KiB.
    assert 128 < alone < 128.3
    without = replay_parts._on_meta(recipes.ABLATIONS[2]["table2_no_anrb"])
    assert replay_parts._attention_mib(without, (64, 64)) == 0


def test_table_1_is_counted_as_printed_but_for_its_last_row() -> None:
    found = replay_parts.table1_counts()
    wrong = [
        str(entry.values["row"])
        for entry in found
        if f"{report_tables.number(entry.values['parameters']) / 1000:.1f}"
        != f"{entry.published['Table 1 params_k']:.1f}"
    ]
    assert wrong == ["table1_gidb_dp_ds_anrb"]


@dataclasses.dataclass(frozen=True)
class Small:
    """A replay of tiny pictures by tiny networks."""

    folder: Path
    parts: Parts
    progress: replay.Progress
    page: report_page.Page


SETS = {"Set5": 2, "Set14": 1, "B100": 3, "Urban100": 1, "Manga109": 1}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    """Scores, frequencies and pictures, measured on pictures made here; nothing is timed."""
    root = tmp_path_factory.mktemp("replay")
    data, weights, folder = root / "data", root / "weights", root / "out"
    for name in ("Set5", "Set14", "B100"):
        (data / name).mkdir(parents=True)
        for i in range(SETS[name]):
            stem = "barbara" if name == "Set14" else f"photo{i}"
            write_image(data / name / f"{stem}.png", noisy(48, 64, seed=i))
    weights.mkdir()
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        configs = {
            "gidrn": GIDRNConfig(
                channels=16, groups_of_blocks=1, blocks_per_group=1, pool_sizes=(1, 3)
            ),
            "imdn": IMDNConfig(channels=16, blocks=1, distilled=4),
        }
        for name, config in configs.items():
            entry = dataclasses.replace(zoo.NETWORKS[name], config=config)
            patch.setitem(zoo.NETWORKS, name, entry)
            for scale in (3, 4):
                torch.manual_seed(scale)
                network = zoo.create(name, scale)
                checkpoints.save_weights(
                    network.state_dict(), weights / f"{name}_x{scale}.safetensors", metadata={}
                )
        patch.setattr(zoo, "VARIANTS", {})
        patch.setattr(benchmark_sets, "IMAGE_COUNTS", SETS)
        patch.setattr(comparisons, "PART_HW", (40, 48))
        patch.delenv("GIDRN_DATA", raising=False)
        patch.delenv("GIDRN_WEIGHTS", raising=False)
        every = replay_parts.all_parts(Sources("cpu", 1, data, weights))
        kinds = ("quality", "pictures", "frequencies")
        parts = Parts(tuple(p for p in every.here if p.kind in kinds), every.absent)
        progress = replay.run(parts, folder, 600)
        evidence = report_evidence.gather(
            replay.measured_records(parts, folder, progress), parts, progress.absent, root
        )
        done = list(progress.done.values())
        page = report_page.write(folder / "report.html", evidence, done, folder)
        yield Small(folder, parts, progress, page)


def test_every_table_and_figure_has_a_state(small: Small) -> None:
    assert not [why for why in small.progress.absent.values() if why.startswith("failed")]
    named = re.findall(
        r"^\| ((?:Table|Figure) \d+)(?:, \w+)? +\|", small.page.summary, re.MULTILINE
    )
    wanted = [f"Table {n}" for n in range(1, 7)]
    wanted += [f"Figure {n}" for n in (1, 2, 6, 7, 8, 9, 10, 11, 12)]
    assert list(dict.fromkeys(named)) == wanted
    text = html.unescape(small.page.html)
    assert "published only: no images of Urban100 under --data-root" in text
    assert "no weights ship" in text
    assert "RealSR is not here" in text
    assert "RFDN-L is left out" in text
    assert str(small.folder.parent) not in text  # paths are the machine's own business


def test_measured_figures_stand_beside_printed_ones(small: Small) -> None:
    (entry,) = records.read_records(small.folder / "quality_gidrn_x4_Set5.json")
    here = f"{report_tables.number(entry.values['psnr_db']):.3f}"
    printed = next(r for r in published.table4() if (r.method, r.scale) == ("G-IDRN", 4)).scores[
        "Set5"
    ]
    row = re.search(
        rf"<td[^>]*>Set5</td><td[^>]*>{here}</td><td[^>]*paper-column[^>]*>{printed.psnr_db}</td>",
        small.page.html,
    )
    assert row is not None


def test_the_report_holds_what_it_shows(small: Small) -> None:
    page = re.sub(r"<script>.*</script>", "", small.page.html, flags=re.DOTALL)
    loaded = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]{1,60})""", page)
    assert {address[:11] for address in loaded if not address.startswith("#")} == {"data:image/"}
    assert not re.findall(r"@import|url\(|<link|<iframe|<script src", page)
    # Figure 2 has bicubic, IMDN, G-IDRN and the truth of one photo.
    figure = page[page.index('id="figure-2"') : page.index('id="figure-6"')]
    options = re.findall(r"<option>([^<,]+)", figure.split("</select>")[0])
    assert options == ["Bicubic", "IMDN", "G-IDRN", "truth"]
    assert figure.count("data:image/webp") == 4


def dom_of(program: Program, page: Path, folder: Path, script: str) -> str:
    """The page's DOM in headless Chromium after a script has run at its end."""
    probe = folder / "probe.html"
    text = page.read_text(encoding="utf-8")
    probe.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    done = subprocess.run(
        [
            *(program("chromium"), "--headless=new", "--no-sandbox", "--disable-gpu"),
            *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
            *("--virtual-time-budget=4000", f"--user-data-dir={folder / 'profile'}"),
            *("--window-size=1000,900", "--dump-dom", probe.as_uri()),
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=240,
    )
    return done.stdout


PROBE = """
const refused = [];
document.addEventListener("securitypolicyviolation", event => refused.push(event.blockedURI));
PLANTED
window.addEventListener("load", () => setTimeout(() => {
  const figure = document.querySelector("figure.pictures"), slider = figure.querySelector("input");
  const right = figure.querySelector(".view img.right");
  const select = figure.querySelector("select.left");
  const look = () => [getComputedStyle(right).clipPath, figure.querySelector(".edge").style.left];
  const before = look();
  slider.value = 80;
  slider.dispatchEvent(new Event("input"));
  const after = look(), first = figure.querySelector(".view img.left").src;
  select.selectedIndex = 2;
  select.dispatchEvent(new Event("change"));
  const loaded = performance.getEntriesByType("resource").map(entry => entry.name);
  const told = {
    before, after, changed: figure.querySelector(".view img.left").src !== first,
    caption: figure.querySelector(".view span.left").textContent,
    sizes: [...document.querySelectorAll(".stack img")].map(image => image.naturalWidth),
    loaded: loaded.filter(name => !name.startsWith("data:")), refused,
  };
  document.body.setAttribute("data-told", JSON.stringify(told));
}, 500));
"""


def told(dom: str) -> dict[str, Any]:
    found = re.search(r'data-told="([^"]*)"', dom)
    assert found is not None, dom[-500:]
    answer: dict[str, Any] = json.loads(html.unescape(found[1]))
    return answer


def test_the_slider_moves_in_a_browser_and_nothing_is_loaded(
    small: Small, tmp_path: Path, program: Program
) -> None:
    page = small.folder / "report.html"
    found = told(dom_of(program, page, tmp_path, PROBE.replace("PLANTED", "")))
    assert found["before"] == ["inset(0px 0px 0px 50%)", "50%"]
    assert found["after"] == ["inset(0px 0px 0px 80%)", "80%"]
    assert found["changed"]
    assert found["caption"][:6] == "G-IDRN"
    assert found["sizes"]
    assert set(found["sizes"]) == {48}  # every picture is whole and has been decoded
    assert found["loaded"] == found["refused"] == []
    # The same look finds a picture that a page would load, and the page itself refuses it.
    planted = "new Image().src = 'http://127.0.0.1:9/picture.png';"
    caught = told(dom_of(program, page, tmp_path, PROBE.replace("PLANTED", planted)))
    assert caught["refused"] == ["http://127.0.0.1:9/picture.png"]


# ------------------------------------------------------------------ verdicts and stand-ins


@pytest.mark.parametrize(
    ("ratios", "paper", "verdict"),
    [
        ([1.3, 1.35, 1.4] * 5, 1.23, "agree"),
        ([0.6, 0.65, 0.7] * 5, 1.23, "differ"),
        ([0.9, 1.3, 1.4] * 5, 1.23, "cannot"),
        ([1.3] * 10 + [0.9] * 10, 1.23, "cannot"),  # it changed halfway
    ],
)
def test_a_claim_of_speed_is_judged_by_its_noise(
    ratios: list[float], paper: float, verdict: str
) -> None:
    assert report_tables.ratio_verdict(ratios, paper)[0] == verdict


@pytest.mark.parametrize(
    ("gain", "paper", "kind", "verdict"),
    [
        (0.3, 0.1, "psnr_db", "agree"),
        (-0.3, 0.1, "psnr_db", "differ"),
        (-0.3, -0.1, "psnr_db", "agree"),
        (-0.02, 0.1, "psnr_db", "cannot"),
        (-0.002, 0.1, "ssim", "differ"),
        (0.0004, 0.1, "ssim", "cannot"),
    ],
)
def test_a_difference_within_what_decoders_make_decides_nothing(
    gain: float, paper: float, kind: str, verdict: str
) -> None:
    assert report_figures.gain_verdict(gain, paper, kind=kind)[0] == verdict


def timed(model: str, engine: str, ms: list[float], over: list[float] | None = None) -> Record:
    figures = [Figure.of("end_to_end_ms", ms), Figure.of("network_only_ms", ms)]
    if over:
        figures.append(Figure.of("time_over_gidrn", over))
    return records.record(
        What(model, 4, engine, input="B100"),
        How("made up for a test"),
        figures=figures,
        where=records.here(1),
    )


def rows_of(section: Section, *start: str) -> list[Row]:
    return [row for row in section.rows if row.cells[: len(start)] == start]


def test_table_6_compares_ratios_and_names_records_of_this_kind_of_machine(tmp_path: Path) -> None:
    made = [
        timed("gidrn", "ort-cpu", [100.0] * 9, [1.0] * 9),
        timed("imdn", "ort-cpu", [65.0] * 9, [0.65] * 9),
    ]
    records.write_records(tmp_path / "fps_B100_x4_mine.json", made)
    foreign = [
        dataclasses.replace(one, where=dataclasses.replace(one.where, cpu="Another CPU"))
        for one in [timed("gidrn", "native", [50.0] * 9), timed("imdn", "ort-cpu", [65.0] * 9)]
    ]
    records.write_records(tmp_path / "cpu_engines_x4_other.json", foreign)
    absent = {"speed": f"{replay_parts.LEFT}: 5 min", "engines": "no compiler"}
    evidence = report_evidence.gather({}, Parts((), {}), absent, tmp_path)
    table = report_tables.table6(evidence)
    (row,) = rows_of(table, "IMDN", "time / G-IDRN's, both on ort-cpu")
    assert (row.verdict, row.cells[2:]) == ("differ", ("0.65 (0.65 to 0.65)", "1.23"))
    assert row.source.startswith("record fps_B100_x4_mine.json: ")
    (seconds,) = rows_of(table, "IMDN", "inference, s")
    assert seconds.cells[2:] == ("0.0650 (0.0650 to 0.0650), ort-cpu", "0.0217")
    assert seconds.verdict == "cannot"
    assert not rows_of(table, "IMDN", "time on ort-cpu / G-IDRN's on its own engine")
    assert "of another kind of machine" in evidence.absent["engines"]
    # What this replay measured itself comes first, and needs no stamp.
    part = Part("speed", "frames per second", "speed", 1, {}, lambda _path: [])
    mine = [made[0], timed("imdn", "ort-cpu", [130.0] * 9, [1.3] * 9)]
    evidence = report_evidence.gather({"speed": mine}, Parts((part,), {}), {}, tmp_path)
    (row,) = rows_of(report_tables.table6(evidence), "IMDN", "time / G-IDRN's, both on ort-cpu")
    assert (row.verdict, row.source) == ("agree", "")


def test_the_checked_in_records_fill_a_report_and_say_so() -> None:
    evidence = report_evidence.gather({}, Parts((), {}), {}, records.RESULTS)
    table = report_tables.table5(evidence)
    assert {row.verdict for row in rows_of(table, "G-IDRN")} == {"agree", "differ"}
    assert all(row.source.startswith("record ") for row in table.shown)
    # Table 3's directions at a small budget agree, or have none: they are never made up.
    (first, *others) = report_tables.table3(evidence).rows
    assert first.verdict == "cannot"
    assert all(row.source for row in others)


# ------------------------------------------------------------------ plots


def test_axes_have_round_figures_inside_their_range() -> None:
    plain = report_plots.axis("dB", [31.93, 32.24])
    assert 3 <= len(plain.ticks) <= 7
    assert plain.low < 31.93
    assert plain.high > 32.24
    log = report_plots.axis("K", [8.0, 43000.0], is_log=True)
    assert {10.0, 100.0, 1000.0, 10000.0} <= set(log.ticks)
    assert log.share(8.0) < 0.05
    report_plots.axis("one", [5.0])  # no width, and no division by it


def test_labels_are_escaped_and_off_each_other() -> None:
    points = [Point(f"<b>{i}", 100.0 + i, 30.0 + 0.001 * i, i == 0) for i in range(5)]
    svg = report_plots.scatter("a & b", points, x="K", y="dB")
    assert "<b>" not in svg
    assert "a &amp; b" in svg
    places = re.findall(r'<text(?: class="strong")? x="([\d.-]+)" y="([\d.-]+)">&lt;b', svg)
    boxes = [(float(x), float(y)) for x, y in places]
    assert len(boxes) == 5
    width = 4 * report_plots.LETTER
    for i, (x, y) in enumerate(boxes):
        assert all(abs(x - u) > width or abs(y - v) > 13 for u, v in boxes[:i])


def test_bars_show_measured_and_printed_lengths() -> None:
    svg = report_plots.bars("G", [Bar("G-IDRN", 2.0, 4.0, True), Bar("IMDN", None, 1.0)], unit="G")
    widths = [
        float(w)
        for w in re.findall(r'<rect class="[^"]*" x="[^"]*" y="[^"]*" width="([\d.]+)"', svg)
    ]
    assert widths[1] == pytest.approx(2 * widths[0], rel=1e-2)
    assert widths[2] == pytest.approx(widths[1] / 4, rel=1e-2)
    assert svg.count("printed") == 2


def test_findings_of_an_audit_are_shown(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {
        "title": "A title",
        "place": "Table 9",
        "statements": ("one", "<two>"),
        "arithmetic": "1 + 1 = 3",
        "verdict": "contradiction",
        "treatment": "as printed",
    }
    monkeypatch.setattr(report_page, "findings", lambda: [found])
    evidence = report_evidence.gather({}, Parts((), {}), {}, small.folder)
    page = report_page.make(evidence, [], small.folder).html
    for text in (
        "A title",
        "Table 9",
        "<li>one</li><li>&lt;two&gt;</li>",
        "1 + 1 = 3",
        "contradiction",
    ):
        assert text in page


def test_a_device_beyond_the_first_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "choose_device", lambda wanted: wanted)
    with pytest.raises(ValueError, match="CUDA_VISIBLE_DEVICES"):
        replay.main(device="cuda:1")


def test_rows_are_trained_where_there_are_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = GIDRNConfig(channels=16, groups_of_blocks=1, blocks_per_group=1, pool_sizes=(1, 3))
    entry = dataclasses.replace(zoo.NETWORKS["gidrn"], config=config)
    monkeypatch.setitem(zoo.NETWORKS, "gidrn", entry)
    monkeypatch.delenv("GIDRN_DATA", raising=False)
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(3):
        write_image(photos / f"{i}.png", noisy(256, 264, seed=i))
    whole = ablations.make_plan
    small = {"steps": 2, "batch": 1, "patch": 12, "held_out": 1}
    monkeypatch.setattr(ablations, "make_plan", lambda *a, **k: whole(*a, **{**k, **small}))
    absent: dict[str, str] = {}
    sources = Sources("cpu", 1, None, None, (photos,))
    part = list(replay_parts._ablation_runs(sources, absent))[2]
    assert (part.name, absent) == ("ablations_table3", {})
    found = part.measure(tmp_path / "ablations_table3.json")
    assert len(found) == 2 * len(published.table3())
    assert part.measure(tmp_path / "ablations_table3.json") == found  # each run is kept
    evidence = report_evidence.gather({part.name: found}, Parts((part,), {}), {}, records.RESULTS)
    rows = report_tables.table3(evidence).rows
    assert {row.source for row in rows} == {""}  # not the checked-in record's
    assert all(re.match(r"[+-]\d+\.\d{3} \(", row.cells[2]) for row in rows[1:])
