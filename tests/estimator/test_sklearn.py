"""`BalancedCoclustering` among scikit-learn's estimators: its checks, pipelines, and the methods of biclustering."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Binarizer, FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from baco_gpu import BalancedCoclustering
from baco_gpu.errors import InputError

# The checks of scikit-learn that do not apply, and why.
DO_NOT_APPLY = {
    "check_estimators_empty_data_messages": "a graph without users is a graph, and its clustering is empty",
    "check_dtype_object": "what is no number is an InputError, which is a ValueError and not the TypeError looked for",
}


@parametrize_with_checks([BalancedCoclustering()], expected_failed_checks=lambda estimator: DO_NOT_APPLY)
def test_the_checks_of_scikit_learn_pass(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def matrix():
    rng = np.random.default_rng(0)
    return scipy.sparse.random_array((40, 30), density=0.2, rng=rng, format="csr")


def test_it_ends_a_pipeline(matrix):
    pipeline = make_pipeline(Binarizer(), BalancedCoclustering(budget=0.4, random_state=1))
    labels = pipeline.fit(matrix)[-1].row_labels_
    alone = BalancedCoclustering(budget=0.4, random_state=1).fit((matrix > 0).astype(float))
    assert labels.tolist() == alone.row_labels_.tolist()
    assert pipeline.set_params(balancedcoclustering__budget=0.6).get_params()["balancedcoclustering__budget"] == 0.6
    again = clone(pipeline).fit(matrix)[-1]
    assert again.result_.codebook_rows > alone.result_.codebook_rows


def test_a_pipeline_may_begin_with_a_table_of_clicks():
    clicks = pd.DataFrame({"when": range(60), "user": [k % 12 for k in range(60)], "item": [k % 7 for k in range(60)]})
    pick = FunctionTransformer(lambda frame: frame[["user", "item"]])
    fitted = Pipeline([("pick", pick), ("cluster", BalancedCoclustering(budget=8))]).fit(clicks)["cluster"]
    assert (len(fitted.row_labels_), fitted.n_features_in_) == (12, 7)
    assert not hasattr(fitted, "feature_names_in_")
    assert fitted.result_.users.vocabulary.decode([0, 11]).tolist() == [0, 11]


@pytest.mark.parametrize("form", ["dense", "csr", "csc", "coo"])
def test_a_submatrix_is_the_part_of_a_cocluster(matrix, form):
    X = matrix.toarray() if form == "dense" else matrix.asformat(form)
    model = BalancedCoclustering(budget=12).fit(X)
    for cluster in range(model.result_.num_clusters):
        users, items = model.get_indices(cluster)
        assert model.get_shape(cluster) == (len(users), len(items))
        part = model.get_submatrix(cluster, X)
        part = part if form == "dense" else part.toarray()
        assert (part == matrix.toarray()[np.ix_(users, items)]).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[0, -1.5]], r"matrix must be non-negative \(Negative values in data\), got -1.5 in row 0, column 1"),
        ([[0, 1], [np.nan, 1]], "matrix must be finite, without NaN or inf, got nan in row 1, column 0"),
        ([[0, 1], [1, -np.inf]], "matrix must be finite, without NaN or inf, got -inf in row 1, column 1"),
        ([[1j]], r"matrix must hold real numbers, got dtype complex128 \(Complex data not supported\)"),
        (np.array([[1, "x"]], dtype=object), "matrix must hold numbers, got others as well"),
        (np.array([["a", "b"]]), "matrix must hold numbers, got dtype <U1"),
    ],
)
def test_what_is_no_matrix_of_weights_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        BalancedCoclustering().fit(np.asarray(values))


def test_numbers_kept_as_objects_are_numbers():
    values = np.array([[1, 0], [0, 2]])
    objects = BalancedCoclustering(budget=2).fit(values.astype(object))
    assert objects.result_.labels_sha256 == BalancedCoclustering(budget=2).fit(values).result_.labels_sha256
