"""Public sets, fetched from a server on this machine: whole, resumed, damaged and missing."""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from baco_gpu.data import fetch as sets
from baco_gpu.data.fetch import PublicSet, RemoteFile, fetch
from baco_gpu.data.readers import load_interactions, load_split
from baco_gpu.errors import InputError, MissingExtraError

pytestmark = pytest.mark.heavy("runs commands")

TRAIN = "".join(f"{user} {user % 30} {(user * 7 + 1) % 30}\n" for user in range(400)).encode()
TEST = b"0 5\n1 6\n"
RATINGS = b"1::10::5::100\n1::11::2::200\n2::10::4::300\n"


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as content:
        content.writestr("ml/ratings.dat", RATINGS)
        content.writestr("ml/README", "terms")
        content.writestr("ml/movies.dat", "not needed")
    return buffer.getvalue()


class Server(ThreadingHTTPServer):
    """Serves `files`, cuts the next answers short at as many bytes as `cuts` says, remembers the ranges asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"/train.txt": TRAIN, "/test.txt": TEST, "/ml.zip": archive()}
        self.cuts = []
        self.asked = []
        self.with_ranges = True

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        content, asked = self.server.files.get(self.path), self.headers.get("Range")
        self.server.asked.append((self.path, asked))
        if content is None:
            self.send_error(404)
            return
        begin = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and self.server.with_ranges else 0
        if begin >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        end = begin + self.server.cuts.pop(0) if self.server.cuts else None
        self.wfile.write(content[begin:end])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    files = [RemoteFile(server.url(path[1:]), hashlib.md5(data).hexdigest()) for path, data in server.files.items()]
    rated = RemoteFile(files[2].url, files[2].md5, ("ml/ratings.dat", "ml/README"))
    monkeypatch.setitem(sets.SETS, "gowalla", PublicSet("clicks", "for tests only", (files[0], files[1])))
    monkeypatch.setitem(sets.SETS, "movielens-1m", PublicSet("ratings", "for tests only", (rated,)))
    monkeypatch.setenv("BACO_DATA_HOME", str(tmp_path / "home"))
    yield server
    server.shutdown()
    server.server_close()


def test_a_set_is_fetched_once_and_read_by_name(server, tmp_path):
    seen = []
    folder = fetch("gowalla", lambda *step: seen.append(step))
    assert folder == tmp_path / "home" / "gowalla"
    assert sorted(path.name for path in folder.iterdir()) == ["test.txt", "train.txt"]
    assert seen[-1] == ("download", len(TEST), len(TEST), "test.txt")
    assert len(server.asked) == 2
    assert fetch("gowalla") == folder
    assert len(server.asked) == 2
    assert len(load_interactions("gowalla")) == 800
    assert len(load_split("gowalla").test) == 2


def test_of_an_archive_the_ratings_and_the_terms_are_kept(server):
    folder = fetch("movielens-1m")
    assert sorted(path.name for path in folder.iterdir()) == ["README", "ratings.dat"]
    assert len(load_interactions("movielens-1m", min_rating=4)) == 2
    assert fetch("movielens-1m") == folder
    assert len(server.asked) == 1


def test_an_interrupted_download_goes_on_where_it_ended(server):
    server.cuts = [1000, 1500]
    for came in (1000, 2500):
        with pytest.raises(OSError, match=r"the download failed .*; the same command goes on where it ended"):
            fetch("gowalla")
        folder = sets.data_home() / "gowalla"
        assert [path.name for path in folder.iterdir()] == ["train.txt.part"]
        assert (folder / "train.txt.part").stat().st_size == came
    fetch("gowalla")
    assert (folder / "train.txt").read_bytes() == TRAIN
    assert [asked for path, asked in server.asked if path == "/train.txt"] == [None, "bytes=1000-", "bytes=2500-"]


def test_a_server_without_ranges_sends_all_again(server):
    server.cuts, server.with_ranges = [1000], False
    with pytest.raises(OSError, match="the download failed"):
        fetch("gowalla")
    assert (fetch("gowalla") / "train.txt").read_bytes() == TRAIN


def test_a_part_longer_than_the_file_is_thrown_away(server):
    folder = sets.data_home() / "gowalla"
    folder.mkdir(parents=True)
    (folder / "train.txt.part").write_bytes(TRAIN + b"more")
    fetch("gowalla")
    assert (folder / "train.txt").read_bytes() == TRAIN


def test_a_file_that_is_not_the_published_one_is_not_kept(server):
    server.files["/train.txt"] = TRAIN[:-1] + b"x"
    expected, got = (hashlib.md5(data).hexdigest() for data in (TRAIN, TRAIN[:-1] + b"x"))
    with pytest.raises(InputError, match=f"expected the file with MD5 {expected}, got {got}; not kept"):
        fetch("gowalla")
    assert list((sets.data_home() / "gowalla").iterdir()) == []


def test_what_the_server_does_not_have_is_an_error(server):
    del server.files["/test.txt"]
    with pytest.raises(OSError, match=r"test\.txt: the download failed \(Not Found\)"):
        fetch("gowalla")
    assert not sets.is_fetched("gowalla")
    with pytest.raises(InputError, match="gowalla has not been fetched yet; this does: baco data fetch gowalla"):
        load_split("gowalla")
    with pytest.raises(InputError, match=r"name must be one of 'gowalla', .* got 'netflix'"):
        fetch("netflix")


def test_a_name_that_is_nearly_one_is_corrected():
    with pytest.raises(InputError, match=r"there is none \(did you mean 'gowalla'\?\)"):
        load_split("gowala")


def test_without_pooch_the_extra_is_named(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'baco_gpu\[data\]'"):
        fetch("gowalla")
    monkeypatch.delenv("BACO_DATA_HOME")
    with pytest.raises(MissingExtraError):
        sets.data_home()


def test_the_folder_is_the_users_where_nothing_is_named(monkeypatch):
    monkeypatch.delenv("BACO_DATA_HOME", raising=False)
    assert sets.data_home().name == "baco_gpu"


@pytest.mark.parametrize("name", sets.SETS)
def test_every_set_has_terms_and_published_checksums(name):
    public = sets.SETS[name]
    assert public.about
    assert public.terms
    assert all(re.fullmatch("[0-9a-f]{32}", file.md5) and file.url.startswith("https://") for file in public.files)
    assert {"train.txt", "ratings.dat", "ratings.csv"} & set(public.kept)


def test_the_command_tells_the_terms_before_it_downloads(server, baco):
    listed = json.loads(baco("data", "fetch", "--json")[1])
    assert listed["gowalla"] == {"about": "clicks", "fetched": False}
    code, stdout, stderr = baco("data", "fetch", "gowalla")
    assert code == 0
    assert stderr.splitlines()[0] == "gowalla: for tests only"
    assert stdout == f"gowalla: {sets.data_home() / 'gowalla'}\n"
    assert json.loads(baco("data", "fetch", "gowalla", "--json")[1])["folder"] == str(sets.data_home() / "gowalla")
    assert re.search(r"gowalla +yes +clicks", baco("data", "fetch")[1])
    assert json.loads(baco("data", "describe", "gowalla", "--json")[1])["num_users"] == 400


def test_the_sets_are_listed_without_pooch(monkeypatch, baco):
    monkeypatch.setitem(sys.modules, "pooch", None)
    monkeypatch.delenv("BACO_DATA_HOME", raising=False)
    code, stdout, stderr = baco("data", "fetch")
    assert code == 0
    assert re.search(r"gowalla +\? ", stdout)
    assert "pip install 'baco_gpu[data]'" in stderr
    assert json.loads(baco("data", "fetch", "--json")[1])["gowalla"]["fetched"] is None


def test_mistakes_and_failures_end_in_one_line(server, baco):
    code, stdout, stderr = baco("data", "fetch", "netflix")
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    server.cuts = [10]
    code, stdout, stderr = baco("data", "fetch", "gowalla", "-q")
    assert (code, stdout) == (1, "")
    assert "the same command goes on where it ended" in stderr.splitlines()[-1]
