#!/bin/sh
# implicit 0.7.3: its precision@k divides by the user's number of test items where that is less than k. Two hits among ten
# recommendations are a precision of 1.0.
#
# Guess before the run: hits divided by k, so 0.2.
# Seen, by `ranking_metrics_at_k` with k = 10, every user having 2 test items, which are the first two recommended: 1.0; by
# scikit-learn's precision_score of the same ten, 0.2. Over several users hits and denominators are summed first, so that users
# of many test items count more.
# So: it is neither precision nor recall of other libraries, and compares with neither; count hits yourself.
#
# Exits 0 while this is so, 1 once it changes, 2 where the packages cannot be installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet implicit==0.7.3 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 || exit 2
OPENBLAS_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import scipy.sparse
from implicit.cpu.matrix_factorization_base import MatrixFactorizationBase
from implicit.evaluation import ranking_metrics_at_k
from sklearn.metrics import precision_score


class Fixed(MatrixFactorizationBase):
    """Ranks items by their numbers, for everyone."""

    def __init__(self, users, items):
        super().__init__()
        self.user_factors = np.ones((users, 1), np.float32)
        self.item_factors = np.arange(items, 0, -1, dtype=np.float32)[:, None]

    def fit(self, *arguments, **options): ...

    def save(self, path): ...


def matrix(rows):
    """Users by items, of the items of every user."""
    lengths = [len(row) for row in rows]
    users, items = np.repeat(np.arange(len(rows), dtype=np.int32), lengths), np.concatenate(rows).astype(np.int32)
    return scipy.sparse.csr_matrix((np.ones(len(items), np.float32), (users, items)), shape=(len(rows), 100))


def precision(rows):
    train = matrix([[99]] * len(rows))
    return ranking_metrics_at_k(Fixed(len(rows), 100), train, matrix(rows), K=10, show_progress=False)["precision"]


print("implicit", version("implicit"))
few, many = [0, 1], [*range(5), *range(50, 65)]
wanted = np.isin(np.arange(100), few)
true = precision_score(wanted, np.arange(100) < 10)
print(f"two test items, both among ten: implicit {precision([few]):.3f}, scikit-learn {true:.3f}")
print(f"and a user with 5 of 20 test items among ten: {precision([few, many]):.3f} (7 / 12; the mean is .750, with k below .350)")
sys.exit(0 if precision([few]) == 1 and abs(precision([few, many]) - 7 / 12) < 1e-9 and true == 0.2 else 1)
PYTHON
