"""Public sets of interactions, fetched once into a folder of the user's and read from there by name.

Checksums are the published ones: of MovieLens in the .md5 files beside GroupLens's archives, of the others in RecZoo's
collection (github.com/reczoo/Datasets), which took its files from the authors of LightGCN, as this module does.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from baco_gpu.atomic import make_folder, note_written, replacing
from baco_gpu.checks import check_choice
from baco_gpu.errors import InputError, MissingExtraError
from baco_gpu.progress import Progress, silent

HOME_VARIABLE = "BACO_DATA_HOME"
_TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 18


@dataclass(frozen=True)
class RemoteFile:
    """One file to download, and the members of it to keep if it is an archive."""

    url: str
    md5: str
    members: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return PurePosixPath(self.url).name


@dataclass(frozen=True)
class PublicSet:
    """A set, where it comes from, and on whose terms."""

    about: str
    terms: str
    files: tuple[RemoteFile, ...]

    @property
    def kept(self) -> list[str]:
        """The names of the files that are left in the folder of a fetched set."""
        return [PurePosixPath(name).name for file in self.files for name in (file.members or (file.name,))]


def _lightgcn(folder: str, about: str, terms: str, train: str, test: str) -> PublicSet:
    url = f"https://raw.githubusercontent.com/kuandeng/LightGCN/master/Data/{folder}"
    terms = f"{terms} Prepared by the authors of LightGCN (He et al., SIGIR 2020)."
    return PublicSet(about, terms, (RemoteFile(f"{url}/train.txt", train), RemoteFile(f"{url}/test.txt", test)))


def _movielens(archive: str, about: str, md5: str, *members: str) -> PublicSet:
    terms = (
        "GroupLens, University of Minnesota: for research; no commercial use without permission, no redistribution; "
        "publications cite Harper and Konstan, 2015 (the README that comes along has the terms)."
    )
    url = f"https://files.grouplens.org/datasets/movielens/{archive}"
    return PublicSet(about, terms, (RemoteFile(url, md5, members),))


SETS: dict[str, PublicSet] = {
    "gowalla": _lightgcn(
        "gowalla",
        "check-ins of 29,858 users at 40,981 places",
        "Gowalla check-ins (SNAP, Stanford; Cho et al., KDD 2011): no licence is stated; research use.",
        train="5eec1eb2edb8dd648377d348b8e136cf",
        test="c04e2c4bcd2389f53ed8281816166149",
    ),
    "yelp2018": _lightgcn(
        "yelp2018",
        "visits of 31,668 users to 38,048 businesses",
        "Yelp Dataset: Yelp's Dataset Terms of Use hold, academic and non-commercial use only.",
        train="1b8b5d22a227e01d6de002c53d32b4c4",
        test="0d57d7399862c32152b045ec5d2698e7",
    ),
    "amazon-book": _lightgcn(
        "amazon-book",
        "reviews of 91,599 books by 52,643 users",
        "Amazon review data (McAuley et al.; UC San Diego): no licence is stated; research use.",
        train="c916ecac04ca72300a016228258b41ed",
        test="30f8ccfea18d25007ba9fb9aba4e174d",
    ),
    "movielens-1m": _movielens(
        "ml-1m.zip",
        "1 million ratings of 6,040 users",
        "c4d9eecfca2ab87c1945afe126590906",
        "ml-1m/ratings.dat",
        "ml-1m/README",
    ),
    "movielens-10m": _movielens(
        "ml-10m.zip",
        "10 million ratings of 71,567 users",
        "ce571fd55effeba0271552578f2648bd",
        "ml-10M100K/ratings.dat",
        "ml-10M100K/README.html",
    ),
    "movielens-20m": _movielens(
        "ml-20m.zip",
        "20 million ratings of 138,493 users",
        "cd245b17a1ae2cc31bb14903e1204af3",
        "ml-20m/ratings.csv",
        "ml-20m/README.txt",
    ),
    "movielens-25m": _movielens(
        "ml-25m.zip",
        "25 million ratings of 162,541 users",
        "6b51fb2759a8657d3bfcbfc42b592ada",
        "ml-25m/ratings.csv",
        "ml-25m/README.txt",
    ),
}


def data_home() -> Path:
    """The folder of all fetched sets: what BACO_DATA_HOME names, or baco_gpu in the user's folder of caches.

    Raises
    ------
    MissingExtraError
        If the variable names none and pooch, which knows the folders of each platform, is not installed.
    """
    named = os.environ.get(HOME_VARIABLE)
    return Path(named) if named else Path(_pooch().os_cache("baco_gpu"))


def is_fetched(name: str) -> bool:
    """Whether all files of a set are in its folder."""
    folder = data_home() / name
    return all((folder / file).is_file() for file in SETS[name].kept)


def fetched(name: str) -> Path:
    """The folder of a set; InputError, with the command that fetches it, where it is not there yet."""
    if not is_fetched(name):
        raise InputError(f"{name} has not been fetched yet; this does: baco data fetch {name}")
    return data_home() / name


def fetch(name: str, progress: Progress = silent) -> Path:
    """Download a set, unless it is there already, and return its folder.

    A file gets its name only once it is complete and has the published checksum. What an interrupted download has
    brought is kept beside it as NAME.part, and the next call asks the server for the rest.

    Raises
    ------
    InputError
        If there is no such set, or a file is not the one that was published.
    MissingExtraError
        If pooch is not installed.
    OSError
        If the server cannot be reached or breaks off, or the disk is full.
    """
    check_choice("name", name, SETS)
    pooch = _pooch()
    pooch.get_logger().setLevel("WARNING")
    folder = make_folder(data_home() / name)
    for file in SETS[name].files:
        if all((folder / PurePosixPath(member).name).is_file() for member in file.members or (file.name,)):
            continue
        download = _Resuming(folder / f"{file.name}.part", progress)
        try:
            pooch.retrieve(file.url, f"md5:{file.md5}", fname=file.name, path=folder, downloader=download)
        except ValueError as error:
            found = re.search(r"but got (\w+)", str(error))
            got = found[1] if found else str(error)
            raise InputError(f"{file.url}: expected the file with MD5 {file.md5}, got {got}; not kept") from error
        note_written(folder / file.name)
        if file.members:
            _unpack(folder / file.name, file.members)
    return folder


class _Resuming:
    """A downloader for pooch that begins where the last one ended."""

    def __init__(self, part: Path, progress: Progress) -> None:
        self.part = part
        self.progress = progress

    def __call__(self, url: str, output: Any, pooch: Any) -> None:
        try:
            self._download(url)
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = getattr(error, "reason", None) or error
            raise OSError(f"{url}: the download failed ({reason}); the same command goes on where it ended") from error
        shutil.move(self.part, output)

    def _download(self, url: str) -> None:
        done = self.part.stat().st_size if self.part.exists() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
        try:
            response = urllib.request.urlopen(request, timeout=_TIMEOUT)
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            self.part.unlink()  # not the beginning of what the server has
            self._download(url)
            return
        with response:
            if response.status != http.HTTPStatus.PARTIAL_CONTENT:
                done = 0
            total = done + int(response.headers.get("Content-Length", 0))
            with self.part.open("ab" if done else "wb") as stream:
                while chunk := response.read(_CHUNK):
                    stream.write(chunk)
                    note_written(self.part)
                    done += len(chunk)
                    self.progress("download", done, max(total, done), PurePosixPath(url).name)
        if done < total:
            raise ConnectionError(f"{done} of {total} bytes came")


def _unpack(archive: Path, members: tuple[str, ...]) -> None:
    """Write some members of an archive beside it, and remove it."""
    with zipfile.ZipFile(archive) as content:
        for member in members:
            target = archive.parent / PurePosixPath(member).name
            with replacing(target) as temporary, content.open(member) as source, temporary.open("wb") as stream:
                shutil.copyfileobj(source, stream)
    archive.unlink()


def _pooch() -> Any:
    try:
        import pooch
    except ImportError as error:
        raise MissingExtraError(
            "public sets are fetched with pooch, which is not installed: pip install 'baco_gpu[data]'"
        ) from error
    return pooch
