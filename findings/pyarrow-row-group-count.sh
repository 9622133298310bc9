#!/bin/sh
# pyarrow 26.0.1: `count_rows()` of a fragment that is one row group counts the rows of its whole file, while
# `to_table()` of the same fragment reads that row group alone.
#
# Guess before the run: both speak of the row group.
# Seen, a file of 100 rows in 10 row groups: ten fragments that count 100 rows each and read 10.
# So: work dealt out to processes by counting fragments is dealt out wrongly, by the number of row groups in a file. The
# footer has the right number: `fragment.metadata.row_group(i).num_rows`.
#
# Exits 0 while this is so, 1 once it changes, 2 where the packages cannot be installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyarrow==26.0.1 || exit 2
"$folder/venv/bin/python" - "$folder/clicks.parquet" <<'PYTHON'
import sys

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

pq.write_table(pa.table({"user": list(range(100))}), sys.argv[1], row_group_size=10)
(file,) = ds.dataset(sys.argv[1]).get_fragments()
groups = file.split_by_row_group()
counted = [group.count_rows() for group in groups]
read = [group.to_table().num_rows for group in groups]
noted = [group.metadata.row_group(group.row_groups[0].id).num_rows for group in groups]
print("pyarrow", pa.__version__)
print("counted", counted)
print("read   ", read)
print("noted  ", noted)
sys.exit(0 if counted == [100] * 10 and read == noted == [10] * 10 else 1)
PYTHON
