#!/bin/sh
# scikit-learn 1.9.1: SpectralBiclustering(method="bistochastic"), the default, scales a sparse matrix once, not until
# all rows and all columns have the same sum; the same matrix, dense, it scales to the end.
#
# Guess before the run: sparse and dense give the same singular vectors, and the same clusters.
# Seen: `_bistochastic_normalize` of a sparse matrix is `_scale_normalize`, and sums of rows differ by a factor of 1.89;
# dense it is 1.00004. The loop compares the scaled values with those it was given, which in its first round
# are the same (`norm(X_scaled.data - X.data)`), and ends.
# So: method="scale" says what is done. Whoever balances a sparse matrix in earnest gets other vectors than this class.
#
# Exits 0 while this is so, 1 once it changes, 2 where the packages cannot be installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6 || exit 2
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import scipy.sparse
import sklearn
from sklearn.cluster._bicluster import _bistochastic_normalize, _scale_normalize

dense = np.random.default_rng(0).random((60, 40)) ** 4 + 1e-3
sparse = scipy.sparse.csr_array(dense)
balanced = _bistochastic_normalize(dense)
once = _bistochastic_normalize(sparse).toarray()


def ratio(matrix):
    sums = matrix.sum(axis=1)
    return sums.max() / sums.min()


print("scikit-learn", sklearn.__version__)
print(f"largest sum of a row over the smallest: dense {ratio(balanced):.6f}, sparse {ratio(once):.2f}")
same = np.allclose(once, _scale_normalize(sparse)[0].toarray(), atol=1e-12)
print("sparse is one step of scaling:", same)
sys.exit(0 if same and ratio(balanced) < 1 + 1e-4 and ratio(once) > 1.1 else 1)
PYTHON
