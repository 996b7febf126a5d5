"""Files of one network beside each other: the same picture, other graphs, in turns on one engine.

The first file is the reference that the others' times are divided by.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from benchmarks import contenders, fps, low_images, records, turns
from benchmarks.cpu_engines import ratio
from benchmarks.markdown_table import markdown_table
from benchmarks.records import Record, What
from export.to_onnx import parse_size
from gidrn import command_line
from gidrn_runtime import Upscaler, models


def clock(
    files: Mapping[str, tuple[Path, str]], size_hw: tuple[int, int], threads: int, runs: int
) -> list[Record]:
    """A record a file, all in turns on generated pictures of one size.

    `files` are path and engine by the name that goes into the record's values; the first is the
    reference.
    """
    low = low_images.of_size(size_hw, 1, runs)
    where = records.here(threads)
    with ExitStack() as stack:
        opened: dict[str, contenders.Runnable] = {}
        facts: dict[str, dict[str, str]] = {}
        for name, (path, engine) in files.items():
            upscale = stack.enter_context(contenders.open_file(path, engine, threads))
            opened[name] = contenders.OfRuntime(upscale)
            facts[name] = metadata_of(upscale)
        taken = turns.in_turns(opened, low, seconds=turns.EVERY_PICTURE)
    reference = next(iter(files))
    return [
        records.record(
            What(
                *(facts[name]["model"], int(facts[name]["scale"]), engine, facts[name]["dtype"]),
                size_hw=size_hw,
                weights=facts[name]["weights"],
                input=low.label,
            ),
            taken[name].how(),
            figures=taken[name].figures(),
            values={
                "name": name,
                "bytes": path.stat().st_size,
                "time_over_reference": round(ratio(taken[name], taken[reference]), 4),
                "reference": reference,
            },
            where=where,
        )
        for name, (path, engine) in files.items()
    ]


def metadata_of(upscale: Upscaler) -> dict[str, str]:
    """What an opened file says of itself."""
    found = upscale.describe()["metadata"]
    assert isinstance(found, dict)
    return found


def table(found: list[Record]) -> str:
    """The records of `clock` as Markdown."""
    rows = [
        [
            *(str(one.values["name"]), one.what.engine),
            "x".join(str(side) for side in one.what.size_hw or ()),
            str(one.where.threads),
            f"{one.figure('end_to_end_ms').p50:.1f}",
            f"{one.values['time_over_reference']:.3f}",
            str(one.how.samples),
        ]
        for one in found
    ]
    header = ["file", "engine", "input", "threads", "p50, ms", "time / the first's", "samples"]
    return markdown_table(header, rows)


def main(
    files: str,
    *,
    engine: str = "ort-cpu",
    sizes: str = "80x120",
    threads: str = "1",
    runs: int = 11,
    out: Path | None = None,
) -> int:
    """Time ONNX files of one network in turns.

    Args:
        files: Paths or shipped names, with commas between; the first is the reference.
        engine: An engine of the CPU.
        sizes: HEIGHTxWIDTH of the inputs, with commas between.
        threads: CPU threads, with commas between.
        runs: Timed runs of each file, size and number of threads.
        out: The JSON file to write; benchmarks/results/local/file_forms_... by default.
    """
    paths = {Path(name).stem: (models.find(name), engine) for name in command_line.words(files)}
    if len(paths) < max(2, len(command_line.words(files))):
        raise ValueError(f"--files wants two or more files of different names, not {files!r}")
    if contenders.choose(engine, "cpu").on_gpu:
        raise ValueError(f"{engine} is no engine of the CPU")
    if runs < 1:
        raise ValueError(f"--runs is at least 1, not {runs}")
    sizes_hw = [parse_size(size) for size in command_line.words(sizes)]
    counts = fps.numbers(threads, "--threads")
    path = out or records.RESULTS / "local" / f"file_forms_{engine}_{records.cpu_slug()}.json"
    records.check_writable(path)
    found: list[Record] = []
    for size_hw in sizes_hw:
        for count in counts:
            found += clock(paths, size_hw, count, runs)
            records.write_records(path, found)
    print(f"{table(found)}\n\nwritten to {path}")
    return 0


if __name__ == "__main__":
    command_line.run(main)
