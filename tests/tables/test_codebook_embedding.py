"""CodebookEmbedding in the place of nn.Embedding."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from baco_gpu.errors import InputError
from baco_gpu.tables import CodebookEmbedding

CODES = [70, 7, 700, 7, 70, 70]
SECONDARY = [7, -1, 70, 700, 70, -1]
ROW_OF = {7: 0, 70: 1, 700: 2}


def expected_table(codebook, assignments=CODES, secondary=None, padding_idx=None):
    rows = []
    for index, code in enumerate(assignments):
        other = code if secondary is None or secondary[index] == -1 else secondary[index]
        row = (codebook[ROW_OF[code]] + codebook[ROW_OF[other]]) / 2
        rows.append(torch.zeros_like(row) if index == padding_idx else row)
    return torch.stack(rows)


@pytest.mark.parametrize("secondary", [None, SECONDARY])
@pytest.mark.parametrize("padding_idx", [None, 2])
@pytest.mark.parametrize("sparse", [False, True])
def test_forward_and_weight_are_the_expanded_table(secondary, padding_idx, sparse):
    module = CodebookEmbedding(CODES, 4, secondary, padding_idx=padding_idx, sparse=sparse)
    table = expected_table(module.codebook.detach(), secondary=secondary, padding_idx=padding_idx)
    assert (module.num_embeddings, module.embedding_dim, module.num_rows) == (6, 4, 3)
    assert module.labels.tolist() == [7, 70, 700]
    torch.testing.assert_close(module.weight.detach(), table, rtol=0, atol=0)
    for indices in (torch.tensor(5), torch.arange(6, dtype=torch.int32), torch.tensor([[[0, 5], [2, 2]]])):
        assert torch.equal(module(indices), table[indices])
    assert module(torch.empty((0, 3), dtype=torch.int64)).shape == (0, 3, 4)


@pytest.mark.parametrize("kind", [list, np.array, lambda x: np.array(x, np.int16), torch.tensor])
def test_labels_come_as_lists_arrays_or_tensors(kind):
    module = CodebookEmbedding(kind(CODES), 4, kind(SECONDARY))
    assert module.assignments.tolist() == [1, 0, 2, 0, 1, 1]
    assert module.secondary.tolist() == [0, 0, 1, 2, 1, 1]


def test_distinct_codes_are_an_embedding_in_values_gradients_and_training():
    ours, theirs = CodebookEmbedding(range(50), 8, padding_idx=-1), nn.Embedding(50, 8, padding_idx=-1)
    with torch.no_grad():
        ours.codebook.copy_(theirs.weight)
    indices = torch.randint(50, (30, 4), generator=torch.Generator().manual_seed(0))
    for module in (ours, theirs):
        optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            (module(indices).sin().sum() + module.weight[:7].cos().sum()).backward()
            optimizer.step()
    assert ours.padding_idx == theirs.padding_idx == 49
    torch.testing.assert_close(ours.weight[:49], theirs.weight[:49])
    assert not ours.weight[49].any()


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_only_the_equality_of_labels_matters(codes, random):
    secondary = [random.choice([-1, *codes]) for _ in codes]
    module = CodebookEmbedding(codes, 2, secondary)
    assert module.num_rows == len(set(codes))
    assert module.labels[module.assignments.long()].tolist() == codes
    own = [code if other == -1 else other for code, other in zip(codes, secondary, strict=True)]
    assert module.labels[module.secondary.long()].tolist() == own


def test_sparse_gradients_train_like_dense_ones():
    start = torch.randn(3, 4)
    trained = []
    for sparse in (False, True):
        module = CodebookEmbedding(CODES, 4, SECONDARY, sparse=sparse, padding_idx=0)
        with torch.no_grad():
            module.codebook.copy_(start)
        optimizer = (torch.optim.SparseAdam if sparse else torch.optim.Adam)(module.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            module(torch.arange(6)).square().sum().backward()
            assert module.codebook.grad.is_sparse == sparse
            optimizer.step()
        trained.append(module.codebook.detach())
    torch.testing.assert_close(*trained)


def test_dtype_device_and_initial_distribution():
    torch.manual_seed(0)
    module = CodebookEmbedding(range(500), 64, dtype=torch.float64, device="cpu")
    assert module.codebook.dtype == torch.float64
    assert abs(float(module.codebook.detach().mean())) < 0.02
    assert abs(float(module.codebook.detach().std()) - 1) < 0.02
    assert CodebookEmbedding(CODES, 4, device="meta").codebook.device.type == "meta"


def test_sizes_as_the_paper_counts_and_in_bytes():
    plain = CodebookEmbedding(CODES, 4)
    assert (plain.parameter_count, plain.nbytes) == (12, 12 * 4 + 6 * 4)
    double = CodebookEmbedding(CODES, 4, SECONDARY, dtype=torch.float16)
    # Three of the six secondary codes are another row than the code: the -1 and the code itself are none.
    assert (double.parameter_count, double.nbytes) == (12 + 3, 12 * 2 + 6 * 4 + 6 * 4)


def test_loaded_codes_are_checked():
    module = CodebookEmbedding(CODES, 4)
    state = module.state_dict()
    state["assignments"] = torch.full((6,), 3, dtype=torch.int32)
    with pytest.raises(RuntimeError, match=r"assignments must hold rows from 0 to 2, got 3\.\.3"):
        module.load_state_dict(state)


@pytest.mark.parametrize("weights", [None, [1.0, 2, 3, 0, 5, 0]])
def test_compressed_table_holds_weighted_means(weights):
    table = torch.randn(6, 4)
    module = CodebookEmbedding.from_pretrained(table, CODES, SECONDARY, weights, padding_idx=0)
    shares = np.ones(6) if weights is None else np.array(weights)
    for label, row in ROW_OF.items():
        # What stands in the padding row is nobody's, and in no mean.
        members = [i for i, code in enumerate(CODES) if code == label and i != module.padding_idx]
        mean = np.average(table[members].numpy(), axis=0, weights=shares[members])
        np.testing.assert_allclose(module.codebook[row].detach(), mean, rtol=1e-6)


def test_compressing_with_distinct_codes_and_expanding_changes_nothing():
    embedding = nn.Embedding(6, 4, dtype=torch.float64)
    module = CodebookEmbedding.from_pretrained(embedding, range(6))
    expanded = module.expand()
    assert isinstance(expanded, nn.Embedding)
    assert torch.equal(expanded.weight, embedding.weight)
    assert expanded.weight.requires_grad
    with torch.no_grad():
        expanded.weight.zero_()
    assert module.codebook.any()


def test_cluster_without_weight_gets_its_plain_mean():
    table = torch.tensor([[1.0], [3.0], [10.0]])
    module = CodebookEmbedding.from_pretrained(table, [0, 0, 1], weights=[0, 0, 2])
    assert module.codebook.tolist() == [[2.0], [10.0]]


@pytest.mark.parametrize("first", [None, SECONDARY])
@pytest.mark.parametrize("second", [None, [70, -1]])
def test_new_ids_get_rows_that_are_there(first, second):
    module = CodebookEmbedding(CODES, 4, first, padding_idx=3)
    grown = module.with_new_ids([700, 7], second)
    assert grown.num_embeddings == 8
    assert grown.codebook is module.codebook
    assert torch.equal(grown.weight[:6], module.weight)
    assert torch.equal(grown.weight[6:], expected_table(module.codebook, [700, 7], second))
    with pytest.raises(InputError, match="assignments must be labels of the codebook, got 8 at position 1"):
        module.with_new_ids([7, 8])
    with pytest.raises(InputError, match="secondary must be labels"):
        module.with_new_ids([7], [8])


def test_compiled_and_autocast_modules_give_the_same():
    module = CodebookEmbedding(CODES, 4, SECONDARY, padding_idx=1)
    indices = torch.tensor([[0, 1], [2, 5]])
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(indices), module(indices))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = module(indices)
    assert out.dtype == torch.float32
    assert torch.equal(out, module(indices))


def test_printed_form():
    module = CodebookEmbedding(CODES, 4, SECONDARY, padding_idx=1, sparse=True)
    assert repr(module) == "CodebookEmbedding(6, 4, num_rows=3, secondary=True, padding_idx=1, sparse=True)"


def test_empty_table():
    module = CodebookEmbedding([], 4)
    assert (module.num_embeddings, module.num_rows, module.weight.shape) == (0, 0, (0, 4))
    with pytest.raises(InputError, match="got 0"):
        module(torch.tensor([0]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.0, 1.0], 4), "assignments must be integers, got float64"),
        (([True, False], 4), "assignments must be integers, got bool"),
        (([0, -1], 4), "assignments must be at least 0, got -1"),
        (([[0, 1]], 4), r"assignments must have one dimension, got shape \(1, 2\)"),
        ((np.array([2**63], np.uint64), 4), "assignments must be below 2\\^63"),
        (([0, 1], 0), "embedding_dim must be an integer at least 1, got 0"),
        (([0, 1], 2.5), "embedding_dim must be an integer"),
        (([0, 1], 4, [0]), r"secondary must be as long as assignments \(2\), got 1"),
        (([0, 1], 4, [0, 2]), "secondary must be labels of the codebook, got 2 at position 1"),
        (([0, 1], 4, [0, -2]), "secondary must be at least -1, got -2"),
        (([0, 1], 4, [0, np.nan]), "secondary must be integers"),
    ],
)
def test_bad_construction_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        CodebookEmbedding(*arguments)


@pytest.mark.parametrize("padding_idx", [6, -7, 1.0])
def test_bad_padding_index_is_refused(padding_idx):
    with pytest.raises(InputError, match="padding_idx must be an integer from -6 to 5"):
        CodebookEmbedding(CODES, 4, padding_idx=padding_idx)


def test_bad_dtype_is_refused():
    with pytest.raises(InputError, match="floating-point"):
        CodebookEmbedding(CODES, 4, dtype=torch.int64)


@pytest.mark.parametrize("indices", [torch.tensor([0.0]), torch.tensor([True]), [0, 1]])
def test_bad_indices_are_refused(indices):
    with pytest.raises(InputError, match="indices must be an int32 or int64 tensor"):
        CodebookEmbedding(CODES, 4)(indices)


@pytest.mark.parametrize(
    ("table", "weights", "message"),
    [
        (torch.zeros(5, 4), None, r"one entry a row of the table \(5\), got 6"),
        (torch.zeros(6), None, "table must be a floating matrix"),
        (torch.zeros(6, 4, dtype=torch.int64), None, "table must be a floating matrix"),
        (torch.zeros(6, 4), [1.0], "weights must have shape"),
        (torch.zeros(6, 4), [1.0, 1, 1, 1, 1, -1], "weights must be finite and non-negative"),
        (torch.zeros(6, 4), [1.0, 1, 1, 1, 1, np.inf], "weights must be finite and non-negative"),
    ],
)
def test_bad_compression_is_refused(table, weights, message):
    with pytest.raises(InputError, match=message):
        CodebookEmbedding.from_pretrained(table, CODES, weights=weights)
