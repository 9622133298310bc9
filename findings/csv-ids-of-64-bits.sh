#!/bin/sh
# pyarrow 26.0.1, pandas 3.1.1, polars 2.1.0, duckdb 2.0.1: a CSV of ids that need all 64 bits, as hashes do, is a column of
# floats to pyarrow, in which ids that differ are one. Joined with floats, pandas and DuckDB match ids that differ.
#
# Guess before the run: without a type for them, pyarrow reads strings, as it does where a column is no number.
# Seen, 1,000 ids that follow one another from 2**63 on: pyarrow reads double, one distinct value; pandas uint64, polars Int128 and
# DuckDB HUGEINT, all 1,000. Of int64 ids 2**53 and 2**53 + 1, joined with the float 2**53: both match in pandas and DuckDB,
# pyarrow and polars refuse.
# So: name the type of ids (`column_types={"id": pa.uint64()}`), and never let one column of ids pass through floats.
#
# Exits 0 while this is so, 1 once it changes, 2 where the packages cannot be installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyarrow==26.0.1 pandas==3.1.1 polars==2.1.0 duckdb==2.0.1 numpy==2.4.6 || exit 2
"$folder/venv/bin/python" - "$folder/clicks.csv" <<'PYTHON'
import sys

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv

path = sys.argv[1]
ids = [2**63 + number for number in range(1000)]
with open(path, "w") as file:
    file.write("id\n" + "\n".join(map(str, ids)) + "\n")
print("pyarrow", pa.__version__, "pandas", pd.__version__, "polars", pl.__version__, "duckdb", duckdb.__version__)
arrow, frame, series = pyarrow.csv.read_csv(path)["id"], pd.read_csv(path)["id"], pl.read_csv(path)["id"]
relation = duckdb.sql(f"SELECT DISTINCT id FROM read_csv('{path}')")
read = {
    "pyarrow": (str(arrow.type), len(arrow.unique())),
    "pandas": (str(frame.dtype), frame.nunique()),
    "polars": (str(series.dtype), series.n_unique()),
    "duckdb": (str(relation.types[0]), len(relation.fetchall())),
}
for name, (kind, distinct) in read.items():
    print(f"{name}: {kind}, {distinct} distinct ids")


def matches(join):
    try:
        return len(join())
    except (pa.ArrowInvalid, pl.exceptions.PolarsError):
        return "refused"


whole, floats = pd.DataFrame({"id": [2**53, 2**53 + 1]}), pd.DataFrame({"id": [2.0**53]})
joined = {
    "pandas": matches(lambda: whole.merge(floats, on="id")),
    "duckdb": matches(lambda: duckdb.sql("SELECT whole.id FROM whole JOIN floats ON whole.id = floats.id").fetchall()),
    "pyarrow": matches(lambda: pa.table({"id": whole["id"]}).join(pa.table({"id": floats["id"]}), keys="id")),
    "polars": matches(lambda: pl.from_pandas(whole).join(pl.from_pandas(floats), on="id")),
}
print("rows of the join of int64 2**53, 2**53 + 1 with the float 2**53:", joined)
same = read["pyarrow"] == ("double", 1) and all(read[name][1] == 1000 for name in ("pandas", "polars", "duckdb"))
sys.exit(0 if same and list(joined.values()) == [2, 2, "refused", "refused"] else 1)
PYTHON
