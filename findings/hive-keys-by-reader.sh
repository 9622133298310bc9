#!/bin/sh
# pyarrow 26.0.1, polars 2.1.0, duckdb 2.0.1: one folder of hive partitions has three types of keys, depending on who
# reads it, and two partitions can become one.
#
# Guess before the run: whole numbers are numbers, everything else strings, in all three.
# Seen, by the folders' names:
#                          pyarrow    polars    duckdb
#   1, 2147483648          string     Int64     BIGINT
#   7, 007                 int32: 7   Int64: 7  VARCHAR: '007', '7'     one shop for two
#   1.5, 2                 string     Float64   VARCHAR
#   2026-01-01, ...        string     Date      DATE
#   true, false            string     Boolean   VARCHAR
#   a%20b, c               'a b'      'a b'     'a b'
# So: ids or dates that are joined with what another reader read match nothing, or too much. Give the types of keys
# yourself, and never number the folders of string ids.
#
# Exits 0 while this is so, 1 once it changes, 2 where the packages cannot be installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyarrow==26.0.1 polars==2.1.0 duckdb==2.0.1 || exit 2
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

EXPECTED = {
    ("1", "2147483648"): ("string 2", "Int64 2", "BIGINT 2"),
    ("7", "007"): ("int32 1", "Int64 1", "VARCHAR 2"),
    ("1.5", "2"): ("string 2", "Float64 2", "VARCHAR 2"),
    ("2026-01-01", "2026-01-02"): ("string 2", "Date 2", "DATE 2"),
    ("true", "false"): ("string 2", "Boolean 2", "VARCHAR 2"),
    ("a%20b", "c"): ("string 2", "String 2", "VARCHAR 2"),
}
print("pyarrow", pa.__version__, "polars", pl.__version__, "duckdb", duckdb.__version__)
same = True
for number, (keys, expected) in enumerate(EXPECTED.items()):
    root = Path(sys.argv[1]) / f"clicks{number}"
    for key in keys:
        (root / f"shop={key}").mkdir(parents=True)
        pq.write_table(pa.table({"user": [1, 2]}), root / f"shop={key}" / "part.parquet")
    arrow = ds.dataset(root, partitioning="hive").to_table()["shop"]
    frame = pl.scan_parquet(root, hive_partitioning=True).collect()["shop"]
    relation = duckdb.sql(f"SELECT DISTINCT shop FROM read_parquet('{root}/*/*.parquet', hive_partitioning=true)")
    seen = (
        f"{arrow.type} {len(arrow.unique())}",
        f"{frame.dtype} {frame.n_unique()}",
        f"{relation.types[0]} {len(relation.fetchall())}",
    )
    print(", ".join(keys), "->", " | ".join(seen))
    same &= seen == expected
sys.exit(0 if same else 1)
PYTHON
