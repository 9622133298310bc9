"""Files that are damaged, or claim what they do not hold: refused in one line, before memory is taken."""

from __future__ import annotations

import tracemalloc
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from baco_gpu.data.readers import load_interactions, load_split
from baco_gpu.errors import InputError

PAIRS = np.array([[0, 1, 1], [1, 0, 1]])
SPLIT = {"train": PAIRS, "val": PAIRS, "test": PAIRS, "num_users": 2, "num_items": 2}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("shape", ["(2, 1000000000000)", "(2, -3)", "(2, 4)", "(18446744073709551616, 0)", "(2,"])
def test_an_npz_that_claims_what_it_does_not_hold_takes_no_memory(tmp_path, shape, compression):
    np.savez(tmp_path / "whole.npz", **SPLIT)
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    train = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(48)
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(tmp_path / "whole.npz") as whole, zipfile.ZipFile(path, "w", compression) as archive:
        for name in whole.namelist():
            archive.writestr(name, train if name == "train.npy" else whole.read(name))
    tracemalloc.start()
    with pytest.raises(InputError, match=r"x\.npz: expected an \.npz archive of plain arrays, but it cannot be read"):
        load_split(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 21
    tracemalloc.stop()


def test_an_npz_member_of_a_claimed_length_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, **SPLIT)
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")  # of the first member, where the archive lists its members
    content[at + 24 : at + 28] = (1 << 30).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(InputError, match="more than the file can hold"):
        load_split(path)


def damaged_columns() -> dict[str, pa.Array]:
    """Columns as a damaged file makes them: Arrow takes them as they are, and finds the fault if asked."""
    offsets = pa.py_buffer(np.array([0, 5, 2], np.int32))
    no_utf8 = [None, pa.py_buffer(np.array([0, 1, 2], np.int32)), pa.py_buffer(b"a\xff")]
    large = [None, pa.py_buffer(np.array([0, 1, 2], np.int64)), pa.py_buffer(b"a\xff")]
    return {
        "no UTF-8": pa.Array.from_buffers(pa.string(), 2, no_utf8),
        "no UTF-8, large": pa.Array.from_buffers(pa.large_string(), 2, large),
        "offsets past the text": pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"ab")]),
        "indices out of range": pa.DictionaryArray.from_arrays(pa.array([0, 5]), pa.array(["a", "b"]), safe=False),
        "no UTF-8 in a dictionary": pa.DictionaryArray.from_arrays(
            pa.array([0, 1]), pa.Array.from_buffers(pa.string(), 2, no_utf8)
        ),
    }


@pytest.mark.parametrize("name", damaged_columns())
@pytest.mark.parametrize("role", ["user", "item", "timestamp"])
def test_damaged_columns_are_refused_before_anything_is_computed_with_them(name, role):
    columns = {"user": pa.array([1, 2]), "item": pa.array([3, 4]), "timestamp": pa.array([5, 6])}
    table = pa.table({**columns, role: damaged_columns()[name]})
    with pytest.raises(pa.ArrowInvalid):
        table.validate(full=True)
    with pytest.raises(InputError, match=f"pyarrow Table: column '{role}' is damaged"):
        load_interactions(table, timestamp_column="timestamp")


@pytest.mark.parametrize("suffix", [".feather", ".arrow", ".parquet"])
def test_text_that_is_no_utf8_in_a_columnar_file_is_refused(tmp_path, suffix):
    table = pa.table({"user": damaged_columns()["no UTF-8"], "item": [1, 2]})
    path = tmp_path / f"x{suffix}"
    if suffix == ".parquet":
        pyarrow.parquet.write_table(table, path, use_dictionary=False)
    else:
        pyarrow.feather.write_feather(table, path)
    with pytest.raises(InputError, match=rf"x\{suffix}: column 'user' is damaged \(.*UTF8"):
        load_interactions(path)
