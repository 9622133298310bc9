"""The file of a result: what goes in comes out, and anything else is refused in one line."""

from __future__ import annotations

import errno
import json
import os
import signal
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import safetensors
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from baco_gpu import BalancedCoclustering, BipartiteGraph, CoclusteringResult
from baco_gpu.clustering import result_file
from baco_gpu.clustering.result import Assignment
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.errors import InputError
from baco_gpu.tensor_file import checksum, save_tensors
from graphs import random_graph


def named_graph(user_ids=None, item_ids=None, shape=(30, 20, 90)):
    graph = random_graph(*shape, seed=4)
    users, items = graph.to_scipy().nonzero()
    return BipartiteGraph.from_edges(
        users,
        items,
        num_users=shape[0],
        num_items=shape[1],
        user_vocabulary=None if user_ids is None else Vocabulary(user_ids),
        item_vocabulary=None if item_ids is None else Vocabulary(item_ids),
    )


def solve(graph=None, **parameters):
    graph = named_graph([f"user {k} é" for k in range(30)], [k * k - 50 for k in range(20)]) if graph is None else graph
    return BalancedCoclustering(**{"budget": 20, "secondary": "both", **parameters}).fit(graph).result_


@pytest.fixture(scope="module")
def result():
    return solve()


@pytest.fixture(scope="module")
def saved(result, tmp_path_factory):
    return result.save(tmp_path_factory.mktemp("saved") / "result.safetensors").read_bytes()


def test_equal_results_are_equal_bytes(result, saved, tmp_path):
    assert all(result.save(tmp_path / f"{copy}.safetensors").read_bytes() == saved for copy in range(5))


def test_metadata_of_any_characters_are_sorted_and_kept(tmp_path):
    metadata = {name: f'{name} "\\\n\x01\x7f/é\u2028🂡' for name in ("z", "b\t", "é", "a", "__metadata__")}
    tensors = {"b": np.arange(3), "a": np.ones((2, 2), np.float32)}
    file = save_tensors(save_file, tensors, tmp_path / "file.safetensors", metadata)
    with safetensors.safe_open(file, framework="numpy") as opened:
        assert opened.metadata() == metadata
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(opened.get_tensor(name), tensor)
    header = file.read_bytes()[8:]
    assert list(json.JSONDecoder().raw_decode(header.decode(errors="replace"))[0]["__metadata__"]) == sorted(metadata)


def refusal(path):
    with pytest.raises(InputError) as caught:
        CoclusteringResult.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def same(first, second):
    if first is None or second is None:
        return first is second
    return first.dtype == second.dtype and np.array_equal(first, second)


ROUND_TRIPS = {
    "strings and integers": {},
    "no raw ids": {"graph": named_graph()},
    "raw ids of one side": {"graph": named_graph(item_ids=range(20))},
    "empty strings": {"graph": named_graph(["", *"abcdefghijklmnopqrstuvwxyzABC"])},
    "no secondary": {"secondary": "none"},
    "secondary items": {"secondary": "items"},
    "published solver": {"solver": "paper", "budget": None, "gamma": 0.3},
    "no budget": {"budget": None},
    "NumPy parameters": {"budget": np.int64(20), "random_state": np.uint8(3), "gamma": np.float32(1.5)},
    "a fraction": {"budget": Fraction(1, 2)},
    "no edges": {"graph": BipartiteGraph.from_edges([], [], num_users=3, num_items=2)},
    "one side": {"graph": BipartiteGraph.from_edges([], [], num_users=3)},
    "nothing": {"graph": BipartiteGraph.from_edges([], [])},
}


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_what_goes_in_comes_out(tmp_path, name):
    result = solve(**ROUND_TRIPS[name])
    path = tmp_path / "result.safetensors"
    assert result.save(path) == path
    loaded = CoclusteringResult.load(path)
    for side, copy in ((result.users, loaded.users), (result.items, loaded.items)):
        assert same(side.labels, copy.labels)
        assert same(side.secondary, copy.secondary)
        assert side.vocabulary == copy.vocabulary
    assert same(result.objective_trace, loaded.objective_trace)
    assert all(map(same, result.volumes, loaded.volumes))
    assert same(result.partners, loaded.partners)
    assert loaded.settings == result.settings
    assert loaded.seconds == result.seconds
    assert loaded.summary() == result.summary()
    assert (loaded.graph_checksum, loaded.version) == (result.graph_checksum, result.version)


def test_strings_are_taken_as_paths(result, tmp_path):
    path = tmp_path / "no extension"
    result.save(str(path))
    assert CoclusteringResult.load(str(path)).labels_sha256 == result.labels_sha256


def test_the_file_is_as_readable_as_any_new_file(result, tmp_path):
    (tmp_path / "ordinary").touch()
    path = result.save(tmp_path / "result")
    assert path.stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_other_programs_can_read_it(result, saved, tmp_path):
    (tmp_path / "file").write_bytes(saved)
    tensors = load_file(tmp_path / "file")
    assert np.array_equal(tensors["users.labels"], result.users.labels)
    assert np.array_equal(tensors["items.secondary"], result.items.secondary)
    with safetensors.safe_open(tmp_path / "file", framework="numpy") as file:
        metadata = file.metadata()
    assert metadata["format"] == "baco_gpu.coclustering"
    assert json.loads(metadata["result"])["settings"]["budget"] == 20


class TestRefusals:
    def test_missing(self, tmp_path):
        assert "no such file" in refusal(tmp_path / "absent.safetensors")
        assert "no such file" in refusal(tmp_path)

    def test_empty(self, tmp_path):
        (tmp_path / "file").touch()
        assert "not a readable safetensors file" in refusal(tmp_path / "file")

    @pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
    def test_truncated(self, tmp_path, saved, share):
        (tmp_path / "file").write_bytes(saved[: int(len(saved) * share)])
        refusal(tmp_path / "file")

    def test_by_a_single_byte(self, tmp_path, saved):
        for damaged in (saved[:-1], saved + b"\0"):
            (tmp_path / "file").write_bytes(damaged)
            refusal(tmp_path / "file")

    @given(st.binary(max_size=300))
    def test_random_bytes(self, tmp_path_factory, data):
        path = tmp_path_factory.getbasetemp() / "random"
        path.write_bytes(data)
        refusal(path)

    @pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"format": "baco_gpu.codebook"}])
    def test_foreign_safetensors(self, tmp_path, metadata):
        save_file({"weight": np.zeros(3)}, tmp_path / "file", metadata)
        ours = metadata is not None and "baco_gpu" in metadata["format"]
        assert f"got {'tables to serve' if ours else 'another safetensors file'}" in refusal(tmp_path / "file")

    @pytest.mark.parametrize("version", [0, 2, 10])
    def test_other_format_versions(self, tmp_path, result, monkeypatch, version):
        monkeypatch.setattr(result_file, "FORMAT_VERSION", version)
        result.save(tmp_path / "file")
        monkeypatch.undo()
        assert f"expected format version 1, got {version}" in refusal(tmp_path / "file")

    @given(st.data())
    def test_any_flipped_bit(self, tmp_path_factory, saved, data):
        place, bit = data.draw(st.integers(0, len(saved) - 1)), data.draw(st.integers(0, 7))
        damaged = bytearray(saved)
        damaged[place] ^= 1 << bit
        path = tmp_path_factory.getbasetemp() / "flipped"
        path.write_bytes(damaged)
        refusal(path)

    def test_a_flipped_label(self, tmp_path, result, saved):
        labels = result.users.labels.tobytes()
        start = saved.index(labels)
        damaged = bytearray(saved)
        damaged[start] ^= 1  # still a label in range
        (tmp_path / "file").write_bytes(damaged)
        assert "damaged co-clustering (its contents do not match their checksum)" in refusal(tmp_path / "file")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"labels": np.full(30, 10**6, np.int32)}, "users.labels holds labels outside 0"),
            ({"labels": np.full(30, -1, np.int32)}, "users.labels holds labels outside 0"),
            ({"secondary": np.full(30, -2, np.int32)}, "users.secondary holds labels outside -1"),
            ({"secondary": np.zeros(29, np.int32)}, "users.secondary has dtype int32 and shape"),
            ({"labels": np.zeros(30)}, "users.labels has dtype float64"),
            ({"labels": np.zeros((30, 1), np.int32)}, "users.labels has dtype int32 and shape"),
            ({"vocabulary": Vocabulary([1, 2, 3])}, "users.vocabulary has 3 ids for 30 labels"),
        ],
    )
    def test_labels_that_make_no_sense(self, tmp_path, result, change, message):
        parts = {"labels": result.users.labels, "secondary": result.users.secondary, "vocabulary": None}
        replace(result, users=Assignment(**{**parts, **change})).save(tmp_path / "file")
        assert message in refusal(tmp_path / "file")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"gamma": np.nan}, "gamma must be a finite number of at least 0, got nan"),
            ({"gamma": -1.0}, "gamma must be a finite number of at least 0, got -1"),
            ({"gamma": "1"}, "gamma must be a finite number"),
            ({"objective": np.inf}, "objective must be a finite number"),
            ({"num_edges": -5}, "num_edges must be an integer at least 0, got -5"),
            ({"num_edges": 3.0}, "num_edges must be an integer at least 0, got 3.0"),
            ({"embedding_dim": 0}, "embedding_dim must be an integer at least 1, got 0"),
            ({"value_bytes": 2**70 * -1}, "value_bytes must be an integer at least 1"),
            ({"seed": None}, "seed must be an integer at least 0, got None"),
            ({"settings": []}, "settings is a list"),
            ({"version": 99}, "version is a int"),
            ({"graph_checksum": None}, "graph_checksum is a NoneType"),
            ({"seconds": {"solve": np.nan}}, "seconds of solve must be a finite number"),
            ({"scale": ("degree", 1.0, 1.0)}, "TypeError"),
            ({"scale": ("degree", 1.0, np.nan, 1.0)}, "scale must be a finite number"),
            ({"scale": (7, 1.0, 1.0, 1.0)}, "the scheme of its weights is a int"),
            ({"objective_trace": np.array([1.0, np.nan])}, "objective_trace holds what is no finite number"),
            ({"objective_trace": np.array([1, 2])}, "objective_trace has dtype int64"),
        ],
    )
    def test_figures_that_make_no_sense(self, tmp_path, result, change, message):
        replace(result, **change).save(tmp_path / "file")
        assert message in refusal(tmp_path / "file")

    def test_volumes_and_degrees_that_make_no_sense(self, tmp_path, result):
        replace(result, volumes=(-1 - result.volumes[0], result.volumes[1])).save(tmp_path / "file")
        assert "users.volumes holds what is no finite number of at least 0" in refusal(tmp_path / "file")
        replace(result, items=replace(result.items, degrees=-1 - result.items.degrees)).save(tmp_path / "file")
        assert "items.degrees holds -" in refusal(tmp_path / "file")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda partners: partners[1:], "partners has dtype int32 and shape"),
            (lambda partners: partners.astype(float), "partners has dtype float64"),
            (lambda partners: np.full_like(partners, 10**6), "partners holds labels outside -1"),
            (lambda partners: partners - 1, "partners holds labels outside -1"),
        ],
    )
    def test_partners_that_make_no_sense(self, tmp_path, result, change, message):
        replace(result, partners=change(result.partners)).save(tmp_path / "file")
        assert message in refusal(tmp_path / "file")

    def test_volumes_of_different_lengths(self, tmp_path, result):
        replace(result, volumes=(result.volumes[0], np.zeros(10**4))).save(tmp_path / "file")
        assert "volumes of shapes" in refusal(tmp_path / "file")

    @pytest.mark.parametrize("part", ["objective_trace", "users.labels", "items.volumes", "users.vocabulary.offsets"])
    def test_missing_parts(self, tmp_path, result, monkeypatch, part):
        def save_without(tensors, path, metadata):
            del tensors[part]
            metadata["sha256"] = checksum(tensors, metadata["result"])
            save_file(tensors, path, metadata)

        monkeypatch.setattr(result_file, "save_file", save_without)
        result.save(tmp_path / "file")
        assert "damaged co-clustering" in refusal(tmp_path / "file")

    @pytest.mark.parametrize("scalars", ["", "{}", "[]", "nonsense", "null", '{"gamma": 1}'])
    def test_scalars_that_make_no_sense(self, tmp_path, result, monkeypatch, scalars):
        def save_with(tensors, path, metadata):
            metadata |= {"result": scalars, "sha256": checksum(tensors, scalars)}
            save_file(tensors, path, metadata)

        monkeypatch.setattr(result_file, "save_file", save_with)
        result.save(tmp_path / "file")
        assert "damaged co-clustering" in refusal(tmp_path / "file")


class TestFailedSaves:
    @pytest.mark.parametrize(
        "error",
        [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt(), safetensors.SafetensorError("io")],
    )
    @pytest.mark.parametrize("after", [0, 100])
    def test_leave_the_old_file_and_nothing_else(self, result, saved, tmp_path, monkeypatch, error, after):
        path = tmp_path / "result.safetensors"
        path.write_bytes(saved)

        def fail(tensors, temporary, metadata):
            temporary.write_bytes(saved[:after])
            raise error

        monkeypatch.setattr(result_file, "save_file", fail)
        with pytest.raises(OSError if isinstance(error, Exception) else KeyboardInterrupt):
            solve(budget=10).save(path)
        assert path.read_bytes() == saved
        assert os.listdir(tmp_path) == ["result.safetensors"]
        assert CoclusteringResult.load(path).labels_sha256 == result.labels_sha256

    def test_a_limit_of_the_operating_system(self, saved, tmp_path):
        """The writing library itself fails half way, as on a full disk."""
        resource = pytest.importorskip("resource")
        path = tmp_path / "result.safetensors"
        path.write_bytes(saved)
        big = solve(random_graph(3000, 3000, 9000, seed=0))
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        try:
            with pytest.raises(OSError, match=r"result.safetensors: cannot be written \(.*I/O error"):
                big.save(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        assert path.read_bytes() == saved
        assert os.listdir(tmp_path) == ["result.safetensors"]

    def test_a_missing_folder_is_named(self, result, tmp_path):
        with pytest.raises(InputError, match=r"the folder .*absent does not exist"):
            result.save(tmp_path / "absent" / "result.safetensors")

    def test_a_folder_is_no_file(self, result, tmp_path):
        with pytest.raises(InputError, match="got a folder"):
            result.save(tmp_path)

    def test_what_json_cannot_hold_is_refused_before_writing(self, result, tmp_path):
        with pytest.raises(TypeError, match="cannot save a set"):
            replace(result, settings={"budget": {1, 2}}).save(tmp_path / "file")
        assert not any(tmp_path.iterdir())


def test_a_file_from_before_there_was_a_scale_has_none(tmp_path, result, monkeypatch):
    def save_without(tensors, path, metadata):
        scalars = json.loads(metadata["result"])
        del scalars["scale"]
        text = json.dumps(scalars)
        metadata |= {"result": text, "sha256": checksum(tensors, text)}
        save_file(tensors, path, metadata)

    monkeypatch.setattr(result_file, "save_file", save_without)
    loaded = CoclusteringResult.load(result.save(tmp_path / "codes.safetensors"))
    assert loaded.scale is None
    assert loaded.labels_sha256 == result.labels_sha256
