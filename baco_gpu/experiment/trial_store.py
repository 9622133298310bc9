"""Results on disk: one JSON file a run, whole or not there, and a claim on every run that a process is at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from baco_gpu.atomic import make_folder, replacing
from baco_gpu.checks import check_choice, check_integer, check_number
from baco_gpu.errors import InputError
from baco_gpu.experiment.trials import Trial

FORMAT = "baco_gpu.run"
FORMAT_VERSION = 1
DONE, FAILED = "done", "failed"
_COUNTS = ("codebook_rows", "parameters", "parameters_full", "bytes", "bytes_full", "epochs", "best_epoch")


def _check_content(record: dict[str, Any]) -> None:
    """Raise InputError, KeyError or TypeError for what `TrialStore.write` is never given."""
    check_integer("format_version", record["format_version"], minimum=FORMAT_VERSION, maximum=FORMAT_VERSION)
    check_choice("status", record["status"], (DONE, FAILED))
    check_number("seconds", record["seconds"], minimum=0)
    for name, kind in (("machine", dict), ("versions", dict), *([("reason", str)] * (record["status"] == FAILED))):
        if not isinstance(record[name], kind):
            raise TypeError(f"{name} is a {type(record[name]).__name__}")
    if record["status"] == DONE:
        figures = record["figures"]
        for name in _COUNTS:
            check_integer(name, figures[name], minimum=0)
        for name, value in figures.items():
            if name.startswith("seconds_") or "@" in name:
                check_number(name, value, minimum=0)


def is_kept(trial: Trial, folder: Path) -> bool:
    """Whether the folder of a comparison has a record of a run, under whatever name its method had."""
    return any((folder / "runs" / f"{known.name}.json").exists() for known in (trial, *trial.former))


class TrialStore:
    """The folder `runs` of a comparison.

    Several processes may work on one folder. A claim is a lock that the operating system holds for a process, and
    lets go of when the process ends, however it ends.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = make_folder(folder / "runs")

    def path(self, trial: Trial) -> Path:
        return self.folder / f"{trial.name}.json"

    def read(self, trial: Trial) -> dict[str, Any] | None:
        """The record of a run, None while there is none; InputError for a file that is no record of it.

        One that was written while the method had another name has the present one.
        """
        for known in (trial, *trial.former):
            record = self._read(known)
            if record is not None:
                return {**record, "run": trial.settings}
        return None

    def _read(self, trial: Trial) -> dict[str, Any] | None:
        path = self.path(trial)
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: expected the record of a run, got something else ({error})") from error
        if not isinstance(record, dict) or record.get("format") != FORMAT or record.get("run") != trial.settings:
            raise InputError(f"{path}: expected the record of this run, got another file; move it away")
        try:
            _check_content(record)
        except (KeyError, TypeError, InputError) as error:
            raise InputError(f"{path}: damaged record ({type(error).__name__}: {error}); move it away") from error
        return record

    def write(self, trial: Trial, content: dict[str, Any]) -> dict[str, Any]:
        """Write the record of a run, and return it."""
        record = {"format": FORMAT, "format_version": FORMAT_VERSION, "run": trial.settings, **content}
        with replacing(self.path(trial)) as temporary:
            temporary.write_text(json.dumps(record, indent=2), encoding="utf-8")
        return record

    @contextmanager
    def claim(self, trial: Trial) -> Iterator[bool]:
        """Whether this process may do the run: nobody else can while the block lasts."""
        lock = FileLock(self.folder / f".{trial.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            # The file goes first: whoever makes a new one under this name finds the record.
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()
