#!/bin/sh
# polars 2.1.0 into pyarrow 26.0.1: a Categorical or Enum column that goes through the Arrow capsule (`pa.table(frame)`,
# `pa.chunked_array(series)`) is a dictionary of string views, which pyarrow can neither cast, decode nor write to
# Parquet; polars' own `to_arrow()` gives a dictionary of large strings, with which all of this works.
#
# Guess before the run: both ways give the same type.
# Seen: dictionary<values=string_view> against dictionary<values=large_string>; with the first, cast, dictionary_decode
# and write_table raise ArrowNotImplementedError, unique and value_counts work.
# So: what takes "any Arrow table" has to cast the values inside the dictionary to large_string before anything else.
#
# Exits 0 while this is so, 1 once it changes, 2 where the packages cannot be installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet polars==2.1.0 pyarrow==26.0.1 || exit 2
"$folder/venv/bin/python" - "$folder/out.parquet" <<'PYTHON'
import sys

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

print("polars", pl.__version__, "pyarrow", pa.__version__)
uses = {
    "cast to string": lambda column: column.cast(pa.string()),
    "dictionary_decode": pc.dictionary_decode,
    "write_table": lambda column: pq.write_table(pa.table({"item": column}), sys.argv[1]),
    "unique": lambda column: column.unique(),
    "value_counts": pc.value_counts,
}
works = {}
for dtype in (pl.Categorical, pl.Enum(["shoe", "hat"])):
    series = pl.Series(["shoe", "hat", "shoe"], dtype=dtype)
    for way, column in (("capsule", pa.chunked_array(series)), ("to_arrow", pa.chunked_array([series.to_arrow()]))):
        print(f"{series.dtype}, {way}: {column.type}")
        for use, call in uses.items():
            try:
                call(column)
                works[way, use] = works.get((way, use), True)
            except pa.ArrowNotImplementedError as error:
                works[way, use] = False
                print(f"  {use}: {str(error)[:90]}")
print("works:", ", ".join(f"{use} ({way})" for (way, use), fine in works.items() if fine))
broken = {use for (way, use), fine in works.items() if way == "capsule" and not fine}
fine = all(fine for (way, _), fine in works.items() if way == "to_arrow")
sys.exit(0 if fine and broken == {"cast to string", "dictionary_decode", "write_table"} else 1)
PYTHON
