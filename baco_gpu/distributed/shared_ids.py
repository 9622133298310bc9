"""Raw ids of all ranks become one vocabulary, without a rank that sees the ids of all before it has them once.

Every rank cuts its ids, which ascend, where all ranks cut theirs; rank r gets the r-th piece of each and numbers the
ids in it. So pieces follow one another in ascending order, numbers are those of one process, and who sent an id is
told its number.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np

from baco_gpu.data.factorizing import factorize
from baco_gpu.data.vocabulary import Vocabulary
from baco_gpu.distributed.on_host import OnHost

if TYPE_CHECKING:
    import pyarrow as pa

_SAMPLE = 256  # ids a rank, about, that say where to cut


def united(ranks: OnHost, own: Vocabulary) -> tuple[np.ndarray, Vocabulary]:
    """The number of every id of this rank among those of all, int64 of shape (len(own),), and all of them.

    `own` must hold ids of one kind on all ranks; where it is empty it may be of either.
    """
    own = _of_one_kind(ranks, own)
    ends = _ends(ranks, own)
    counts = ranks.table(*np.diff([0, *ends]).tolist())
    ((places, here),) = factorize(_chunked(_exchanged(ranks, own, ends, counts)))
    begins = np.concatenate(([0], np.cumsum(ranks.table(len(here))[:, 0])))
    numbers = ranks.exchange(places.astype(np.int64) + begins[ranks.rank], np.ascontiguousarray(counts.T))
    return numbers, _joined(gathered(ranks, _like(here, own)))


def gathered(ranks: OnHost, own: Vocabulary) -> list[Vocabulary]:
    """The vocabularies of all ranks, of one kind."""
    counts = ranks.table(len(own))[:, 0].tolist()
    arrays = own.to_arrays()
    if own.is_integer:
        return [Vocabulary.from_sorted_integers(part) for part in ranks.gather(arrays["integers"], counts)]
    octets = ranks.table(len(arrays["utf8"]))[:, 0].tolist()
    lengths = ranks.gather(np.diff(arrays["offsets"]), counts)
    texts = ranks.gather(arrays["utf8"], octets)
    return [Vocabulary.from_sorted_strings(_strings(*part)) for part in zip(lengths, texts, strict=True)]


def _of_one_kind(ranks: OnHost, own: Vocabulary) -> Vocabulary:
    """`own`, of the others' kind where it is empty."""
    found = ranks.table(len(own), own.is_integer)
    kinds = found[found[:, 0] > 0, 1]
    return _empty(bool(kinds.all())) if not len(own) else own


def _like(here: Vocabulary, own: Vocabulary) -> Vocabulary:
    return here if len(here) else _empty(own.is_integer)


def _empty(of_integers: bool) -> Vocabulary:
    import pyarrow as pa

    return Vocabulary([]) if of_integers else Vocabulary.from_sorted_strings(pa.array([], pa.large_string()))


def _ends(ranks: OnHost, own: Vocabulary) -> list[int]:
    """Where the pieces of `own` end, one for every rank, so that pieces of all together are about equal."""
    total = int(ranks.table(len(own)).sum())
    step = max(1, total // (_SAMPLE * ranks.size))
    samples = gathered(ranks, own.take(np.arange(min(step // 2, len(own)), len(own), step)))
    every = sorted(raw for sample in samples for raw in sample.decode(np.arange(len(sample))))
    if not every:
        return [len(own)] * ranks.size
    limits = [every[len(every) * rank // ranks.size] for rank in range(1, ranks.size)]
    return [*(bisect_left(range(len(own)), limit, key=own.decode) for limit in limits), len(own)]


def _exchanged(ranks: OnHost, own: Vocabulary, ends: list[int], counts: np.ndarray) -> pa.Array:
    """The pieces that all ranks have for this one."""
    import pyarrow as pa

    arrays = own.to_arrays()
    if own.is_integer:
        return pa.array(ranks.exchange(arrays["integers"], counts))
    octets = ranks.table(*np.diff(arrays["offsets"][[0, *ends]]).tolist())
    return _strings(ranks.exchange(np.diff(arrays["offsets"]), counts), ranks.exchange(arrays["utf8"], octets))


def _strings(lengths: np.ndarray, utf8: np.ndarray) -> pa.LargeStringArray:
    import pyarrow as pa

    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    return pa.LargeStringArray.from_buffers(len(lengths), pa.py_buffer(offsets), pa.py_buffer(utf8))


def _chunked(ids: pa.Array) -> pa.ChunkedArray:
    import pyarrow as pa

    return pa.chunked_array([ids])


def _joined(parts: list[Vocabulary]) -> Vocabulary:
    """The ids of vocabularies that follow one another."""
    import pyarrow as pa

    if parts[0].is_integer:
        return Vocabulary.from_sorted_integers(np.concatenate([part.to_arrays()["integers"] for part in parts]))
    return Vocabulary.from_sorted_strings(pa.concat_arrays([part.strings() for part in parts]))
