#!/bin/sh
# implicit 0.7.3: `recommend(..., filter_already_liked_items=True)` fills up with the very items that it filters where a
# user has fewer than N others, at a score of -3.4e38 and without a word.
#
# Guess before the run: the list is shorter, or its end is marked with an item number of -1.
# Seen: a user of 498 of 500 items asks for 5: the two others, then three that the user has, like any others but for
# their score.
# So: whoever reads the numbers alone recommends what was bought; look at the scores. Metrics of heavy users are counted
# over such lists, too.
#
# Exits 0 while this is so, 1 once it changes, 2 where the packages cannot be installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet implicit==0.7.3 numpy==2.4.6 scipy==1.17.1 || exit 2
OPENBLAS_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import scipy.sparse
from implicit.als import AlternatingLeastSquares
from implicit.bpr import BayesianPersonalizedRanking

clicks = scipy.sparse.csr_matrix(scipy.sparse.random_array((50, 500), density=0.05, rng=0, dtype=np.float32))
liked = scipy.sparse.csr_matrix(np.r_[np.ones(498), 0, 0].astype(np.float32)[None])
print("implicit", version("implicit"))
again = {}
for kind in (BayesianPersonalizedRanking, AlternatingLeastSquares):
    model = kind(factors=8, iterations=2, num_threads=1, random_state=0)
    model.fit(clicks, show_progress=False)
    items, scores = model.recommend(0, liked, N=5, filter_already_liked_items=True)
    again[kind] = [item for item in items.tolist() if item < 498]
    print(f"{kind.__name__}: items {items.tolist()}, scores {scores.tolist()}")
sys.exit(0 if all(len(items) == 3 for items in again.values()) else 1)
PYTHON
