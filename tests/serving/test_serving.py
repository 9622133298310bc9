"""Served tables give what the modules give, and need neither PyTorch nor a module."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from baco_gpu import (
    CodebookEmbedding,
    CodebookEmbeddingBag,
    QuantizedEmbedding,
    ResidualCodebookEmbedding,
    export_codebook,
)
from baco_gpu.errors import InputError, MissingExtraError
from baco_gpu.serving import ServedTable, load_codebook, load_codebooks, onnx_graph, save_codebooks
from baco_gpu.tables.export import export_onnx, served_table
from baco_gpu.tables.mixed import MixedCodebookEmbedding
from baco_gpu.tables.product import ProductCodebookEmbedding
from baco_gpu.tables.trellis import TrellisEmbedding

pytestmark = pytest.mark.heavy("compiles and exports modules")

CODES = np.array([0, 3, 3, 7, 0, 9, 7, 7])
SECONDARY = np.array([3, -1, 0, 9, 9, -1, 0, 3])
IDS = np.array([[0, 1, 2], [7, 2, 5]])


def modules():
    torch.manual_seed(0)
    residual = ResidualCodebookEmbedding(CODES, 5, SECONDARY, residual_dim=2, residual_ids=[1, 4, 7], padding_idx=2)
    torch.nn.init.normal_(residual.residual[:-1].detach())
    mixed = MixedCodebookEmbedding(CODES, 5, np.column_stack((SECONDARY, CODES, CODES[::-1])), own_share=0.25)
    product = ProductCodebookEmbedding(CODES, 5, SECONDARY, subspaces=1, padding_idx=4, dtype=torch.float64)
    many = ProductCodebookEmbedding(CODES, 200, subspaces=70, centroids=300, code_bits=16)
    long = ProductCodebookEmbedding(CODES, 5, SECONDARY, subspaces=2, centroids=4, lengths=True)
    trellis = TrellisEmbedding(CODES, 5, SECONDARY, widths=[2], state_bits=8)
    graded = TrellisEmbedding(np.arange(8), 5, widths=[1, 2], grades=np.arange(8) % 2, padding_idx=4)
    for module in (product, many, long, trellis, graded):
        module.encode()
    return {
        "plain": CodebookEmbedding(CODES, 5),
        "secondary": CodebookEmbedding(CODES, 5, SECONDARY),
        "padding": CodebookEmbedding(CODES, 5, SECONDARY, padding_idx=-6),
        "double": CodebookEmbedding(CODES, 5, SECONDARY, dtype=torch.float64),
        "half": CodebookEmbedding(CODES, 5, SECONDARY, dtype=torch.float16),
        "bag": CodebookEmbeddingBag(CODES, 5, SECONDARY),
        "quantized": CodebookEmbedding(CODES, 5, SECONDARY, padding_idx=4, bits=8),
        "packed": CodebookEmbedding(CODES, 5, SECONDARY, padding_idx=4, bits=4),
        "packed alone": CodebookEmbedding(CODES, 5, bits=3),
        "own rows": CodebookEmbedding(np.arange(8), 5, padding_idx=2),
        "packed own rows": CodebookEmbedding(2 * np.arange(8), 5, bits=3),
        "packed mixed": MixedCodebookEmbedding(CODES, 5, np.column_stack((SECONDARY, CODES)), own_share=0.5, bits=4),
        "product": ProductCodebookEmbedding.from_pretrained(torch.randn(8, 5), np.arange(8), subspaces=3, centroids=3),
        "product mean": product,
        "product of two bytes": many,
        "product with lengths": long,
        "trellis": trellis,
        "trellis of grades": graded,
        "residual": residual,
        "mixed": mixed,
        "low precision": QuantizedEmbedding(8, 5, padding_idx=2, bits=6),
        "sixteen bits": QuantizedEmbedding(8, 5, padding_idx=2, bits=16),
    }


EXACT = ["plain", "secondary", "padding", "double", "half", "bag", "quantized", "packed", "packed alone"]
EXACT += ["own rows", "packed own rows", "product", "product mean", "product of two bytes", "product with lengths"]
EXACT += ["low precision", "sixteen bits", "trellis", "trellis of grades"]


@pytest.mark.parametrize("name", EXACT)
def test_a_served_table_gives_the_bits_of_the_module(name, tmp_path):
    module = modules()[name]
    served = load_codebook(export_codebook(module, tmp_path / "table.safetensors"))
    wanted = module.weight.detach().numpy()
    assert served.lookup(np.arange(8)).tobytes() == wanted.tobytes()
    assert served.lookup(np.arange(8)).dtype == wanted.dtype
    assert np.array_equal(served.lookup(IDS), wanted[IDS])
    assert served.lookup(3).shape == wanted.shape[1:]
    assert served.lookup([]).shape == (0, *wanted.shape[1:])


def test_residuals_are_served_too(tmp_path):
    module = modules()["residual"]
    served = load_codebook(export_codebook(module, tmp_path / "table.safetensors"))
    wanted = module(torch.as_tensor(IDS)).detach().numpy()
    np.testing.assert_allclose(served.lookup(IDS), wanted, rtol=1e-6, atol=1e-7)
    own = served.lookup(np.arange(8)) - load_codebook_of_shared(module)
    assert sorted(np.flatnonzero(np.abs(own).max(axis=1) > 1e-3)) == [1, 4, 7]
    assert not served.lookup(2).any()


def load_codebook_of_shared(module):
    """The table without its residuals."""
    whole = served_table(module)
    return ServedTable(whole.codebook, whole.codes, whole.secondary, whole.padding_idx).lookup(np.arange(8))


def test_rows_that_are_mixed_are_served_too(tmp_path):
    module = modules()["mixed"]
    served = load_codebook(export_codebook(module, tmp_path / "table.safetensors"))
    np.testing.assert_allclose(served.lookup(IDS), module(torch.as_tensor(IDS)).detach(), rtol=1e-6, atol=1e-7)
    assert served.lookup(3).shape == (5,)
    assert served.lookup([]).shape == (0, 5)


def test_a_codebook_of_two_tables_is_stored_once(tmp_path):
    users, items = modules()["mixed"], modules()["plain"]
    items.codebook = users.codebook
    path = export_codebook({"users": users, "items": items}, tmp_path / "both.safetensors")
    with safe_open(path, framework="numpy") as file:
        assert sorted(file.keys()) == ["items.codes", "users.codebook", "users.codes", "users.secondary"]
    for name, module in (("users", users), ("items", items)):
        table = load_codebook(path, name).lookup(np.arange(8))
        np.testing.assert_allclose(table, module.weight.detach(), rtol=1e-6, atol=1e-7)


def test_product_codes_are_served_from_bytes(tmp_path):
    module = modules()["product"]
    served = load_codebook(export_codebook(module, tmp_path / "table.safetensors"))
    assert (served.codebook.dtype, served.codebook.shape) == (np.uint8, (8, 3))
    assert served.embedding_dim == 5
    assert served.nbytes == module.nbytes == 8 * 3 + 3 * 2 * 4
    with pytest.raises(InputError, match="must be encoded to be served: call `encode` first"):
        served_table(ProductCodebookEmbedding(CODES, 5, subspaces=3))


def test_brain_floats_are_served_in_single_precision():
    module = CodebookEmbedding(CODES, 5, dtype=torch.bfloat16)
    assert served_table(module).lookup(IDS).dtype == np.float32
    assert np.array_equal(served_table(module).lookup(IDS), module(torch.as_tensor(IDS)).detach().float().numpy())


def test_quantized_rows_are_served_from_bytes(tmp_path):
    module = modules()["quantized"]
    served = load_codebook(export_codebook(module, tmp_path / "table.safetensors"))
    assert served.codebook.dtype == np.uint8
    assert served.codebook.shape == (4, 5)
    assert served.nbytes == module.nbytes


@pytest.mark.parametrize(("name", "width"), [("packed", 3), ("packed alone", 2)])
def test_rows_of_few_bits_are_served_packed(name, width, tmp_path):
    module = modules()[name]
    served = load_codebook(export_codebook(module, tmp_path / "table.safetensors"))
    assert served.codebook.dtype == np.uint8
    assert served.codebook.shape == (4, width)
    assert served.embedding_dim == 5
    assert served.nbytes == module.nbytes


@pytest.mark.parametrize("name", ["own rows", "packed own rows"])
def test_no_codes_are_stored_where_every_id_has_its_own_row(name, tmp_path):
    module = modules()[name]
    served = load_codebook(export_codebook(module, tmp_path / "table.safetensors"))
    assert served.codes is None
    assert served.num_embeddings == 8
    assert served.nbytes == module.nbytes == 8 * (5 * 4 if name == "own rows" else 2 + 1)
    with pytest.raises(InputError, match="ids must be from 0 to 7, got 8"):
        served.lookup([8])
    grown = module.with_new_ids([0])
    assert np.array_equal(served_table(grown).codes, [*range(8), 0])
    assert grown.nbytes == module.nbytes + 9 * 4


def test_several_tables_share_a_file(tmp_path):
    tables = {"users": modules()["secondary"], "items": modules()["padding"]}
    path = export_codebook(tables, tmp_path / "tables.safetensors")
    loaded = load_codebooks(path)
    assert set(loaded) == {"users", "items"}
    assert loaded["items"].padding_idx == 2
    assert loaded["users"].nbytes == tables["users"].nbytes
    assert np.array_equal(load_codebook(path, "users").lookup(IDS), loaded["users"].lookup(IDS))
    for name in (None, "shops"):
        with pytest.raises(InputError, match="name must be one of 'users', 'items', got"):
            load_codebook(path, name)


def test_the_loader_runs_without_pytorch(tmp_path):
    path = export_codebook(modules()["secondary"], tmp_path / "table.safetensors")
    code = (
        "import sys\n"
        "from baco_gpu.serving import load_codebook\n"
        f"print(load_codebook({str(path)!r}).lookup([[0, 1], [2, 7]]).shape)\n"
        "heavy = {'torch', 'numba', 'scipy', 'pandas', 'sklearn', 'pyarrow', 'onnx'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.splitlines() == ["(2, 2, 5)", "[]"]


def test_ids_that_no_table_has_are_refused():
    table = served_table(modules()["plain"])
    for ids, message in (([8], "ids must be from 0 to 7, got 8"), ([-1], "got -1"), ([0.5], "integers, got float64")):
        with pytest.raises(InputError, match=message):
            table.lookup(ids)


def test_what_is_no_table_is_not_exported(tmp_path):
    with pytest.raises(InputError, match="must be one that can be served, such as a CodebookEmbedding, got Embedding"):
        export_codebook({"users": torch.nn.Embedding(3, 2)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="at least one"):
        export_codebook({}, tmp_path / "x.safetensors")


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "table.safetensors"
    with pytest.raises(InputError, match="no such file; expected one written by export_codebook"):
        load_codebook(path)
    save_file({"x": np.zeros(2)}, path)
    with pytest.raises(InputError, match="expected codebooks exported by baco_gpu"):
        load_codebook(path)
    table = served_table(modules()["plain"])
    metadata = {"format": "baco_gpu.codebook", "format_version": "4", "tables": '{"t": {"padding_idx": null}}'}
    save_file({"t.codes": table.codes}, path, metadata)
    with pytest.raises(InputError, match="damaged codebooks"):
        load_codebook(path)
    save_file({"t.codebook": table.codebook, "t.codes": table.codes + 4}, path, metadata)
    with pytest.raises(InputError, match=r"codes must be rows from 0 to 3, got 4\.\.7"):
        load_codebook(path)


@pytest.mark.parametrize("name", ["mixed", "residual", "packed", "product with lengths"])
def test_every_changed_bit_of_an_export_is_noticed(name, tmp_path):
    path = export_codebook({"users": modules()[name], "items": modules()["plain"]}, tmp_path / "table.safetensors")
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(InputError):
            load_codebooks(path)


def test_an_export_from_before_there_was_a_checksum_loads(tmp_path):
    path = export_codebook(modules()["residual"], tmp_path / "table.safetensors")
    wanted = load_codebook(path)
    with safe_open(path, framework="numpy") as file:
        metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert len(metadata.pop("sha256")) == 64
    save_file(tensors, path, metadata)
    assert np.array_equal(load_codebook(path).lookup(IDS), wanted.lookup(IDS))
    save_file(tensors, path, {**metadata, "sha257": "0"})
    with pytest.raises(InputError, match="it has a 'sha257'"):
        load_codebook(path)
    save_file({**tensors, "table.codec": tensors["table.codes"]}, path, metadata)
    with pytest.raises(InputError, match="FloatRows must be given codebook, got codebook, codec"):
        load_codebook(path)
    save_file({**tensors, "tables.codes": tensors["table.codes"]}, path, metadata)
    with pytest.raises(InputError, match=r"'tables\.codes' is of no table"):
        load_codebook(path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("mixed", {"own_share": 2.0}, "own_share must be a finite number of at least 0 and at most 1, got 2"),
        ("mixed", {"own_share": float("nan")}, "own_share must be a finite number .*, got nan"),
        ("mixed", {"own_share": "0.5"}, "own_share must be a finite number"),
        ("mixed", {"secondary": np.zeros((8, 0), np.int32)}, "secondary must have at least one row to mix in"),
        ("mixed", {"secondary": None}, "secondary must have at least one row to mix in"),
        ("padding", {"padding_idx": 2.0}, r"padding_idx must be an integer at least 0, got 2\.0"),
        ("padding", {"padding_idx": True}, "padding_idx must be an integer at least 0, got True"),
        ("padding", {"padding_idx": -1}, "padding_idx must be an integer at least 0, got -1"),
        ("packed", {"dim": 5.0}, r"dim must be an integer at least 1, got 5\.0"),
        ("packed", {"dim": 0}, "dim must be an integer at least 1, got 0"),
        ("packed", {"bits": "4"}, "bits must be an integer at least 2, got '4'"),
        ("plain", {"codebook": np.full((10, 5), np.nan, np.float32)}, "codebook must hold finite numbers, got nan"),
        ("half", {"codebook": np.full((10, 5), np.inf, np.float16)}, "codebook must hold finite numbers, got inf"),
        ("residual", {"basis": np.full((2, 5), -np.inf, np.float32)}, "basis must hold finite numbers, got -inf"),
    ],
)
def test_facts_that_make_no_sense_are_refused(name, change, message):
    table = served_table(modules()[name])
    with pytest.raises(InputError, match=message):
        ServedTable(**{**table.arrays(), **table.facts(), **change})


def test_arrays_that_do_not_fit_are_refused(tmp_path):
    table = served_table(modules()["residual"])
    parts = {**table.arrays(), "padding_idx": 2}
    for change, message in (
        ({"codebook": np.zeros((4, 5), int)}, "codebook must be a"),
        ({"scales": np.ones((4, 1), np.uint8)}, "PackedRows must be given codebook, scales, bits, dim, got codebook, "),
        ({"basis": None}, "must be given together"),
        ({"basis": np.zeros((3, 5), np.float32)}, r"basis must have shape \(2, 5\)"),
        ({"secondary": CODES}, "secondary must be int32"),
        ({"secondary": np.zeros((8, 2), np.int32)}, r"secondary must be int32 of shape \(8,\)"),
        ({"own_share": 0.5}, r"secondary must be int32 of shape \(8, rows\), got int32 of shape \(8,\)"),
        ({"padding_idx": 8}, "padding_idx must be from 0 to 7, got 8"),
    ):
        with pytest.raises(InputError, match=message):
            ServedTable(**{**parts, **change})
    packed = served_table(modules()["packed"])
    parts = {**packed.arrays(), "bits": 4, "dim": 5}
    for change, message in (
        ({"bits": None, "dim": None}, "must be given codebook, scales, bits, dim, got codebook, scales$"),
        ({"dim": None}, "must be given codebook, scales, bits, dim, got codebook, scales, bits$"),
        ({"scales": None}, "must be given codebook, scales, bits, dim, got codebook, bits, dim$"),
        ({"scales": None, "bits": None, "dim": None}, "integers with scales or centroids, got uint8 of shape"),
        ({"codebook": packed.codebook.astype(np.float32)}, "codebook must be a uint8 matrix, got float32"),
        ({"scales": packed.scales.astype(np.float32)}, "scales must be a uint8 matrix, got float32"),
        ({"scales": packed.scales[1:]}, r"scales must have shape \(4, 1\), got \(3, 1\)"),
        ({"bits": 9}, "bits must be 16, or from 8 to 2, got 9"),
        ({"dim": 4}, "codebook must have 2 bytes a row for 4 integers of 4 bits, got 3"),
    ):
        with pytest.raises(InputError, match=message):
            ServedTable(**{**parts, **change})
    coded = served_table(modules()["product"])
    parts = {**coded.arrays(), "dim": 5}
    for change, message in (
        (
            {"dim": None},
            r"must be given codebook, centroids, dim \(and may be given scales\), got codebook, centroids$",
        ),
        ({"bits": 4}, "ProductRows must be given .*, got codebook, centroids, dim, bits$"),
        ({"scales": np.zeros((7, 1), np.uint8)}, r"scales must have shape \(8, 1\), got \(7, 1\)"),
        ({"scales": np.zeros((8, 1), np.float32)}, "scales must be a uint8 matrix, got float32"),
        ({"dim": 3}, "centroids must have a width of which 3 make up 3 dimensions, got 2"),
        ({"dim": 7}, "centroids must have a width of which 3 make up 7 dimensions, got 2"),
        ({"codebook": coded.codebook | 12}, r"codebook must be from 0 to 11, got up to 1\d"),
        ({"centroids": coded.centroids.repeat(90, 0)}, "centroids must be 1 to 256 for uint8, got 270"),
        ({"centroids": coded.centroids[:0]}, "centroids must be 1 to 256 for uint8, got 0"),
        ({"codebook": coded.codebook.astype(np.int16)}, "codebook must be a uint8 matrix, got int16"),
        ({"codebook": coded.codebook[:, :0]}, "centroids must have a width of which 0 make up 5 dimensions, got 2"),
        ({"centroids": coded.centroids[0]}, "centroids must be a float32 matrix, got float32 of shape"),
    ):
        with pytest.raises(InputError, match=message):
            ServedTable(**{**parts, **change})
    with pytest.raises(InputError, match="folder"):
        save_codebooks({"t": table}, tmp_path)


@pytest.mark.parametrize(
    "runtime", ["reference", pytest.param("onnxruntime", marks=pytest.mark.nightly("needs ONNX Runtime"))]
)
@pytest.mark.parametrize("name", [*EXACT, "residual", "mixed", "packed mixed"])
def test_an_onnx_model_gives_what_the_table_gives(name, runtime, tmp_path):
    module = modules()[name]
    path = export_onnx(module, tmp_path / "table.onnx")
    ids = np.array([0, 1, 2, 7, 2, 5])
    if runtime == "reference":
        from onnx.reference import ReferenceEvaluator

        (out,) = ReferenceEvaluator(str(path)).run(None, {"ids": ids})
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (out,) = session.run(None, {"ids": ids})
    wanted = served_table(module).lookup(ids)
    assert out.dtype == wanted.dtype
    if name not in EXACT:
        np.testing.assert_allclose(out, wanted, rtol=1e-6, atol=1e-7)
    else:
        assert np.array_equal(out, wanted)


def test_a_table_that_no_graph_of_onnx_holds_is_refused(monkeypatch, tmp_path):
    table = served_table(modules()["plain"])
    monkeypatch.setattr(onnx_graph, "_MOST_BYTES", table.nbytes)
    onnx_graph.save_onnx(table, tmp_path / "whole.onnx")
    monkeypatch.setattr(onnx_graph, "_MOST_BYTES", table.nbytes - 1)
    with pytest.raises(
        InputError, match=rf"at most {table.nbytes - 1:,} bytes in a graph of ONNX, got {table.nbytes:,}"
    ):
        onnx_graph.save_onnx(table, tmp_path / "table.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["whole.onnx"]


def test_without_the_extra_onnx_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"baco_gpu\[onnx\]"):
        export_onnx(modules()["plain"], tmp_path / "table.onnx")
    assert not list(tmp_path.iterdir())
