"""Load files one by one and tell of each what came: run as a process of its own, which a damaged file may end.

    python damaged_loaders.py FILES.json BEGIN

FILES.json lists pairs of a kind and a path. Of each from number BEGIN on, two lines go to stdout: its number, and what
is wrong with how it was loaded (nothing, mostly).
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from baco_gpu.data.readers import load_interactions
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.errors import BacoError, InputError

TIMES_THE_FILE = 20
# What a reader takes for a file of any size, such as Arrow's blocks and the stacks of its threads.
LEAST_BYTES = 64 << 20


CHECKED = ("result", "export", "checkpoint", "model", "compressed")  # whose files have a checksum


def interactions(path: Path) -> None:
    columns = {} if path.suffix in (".npz", ".txt") else {"timestamp_column": "timestamp"}
    loaded = load_interactions(path, **columns)
    for vocabulary in (loaded.user_vocabulary, loaded.item_vocabulary):
        if vocabulary is not None:  # what is saved of it can be loaded
            Vocabulary.from_arrays(vocabulary.to_arrays())


def result(path: Path) -> None:
    from baco_gpu.estimator.coclustering_result import CoclusteringResult

    CoclusteringResult.load(path).summary()


def export(path: Path) -> None:
    from baco_gpu.serving import load_codebooks

    for table in load_codebooks(path).values():
        table.lookup(np.arange(table.num_embeddings))


def model(path: Path) -> None:
    from baco_gpu.experiment.model_file import load_recommender

    known = load_recommender(path)
    known.recommend(known.user_ids, 3)


def compressed(path: Path) -> None:
    from baco_gpu import load_compressed

    load_compressed(path).expanded()


def trained(path: Path) -> None:
    from baco_gpu import compress_model

    try:
        compress_model(path, 0.6, methods=["quantized"])
    except InputError as error:
        if "must be finite" not in str(error):  # which names the table: the file is whole
            raise


def checkpoint(path: Path) -> None:
    from baco_gpu.training import checkpoint

    checkpoint._read(path)


def record(path: Path) -> None:
    from baco_gpu.experiment.trial_store import TrialStore

    trial = pickle.loads(path.with_name("trial.pickle").read_bytes())
    store = TrialStore(path.parent)
    store.path = lambda trial: path
    store.read(trial)


def settings(path: Path) -> None:
    from baco_gpu.cli.main import main

    with contextlib.redirect_stderr(io.StringIO()) as told:
        code = main(["compress", "nowhere", "--config", str(path)])
    if code != 2 or told.getvalue().count("\n") != 1:
        raise AssertionError(f"exit code {code}: {told.getvalue()}")


LOADERS: dict[str, Callable[[Path], None]] = {
    "result": result,
    "export": export,
    "model": model,
    "compressed": compressed,
    "safetensors": trained,
    "pt": trained,
    "checkpoint": checkpoint,
    "record": record,
    "settings": settings,
}


def fault(kind: str, path: Path) -> str:
    """What is wrong with how a file is loaded; nothing where it loads, or is refused in one line that names it."""
    before = memory("VmRSS")
    try:
        LOADERS.get(kind, interactions)(path)
    except BacoError as error:
        if "\n" in str(error) or path.name not in str(error):
            return f"{type(error).__name__}: {error!s:.300}"
    except BaseException as error:
        return f"{type(error).__name__}: {error!s:.300}"
    else:
        whole = path.with_name(f"whole.{kind}")
        if kind in CHECKED and path.read_bytes() != whole.read_bytes():
            return "loads, and is not what was written"
    taken = memory("VmHWM") - before
    if taken > max(LEAST_BYTES, TIMES_THE_FILE * path.stat().st_size):
        return f"took {taken:,} bytes for a file of {path.stat().st_size:,}"
    return ""


def memory(field: str) -> int:
    """Bytes that the process has, or had at most since it was last asked what it has; 0 where no system tells."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    if field == "VmRSS":
        Path("/proc/self/clear_refs").write_text("5")
    return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(field))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    files = json.loads(Path(sys.argv[1]).read_text())
    # The first of a kind brings libraries into memory, which are none of its own.
    for kind, name in dict(reversed(files)).items():
        fault(kind, Path(name))
    for number in range(int(sys.argv[2]), len(files)):
        kind, name = files[number]
        print(number, flush=True)
        print(json.dumps(fault(kind, Path(name))), flush=True)
