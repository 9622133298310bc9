"""Tables of interactions in Parquet files."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet


def clicks(rows=900, seed=0):
    """Interactions with repeated pairs, fractions for weights, and users of the very same items."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "user": (70 * rng.random(rows) ** 2).astype(np.int64) * 1009,
            "item": (50 * rng.random(rows) ** 2).astype(np.int64) + 10**12,
            "weight": rng.random(rows) / 3,
            "rating": rng.integers(1, 6, rows),
            "timestamp": rng.integers(0, 10**6, rows),
        }
    )
    lone = pd.DataFrame({"user": np.arange(90, 150) * 7, "item": 10**12, "weight": np.resize([0.1, 0.7], 60)})
    return pd.concat([frame, lone.assign(rating=4, timestamp=5)], ignore_index=True)


def in_files(folder, frame, files=3, group=50):
    """A folder of Parquet files, whose rows are those of the frame in the order of their names."""
    folder.mkdir(exist_ok=True)
    for number, rows in enumerate(np.array_split(np.arange(len(frame)), files)):
        table = pa.Table.from_pandas(frame.iloc[rows], preserve_index=False)
        pa.parquet.write_table(table, folder / f"part-{number}.parquet", row_group_size=group)
    return folder


def damage(file):
    """Let the values of a file's first row group be others than its footer says."""
    octets = bytearray(file.read_bytes())
    octets[4:200] = bytes(196)
    file.write_bytes(octets)
