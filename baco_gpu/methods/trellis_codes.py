"""Trellis codes, of more bits where items are used more: for the smallest budgets."""

from dataclasses import replace

from baco_gpu.methods.few_bits import COMPACT, PRODUCT, TRELLIS_CODES

METHOD = replace(
    PRODUCT,
    name="trellis",
    order=5,
    shared="nobody; every value is read from a window of its row's bits, of which items that are used more have more",
    stored=TRELLIS_CODES,
    when="budgets below a twelfth, where it keeps most",
    source="Tseng et al., QTIP, arXiv 2406.11235; grades are of this project",
)
COMPACT_METHOD = replace(
    COMPACT,
    name=f"{METHOD.name}:integers",
    order=6,
    former=(),
    shared=METHOD.shared,
    stored=TRELLIS_CODES,
    when="as trellis, where memory of training counts, too",
    source=METHOD.source,
)
