"""`BalancedCoclustering` as an estimator: scikit-learn's conventions, every kind of input, every bad parameter."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from baco_gpu import BalancedCoclustering, BipartiteGraph
from baco_gpu.clustering.backends import cuda_backend
from baco_gpu.data.interactions import Interactions
from baco_gpu.errors import BackendUnavailableError, InputError
from graphs import random_graph

ATTRIBUTES = (
    "row_labels_",
    "column_labels_",
    "labels_row_",
    "labels_col_",
    "secondary_row_labels_",
    "secondary_column_labels_",
    "rows_",
    "columns_",
    "biclusters_",
    "gamma_",
    "objective_",
    "objective_trace_",
    "n_features_in_",
    "result_",
)


@pytest.fixture(scope="module")
def graph():
    return random_graph(90, 70, 500, seed=1)


@pytest.fixture(scope="module")
def fitted(graph):
    return BalancedCoclustering(budget=0.3, secondary="both", random_state=3).fit(graph)


def digest(source, **parameters):
    return BalancedCoclustering(**parameters).fit(source).result_.labels_sha256


class TestConventions:
    def test_parameters_come_and_go_untouched(self):
        weights = "log"
        model = BalancedCoclustering(0.5, 2.0, weights, random_state=7, levels=3)
        parameters = model.get_params()
        assert parameters["weights"] is weights
        assert (parameters["budget"], parameters["gamma"], parameters["random_state"], parameters["levels"]) == (
            0.5,
            2.0,
            7,
            3,
        )
        assert model.set_params(budget=100, sweeps=2) is model
        assert (model.budget, model.sweeps) == (100, 2)
        with pytest.raises(ValueError, match="Invalid parameter 'n_clusters'"):
            model.set_params(n_clusters=3)

    def test_nothing_is_checked_before_fit(self, graph):
        model = BalancedCoclustering(budget="much", solver="best")
        with pytest.raises(InputError):
            model.fit(graph)
        assert model.set_params(budget=0.5, solver="multilevel").fit(graph) is model

    def test_fit_changes_no_parameter(self, graph):
        model = BalancedCoclustering(random_state=None, weights=None, gamma=None)
        before = model.get_params()
        model.fit(graph)
        assert model.get_params() == before

    def test_clone_has_the_parameters_and_no_labels(self, fitted):
        copy = clone(fitted)
        assert copy.get_params() == fitted.get_params()
        assert not hasattr(copy, "row_labels_")
        with pytest.raises(NotFittedError):
            check_is_fitted(copy)
        check_is_fitted(fitted)

    def test_repr_shows_what_differs_from_the_default(self):
        assert repr(BalancedCoclustering()) == "BalancedCoclustering()"
        assert (
            repr(BalancedCoclustering(budget=900, solver="paper")) == "BalancedCoclustering(budget=900, solver='paper')"
        )

    def test_pickle_keeps_all(self, fitted):
        copy = pickle.loads(pickle.dumps(fitted))
        assert copy.result_.labels_sha256 == fitted.result_.labels_sha256
        assert copy.get_params() == fitted.get_params()
        assert np.array_equal(copy.rows_, fitted.rows_)
        assert pickle.loads(pickle.dumps(BalancedCoclustering(levels=2))).levels == 2

    @pytest.mark.parametrize("name", ATTRIBUTES)
    def test_attributes_appear_with_fit(self, fitted, name):
        assert hasattr(fitted, name)
        assert not hasattr(BalancedCoclustering(), name)

    def test_y_is_ignored(self, graph):
        assert BalancedCoclustering().fit(graph, None).n_features_in_ == 70


class TestAttributes:
    def test_labels(self, fitted):
        assert fitted.row_labels_.shape == (90,)
        assert fitted.column_labels_.shape == (70,)
        assert fitted.row_labels_.dtype == fitted.column_labels_.dtype == np.int32
        assert fitted.labels_row_ is fitted.row_labels_
        assert fitted.labels_col_ is fitted.column_labels_
        assert fitted.secondary_row_labels_.shape == (90,)
        assert fitted.secondary_column_labels_.shape == (70,)
        assert fitted.n_features_in_ == 70

    def test_figures(self, fitted):
        assert fitted.gamma_ == fitted.result_.gamma >= 1
        assert fitted.objective_ == pytest.approx(fitted.objective_trace_[-1])
        assert fitted.objective_trace_.dtype == np.float64

    def test_secondary_labels_are_none_unless_asked_for(self, graph):
        model = BalancedCoclustering(secondary="none").fit(graph)
        assert model.secondary_row_labels_ is None
        assert model.secondary_column_labels_ is None

    def test_biclusters(self, graph, fitted):
        clusters = fitted.result_.num_clusters
        assert fitted.rows_.shape == (clusters, 90)
        assert fitted.columns_.shape == (clusters, 70)
        assert fitted.rows_.dtype == fitted.columns_.dtype == bool
        assert (fitted.rows_.argmax(axis=0) == fitted.row_labels_).all()
        assert (fitted.columns_.sum(axis=0) == 1).all()
        assert fitted.biclusters_[0].tolist() == fitted.rows_.tolist()
        assert fitted.biclusters_[1].tolist() == fitted.columns_.tolist()
        matrix = graph.to_scipy().tocsr()
        for cluster in range(clusters):
            users, items = fitted.get_indices(cluster)
            assert users.tolist() == np.flatnonzero(fitted.rows_[cluster]).tolist()
            assert items.tolist() == np.flatnonzero(fitted.columns_[cluster]).tolist()
            assert fitted.get_shape(cluster) == (len(users), len(items))
            if len(users) and len(items):
                part = fitted.get_submatrix(cluster, matrix)
                assert (part.toarray() == matrix.toarray()[np.ix_(users, items)]).all()

    @pytest.mark.parametrize("cluster", [-1, 10**6, 1.0, None])
    def test_there_are_no_other_coclusters(self, fitted, cluster):
        with pytest.raises(InputError, match=r"^i must be an integer from 0 to "):
            fitted.get_indices(cluster)


class TestInputs:
    def test_every_kind_of_input_gives_the_same_labels(self, graph, tmp_path):
        matrix = graph.to_scipy()
        users, items = matrix.nonzero()
        order = np.random.default_rng(0).permutation(len(users))
        parts = {"train": np.stack([users, items]).astype(np.int32), "val": np.empty((2, 0), np.int32)}
        np.savez(tmp_path / "clicks.npz", **parts, test=parts["val"], num_users=90, num_items=70)
        assert users.max() == 89
        assert items.max() == 69
        expected = digest(graph)
        sources = {
            "pair": (users, items),
            "shuffled": (users[order], items[order]),
            "unsigned": (users.astype(np.uint16), items.astype(np.int8)),
            "lists": (users.tolist(), items.tolist()),
            "interactions": Interactions(users, items, 90, 70),
            "csr_array": matrix,
            "csr_matrix": scipy.sparse.csr_matrix(matrix),
            "coo": matrix.tocoo(),
            "csc": matrix.tocsc(),
            "lil": matrix.tolil(),
            "bool": matrix.astype(bool),
            "int8": matrix.astype(np.int8),
            "dense": matrix.toarray(),
            "fortran": np.asfortranarray(matrix.toarray()),
            "path": tmp_path / "clicks.npz",
            "name": str(tmp_path / "clicks.npz"),
        }
        assert {name: digest(source) for name, source in sources.items()} == dict.fromkeys(sources, expected)

    def test_torch_tensors(self, graph):
        torch = pytest.importorskip("torch")
        users, items = (torch.from_numpy(ids.astype(np.int64)) for ids in graph.to_scipy().nonzero())
        assert digest((users, items)) == digest(graph)

    def test_weighted_inputs(self):
        graph = random_graph(90, 70, 500, seed=1, weighted=True)
        matrix = graph.to_scipy()
        assert digest(matrix) == digest(matrix.toarray()) == digest(graph)
        users, items = matrix.nonzero()
        repeats = matrix.data.astype(int)  # an integer weight is as many interactions
        assert digest((np.repeat(users, repeats), np.repeat(items, repeats))) == digest(graph)

    @pytest.mark.parametrize("source", [None, 3, [[0, 1], [1, 0]], np.zeros(3), np.zeros((2, 2, 2)), "absent.npz", {}])
    def test_anything_else_is_refused_in_one_line(self, source):
        with pytest.raises(InputError) as caught:
            BalancedCoclustering().fit(source)
        assert "\n" not in str(caught.value)

    def test_the_input_is_left_alone(self, graph):
        matrix = graph.to_scipy()
        before = matrix.copy()
        BalancedCoclustering().fit(matrix)
        assert (matrix != before).nnz == 0
        assert matrix.data.flags.writeable


class TestSeeds:
    @pytest.mark.parametrize("secondary", ["none", "both"])
    def test_the_same_seed_repeats(self, graph, secondary):
        assert len({digest(graph, random_state=5, secondary=secondary) for _ in range(3)}) == 1
        assert digest(graph, random_state=5) == digest(graph, random_state=np.int64(5))

    def test_seeds_differ(self, graph):
        assert len({digest(graph, random_state=seed) for seed in (0, 1, 2, 2**63 - 1)}) == 4

    def test_none_is_zero(self, graph):
        assert digest(graph, random_state=None) == digest(graph, random_state=0)

    def test_global_random_states_do_not_matter(self, graph):
        np.random.seed(1)  # noqa: NPY002
        first = digest(graph)
        np.random.seed(2)  # noqa: NPY002
        assert digest(graph) == first


class TestBadParameters:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("budget", 0.0),
            ("budget", 1.5),
            ("budget", -3),
            ("budget", "0.25"),
            ("budget", True),
            ("budget", float("nan")),
            ("gamma", -0.1),
            ("gamma", float("inf")),
            ("gamma", float("nan")),
            ("gamma", 1e101),
            ("gamma", "auto"),
            ("gamma", True),
            ("weights", "cpm"),
            ("weights", 1),
            ("weights", np.ones(90)),
            ("solver", "louvain"),
            ("solver", None),
            ("secondary", "all"),
            ("secondary", True),
            ("backend", "tpu"),
            ("backend", None),
            ("random_state", -1),
            ("random_state", 2**63),
            ("random_state", 0.5),
            ("random_state", "0"),
            ("random_state", True),
            ("random_state", np.random.RandomState(0)),
            ("budget_measure", "rows"),
            ("budget_measure", None),
            ("embedding_dim", 0),
            ("embedding_dim", 64.0),
            ("embedding_dim", True),
            ("value_bytes", 0),
            ("value_bytes", "4"),
            ("sweeps", -1),
            ("sweeps", 2.5),
            ("sweeps", None),
            ("levels", 0),
            ("levels", "4"),
            ("refinements", -1),
            ("refinements", np.inf),
        ],
    )
    def test_are_refused_in_one_line_that_names_them(self, graph, name, value):
        with pytest.raises(InputError, match=f"^{name} .*, got ") as caught:
            BalancedCoclustering(**{name: value}).fit(graph)
        message = str(caught.value)
        assert "\n" not in message
        assert len(message) < 250

    def test_are_refused_before_the_input_is_read(self, tmp_path):
        with pytest.raises(InputError, match=r"^solver "):
            BalancedCoclustering(solver="best").fit(tmp_path / "absent.npz")

    def test_parameters_at_their_limits(self, graph):
        model = BalancedCoclustering(
            gamma=1e100, random_state=2**63 - 1, sweeps=0, levels=1, refinements=0, embedding_dim=10**6, value_bytes=1
        ).fit(graph)
        assert np.isfinite(model.objective_)
        assert model.result_.parameters_compressed <= model.result_.table.full_parameters / 4

    def test_a_missing_backend_says_why(self, graph, monkeypatch):
        monkeypatch.setattr(cuda_backend, "cuda_obstacle", lambda: "no device")
        with pytest.raises(BackendUnavailableError, match="'cuda' is not available: no device"):
            BalancedCoclustering(backend="cuda").fit(graph)


class TestProgress:
    @pytest.mark.parametrize(
        "parameters", [{}, {"solver": "paper", "budget": 0.6}, {"solver": "paper", "budget": None, "gamma": 0.3}]
    )
    def test_is_told_step_by_step(self, graph, parameters):
        calls = []
        BalancedCoclustering(**parameters).fit(graph, progress=lambda *call: calls.append(call))
        assert all(
            isinstance(phase, str) and phase and type(done) is int and type(total) is int and isinstance(note, str)
            for phase, done, total, note in calls
        )
        assert all(0 <= done <= total for _, done, total, _ in calls)
        phase, done, total, _ = calls[-1]
        assert (phase, done) == ("clustering", total)
        assert ("searching gamma" in {call[0] for call in calls}) == (parameters.get("budget") == 0.6)

    def test_changes_no_label(self, graph):
        with_progress = BalancedCoclustering().fit(graph, progress=lambda *call: None)
        assert with_progress.result_.labels_sha256 == digest(graph)

    @pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
    @pytest.mark.parametrize("solver", ["multilevel", "paper"])
    def test_an_interrupt_leaves_the_estimator_unfitted_and_usable(self, graph, solver, error):
        model = BalancedCoclustering(solver=solver, budget=0.6)
        steps = []
        expected = clone(model).fit(graph, progress=lambda *call: steps.append(call)).result_.labels_sha256
        for stop in range(len(steps)):
            left = iter(range(stop))

            def interrupt(*call, left=left):
                if next(left, None) is None:
                    raise error

            with pytest.raises(error):
                model.fit(graph, progress=interrupt)
            assert not any(hasattr(model, name) for name in ATTRIBUTES)
        assert model.fit(graph).result_.labels_sha256 == expected

    def test_an_interrupted_second_fit_keeps_the_first(self, graph):
        def interrupt(*call):
            raise KeyboardInterrupt

        model = BalancedCoclustering().fit(graph)
        before = model.result_
        with pytest.raises(KeyboardInterrupt):
            model.fit(random_graph(30, 20, 90, seed=2), progress=interrupt)
        assert model.result_ is before
        assert len(model.row_labels_) == 90


def test_threads_that_fit_at_once_do_not_meet():
    graphs = [random_graph(2000 + 100 * k, 1500, 30_000, seed=k) for k in range(4)]  # above the threshold of threading
    expected = [digest(graph) for graph in graphs]
    gate = threading.Barrier(len(graphs))

    def fit(graph):
        gate.wait()
        return digest(graph)

    with ThreadPoolExecutor(len(graphs)) as pool:
        assert list(pool.map(fit, graphs)) == expected


def test_threads_that_share_an_estimator_leave_it_whole(graph):
    model = BalancedCoclustering()
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: model.fit(graph).result_.labels_sha256, range(6)))
    assert set(results) == {digest(graph)}


def test_the_same_graph_transposed_swaps_the_sides():
    graph = BipartiteGraph.from_edges([0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 2, 2])
    model, swapped = (BalancedCoclustering(budget=6).fit(each) for each in (graph, graph.transpose()))
    for first, second in ((model.row_labels_, swapped.column_labels_), (model.column_labels_, swapped.row_labels_)):
        assert len(set(zip(first.tolist(), second.tolist(), strict=True))) == 3
