#!/bin/sh
# pyarrow 26.0.1: a dataset of JSON lines reads a file of one line as a row of nulls where no line break ends it;
# `pyarrow.json.read_json` reads the same file rightly, as datasets do from two lines on, and with the line break.
#
# Guess before the run: the last line break is optional, as everywhere else.
# Seen: {"user": 1, "item": "i1"} without a line break comes as {"user": None, "item": None}, and no error; the schema
# is right, so that nothing downstream notices.
# So: streams of events that are written one file an event lose them all. Read JSON lines by `read_json` or `open_json`.
#
# Exits 0 while this is so, 1 once it changes, 2 where the packages cannot be installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyarrow==26.0.1 || exit 2
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.json

print("pyarrow", pa.__version__)
right = {}
for rows in (1, 2):
    for end in ("", "\n"):
        file = Path(sys.argv[1], f"events{rows}{len(end)}.json")
        written = [{"user": row, "item": f"i{row}"} for row in range(1, rows + 1)]
        file.write_text("\n".join(f'{{"user": {row["user"]}, "item": "{row["item"]}"}}' for row in written) + end)
        by_dataset = ds.dataset(file, format="json").to_table().to_pylist()
        by_reader = pyarrow.json.read_json(file).to_pylist()
        print(f"{rows} lines, {'a' if end else 'no'} line break at the end: dataset {by_dataset}, read_json {by_reader}")
        right[rows, end] = by_dataset == written
        assert by_reader == written
sys.exit(0 if right == {(1, ""): False, (1, "\n"): True, (2, ""): True, (2, "\n"): True} else 1)
PYTHON
