"""The paper against itself: every check of `benchmarks/contradictions`, with its arithmetic.

Published figures come from `benchmarks/published`; sizes and multiply-adds are counted from the
networks here. Nothing is measured, so that the outcome is the same on every machine.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

from benchmarks import records
from benchmarks.contradictions import costs, scores, sizes, training
from benchmarks.contradictions.finding import Finding
from benchmarks.markdown_table import markdown_table
from gidrn import command_line
from gidrn.files import replacing

SCHEMA = "gidrn-audit/1"

__all__ = ["Finding", "findings", "main", "report"]


def findings() -> list[Finding]:
    """All findings: sizes, scores, costs, then training. Takes some ten seconds of counting."""
    return [
        *(check() for check in sizes.CHECKS),
        *(check() for check in scores.CHECKS),
        *scores.gains(),
        *(check() for check in costs.CHECKS),
        *(check() for check in training.CHECKS),
    ]


def report(found: list[Finding]) -> str:
    """A table of the verdicts, then each finding with its arithmetic, as Markdown."""
    rows = [
        [str(number), finding.title, finding.place, finding.verdict]
        for number, finding in enumerate(found, 1)
    ]
    count = Counter(finding.verdict for finding in found)
    total = ", ".join(f"{verdict}: {number}" for verdict, number in count.most_common())
    parts = [markdown_table(["", "what", "where in the paper", "verdict"], rows), total]
    for number, finding in enumerate(found, 1):
        lines = [f"{number}. **{finding.title}** ({finding.place}): {finding.verdict}"]
        lines += [f"   - says: {statement}" for statement in finding.statements]
        lines += [f"   - arithmetic: {finding.arithmetic}", f"   - here: {finding.treatment}"]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def write(path: Path, found: list[Finding]) -> None:
    """Write the findings as JSON with the commit that they were counted at."""
    content = {
        "schema": SCHEMA,
        "commit": dataclasses.asdict(records.commit_of(records.PROJECT)),
        "findings": [dataclasses.asdict(finding) for finding in found],
    }
    with replacing(path) as temporary:
        temporary.write_text(
            json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def main(out: Path | None = None) -> None:
    """Check the paper's tables and text against each other and against the networks here.

    Args:
        out: a JSON file to write the findings to, beside the table on the screen.
    """
    if out is not None:
        records.check_writable(out)
    found = findings()
    print(report(found))
    if out is not None:
        write(out, found)
        print(f"\nwritten to {out}")


if __name__ == "__main__":
    command_line.run(main)
