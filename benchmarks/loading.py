"""How fast can a table of interactions become contiguous codes and sorted vocabularies?

Every candidate library reads the same file and turns both columns into int32 codes and their sorted distinct values.
Each run is a process of its own, so that its peak memory is its own. The candidates take turns, the least of the
repeats counts, and all must agree on the codes. Libraries that are not installed are left out, with a word on stderr.
Seconds of the processor stand beside those of the clock, because they bear a busy machine better. Linux only. Arrow
takes its number of threads from OMP_NUM_THREADS: leave it unset.

    python benchmarks/loading.py --rows 20000000 --output benchmarks/results/loading.csv
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import datetime
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FILES = ("integers.tsv", "strings.tsv", "integers.parquet", "strings.parquet")
_ROWS_AT_ONCE = 10_000_000
Columns = list[tuple[np.ndarray, int]]  # the codes of a column, and how many distinct values it has


def with_pandas(path: Path) -> Columns:
    import pandas as pd

    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, sep="\t")
    columns = []
    for name in list(frame.columns):
        codes, values = pd.factorize(frame.pop(name), sort=True)
        columns.append((codes.astype(np.int32), len(values)))
    return columns


def with_pandas_over_pyarrow(path: Path) -> Columns:
    """pandas, with the multi-threaded parser of Arrow."""
    import pandas as pd

    frame = pd.read_csv(path, sep="\t", engine="pyarrow")
    columns = []
    for name in list(frame.columns):
        codes, values = pd.factorize(frame.pop(name), sort=True)
        columns.append((codes.astype(np.int32), len(values)))
    return columns


def with_pyarrow(path: Path) -> Columns:
    """Arrow: strings of text files become dictionaries while they are read, all else afterwards (measured faster)."""
    import pyarrow as pa
    import pyarrow.compute
    import pyarrow.csv
    import pyarrow.parquet

    if path.suffix == ".parquet":
        table = pyarrow.parquet.read_table(path)
    else:
        types = dict.fromkeys(("user", "item"), pa.dictionary(pa.int32(), pa.string()))
        table = pyarrow.csv.read_csv(
            path,
            parse_options=pyarrow.csv.ParseOptions(delimiter="\t"),
            convert_options=pyarrow.csv.ConvertOptions(column_types=types if path.stem == "strings" else {}),
        )
    columns = []
    for name in table.column_names:
        column = table[name]
        if pa.types.is_dictionary(column.type):
            chunks = column.unify_dictionaries().chunks
        else:
            chunks = [column.combine_chunks().dictionary_encode()]
        order = pyarrow.compute.sort_indices(chunks[0].dictionary).to_numpy()
        rank = np.empty(len(order), np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        columns.append((np.concatenate([rank[chunk.indices.to_numpy()] for chunk in chunks]), len(rank)))
    return columns


def with_baco_gpu(path: Path) -> Columns:
    """What the package itself does."""
    from baco_gpu import load_interactions

    interactions = load_interactions(path)
    return [(interactions.users, interactions.num_users), (interactions.items, interactions.num_items)]


def with_polars(path: Path) -> Columns:
    import polars as pl

    frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, separator="\t")
    columns = []
    for name in frame.columns:
        values = frame[name].unique().sort()
        ranks = pl.DataFrame({name: values, "code": np.arange(len(values), dtype=np.int32)})
        codes = frame.select(name).join(ranks, on=name, how="left", maintain_order="left")["code"]
        columns.append((codes.to_numpy(), len(values)))
    return columns


def with_polars_categories(path: Path) -> Columns:
    """polars, with strings as categories."""
    import polars as pl

    scan = pl.scan_parquet(path) if path.suffix == ".parquet" else pl.scan_csv(path, separator="\t")
    frame = scan.with_columns(pl.all().cast(pl.Categorical)).collect()
    columns = []
    for name in frame.columns:
        categories = frame[name].unique()
        order = categories.cast(pl.String).arg_sort().to_numpy()
        physical = categories.to_physical().to_numpy()[order]
        rank = np.empty(int(physical.max()) + 1, np.int32)
        rank[physical] = np.arange(len(physical), dtype=np.int32)
        columns.append((rank[frame[name].to_physical().to_numpy()], len(physical)))
    return columns


def with_duckdb(path: Path) -> Columns:
    import duckdb

    database = duckdb.connect()
    reader = f"read_parquet('{path}')" if path.suffix == ".parquet" else f"read_csv('{path}', delim = '\t')"
    database.execute(f"create table edges as select * from {reader}")
    columns = []
    for name in ("user", "item"):
        database.execute(
            f'create or replace table ranks as select "{name}" as raw, '
            f'(row_number() over (order by "{name}") - 1)::integer as code from (select distinct "{name}" from edges)'
        )
        joined = f'select code from edges join ranks on edges."{name}" = ranks.raw order by edges.rowid'
        codes = np.asarray(database.execute(joined).fetchnumpy()["code"], dtype=np.int32)
        count = database.execute("select count(*) from ranks").fetchone()
        columns.append((codes, count[0] if count else 0))
    return columns


# Name, package, function, and which of the files it is for (a part of their names).
CANDIDATES: list[tuple[str, str, Callable[[Path], Columns], str]] = [
    ("pandas", "pandas", with_pandas, ""),
    ("pandas, Arrow parser", "pandas", with_pandas_over_pyarrow, ".tsv"),
    ("pyarrow", "pyarrow", with_pyarrow, ""),
    ("polars", "polars", with_polars, ""),
    ("polars, categories", "polars", with_polars_categories, "strings"),
    ("duckdb", "duckdb", with_duckdb, ""),
    ("baco_gpu", "baco_gpu", with_baco_gpu, ""),
]


def generate(folder: Path, rows: int, files: Sequence[str] = FILES) -> None:
    """Write files: two million possible users, a heavy-tailed choice of 300,000 items; some rows at a time."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv
    import pyarrow.parquet

    generator = np.random.default_rng(0)
    options = pyarrow.csv.WriteOptions(delimiter="\t", quoting_style="none")
    with contextlib.ExitStack() as stack:
        writers: dict[str, Any] = {}
        for start in range(0, rows, _ROWS_AT_ONCE):
            size = min(_ROWS_AT_ONCE, rows - start)
            users = pa.array(generator.integers(0, 2_000_000, size) * 7 + 13)
            items = pa.array((generator.pareto(1.1, size) * 1000).astype(np.int64) % 300_000)
            tables = {"integers": pa.table({"user": users, "item": items})}
            named = {
                side: pc.binary_join_element_wise(f"{side}-", tables["integers"][side].cast(pa.string()), "")
                for side in ("user", "item")
            }
            tables["strings"] = pa.table(named)
            for file in files:
                table = tables[file.partition(".")[0]]
                if file not in writers:
                    path = folder / file
                    writers[file] = stack.enter_context(
                        pyarrow.parquet.ParquetWriter(path, table.schema)
                        if path.suffix == ".parquet"
                        else pyarrow.csv.CSVWriter(path, table.schema, write_options=options)
                    )
                writers[file].write_table(table)


def peak_memory() -> int:
    """Bytes of the largest resident set of this process (getrusage would count that of its parent, too)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def processor() -> str:
    """The name of the processor, as Linux has it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def run_candidate(name: str, path: Path) -> None:
    """Run one candidate in this process; print seconds, processor seconds, peak GiB and a fingerprint of the codes."""
    function = next(function for candidate, _, function, _ in CANDIDATES if candidate == name)
    start, cpu_start = time.perf_counter(), time.process_time()
    columns = function(path)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    peak = peak_memory() / 2**30
    fingerprint = [(int((codes * (np.arange(len(codes)) % 1_000_003)).sum()), size) for codes, size in columns]
    print(f"{seconds:.3f};{cpu_seconds:.3f};{peak:.3f};{fingerprint}")


def measure(name: str, path: Path) -> tuple[float, float, float, str]:
    """Run a candidate in a process of its own; return seconds, processor seconds, peak GiB and the fingerprint."""
    command = [sys.executable, __file__, "--candidate", name, "--path", str(path)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    seconds, cpu_seconds, peak, fingerprint = output.split(";")
    return float(seconds), float(cpu_seconds), float(peak), fingerprint


def compare(path: Path, rows: int, repeats: int, candidates: Sequence[str]) -> list[dict[str, Any]]:
    """Measure every candidate on one file, in turns, so that a busy minute hits all of them; return a row for each."""
    runs: dict[str, list[tuple[float, float, float, str]]] = {}
    for repeat in range(repeats):
        for name, package, _, files in CANDIDATES:
            if files not in path.name or (candidates and name not in candidates):
                continue
            if importlib.util.find_spec(package) is not None:
                runs.setdefault(name, []).append(measure(name, path))
            elif repeat == 0:
                print(f"left out: {name}, as {package} is not installed", file=sys.stderr, flush=True)
    fingerprints = {run[3] for measured in runs.values() for run in measured}
    if len(fingerprints) > 1:
        raise SystemExit(f"{path.name}: the candidates disagree on the codes: {fingerprints}")
    results = []
    for name, package, _, _ in CANDIDATES:
        if name not in runs:
            continue
        seconds, cpu_seconds, peak = (min(run[column] for run in runs[name]) for column in range(3))
        version = importlib.metadata.version(package)
        speed = rows / seconds / 1e6
        cells = (path.name, name, version, f"{seconds:.1f}", f"{cpu_seconds:.1f}", f"{speed:.1f}", f"{peak:.2f}")
        print(f"| {' | '.join(cells)} |", flush=True)
        results.append(
            {
                "file": path.name,
                "candidate": name,
                "version": version,
                "rows": rows,
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
                "peak_gib": peak,
                "repeats": repeats,
                "processor": processor(),
                "cores": len(os.sched_getaffinity(0)),
                "python": platform.python_version(),
                "date": datetime.date.today().isoformat(),
            }
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--files", nargs="+", choices=FILES, default=FILES, help="some of the files")
    parser.add_argument("--candidates", nargs="+", default=[], help="some of the candidates, by name")
    parser.add_argument("--output", type=Path, help="write the rows to this CSV file, too")
    parser.add_argument("--candidate", help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.candidate:
        run_candidate(arguments.candidate, arguments.path)
        return
    results: list[dict[str, Any]] = []
    print("| file | candidate | version | clock s | processor s | million rows/s | peak GiB |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), arguments.rows, arguments.files)
        for file in arguments.files:
            results += compare(Path(folder, file), arguments.rows, arguments.repeats, arguments.candidates)
    if arguments.output:
        with arguments.output.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(results[0]))
            writer.writeheader()
            writer.writerows(results)


if __name__ == "__main__":
    main()
