"""What a comparison leaves behind: JSON, CSV, Markdown and pictures of the records there are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from baco_gpu.atomic import replacing
from baco_gpu.experiment.summary import aggregate, as_csv, as_markdown


def write_report(records: Sequence[dict[str, Any]], folder: Path | None) -> tuple[list[dict[str, Any]], list[Path]]:
    """The table of the records, and the files written to `folder` (none where it is None)."""
    rows = aggregate(records)
    if folder is None or not records:
        return rows, []
    texts = {
        "comparison.json": json.dumps({"table": rows, "runs": list(records)}, indent=2),
        "comparison.csv": as_csv(rows),
        "comparison.md": as_markdown(rows, records[-1]["versions"], records[-1]["machine"]),
    }
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return rows, [folder / name for name in texts]
