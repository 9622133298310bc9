"""What kernels there are: their template parameters, their arguments, their sources. Plain facts, no CUDA library."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import product
from typing import NamedTuple

# The values of every template parameter, as C++ writes them.
AXES = {
    "id": ("int", "long long"),
    "weighted": ("false", "true"),
    "task": ("MOVE", "SECOND"),
    "symmetric": ("false", "true"),
    "value": ("float", "double", "Half", "BFloat16"),
    "code": ("int", "long long"),
    "index": ("int", "long long"),
    "two": ("false", "true"),
    "level": ("unsigned char", "unsigned short"),
}

_VISIT = "nodes:long*? {}offsets:long* neighbors:id* weights:long*? node_weights:long* labels:id* volumes:long*? "
_VISIT += "anchors:long*? other_labels:id* other_volumes:long* penalty:double output:id*? totals:long*? "
_VISIT += "warp_list:id* block_list:id* hub_list:id* hub_firsts:long* num_labels:long lengths:long* "

_HELD = "held:int num_users:long num_items:long user_stream:word item_stream:word user_labels:id* item_labels:id* "
_HELD += "num_labels:long "


class Kernel(NamedTuple):
    """A kernel: the file it is in, the names of its template parameters, and its arguments as (name, type).

    Types are long (int64), word (uint64), int (int32), byte (uint8), float, double; id, code, index and value (the
    template's), and wide (what values are added up in); with * for an array and *? for one that may be null.
    """

    source: str
    axes: tuple[str, ...]
    arguments: tuple[tuple[str, str], ...]


def _kernel(source: str, axes: str, arguments: str) -> Kernel:
    pairs = (argument.partition(":") for argument in arguments.split())
    return Kernel(source, tuple(axes.split()), tuple((name, kind) for name, _, kind in pairs))


_CODES = "codes:code* secondary:code*? num_ids:long rows:long indices:index*? count:long padding:long "
_TERMS = "terms:value* period:long dim:long order:index* weights:value*? begins:index* ends:index* "
_PIECES = "piece:long counters:long* long_rows:long* first_pieces:long* "

_LISTED = "short_list:id* middle_list:id* hubs:id* first_pieces:long* first_slots:long* num_clusters:long "
_LISTED += "short_edges:long middle_edges:long counts:long* "
_GROUPS = "members:id* starts:long* sizes:long* ends:long* num_users:long user_offsets:long* user_neighbors:id* "
_GROUPS += "user_weights:long*? item_offsets:long* item_neighbors:id* item_weights:long*? user_labels:id* "
_GROUPS += "item_labels:id* costs:long* "
_MERGES = "volumes:long* penalty:double states:byte* partners:id* best:word* bounds:word* offering:int offers:id* "
_MERGES += "offered:word* room:long "
_HUBS = "hubs:id* first_pieces:long* first_slots:long* counts:long* pass:int wave:long wave_slots:long "
_HUBS += "num_clusters:long hub_labels:id* hub_sums:long* "
_PIECES_FOUND = "piece_hubs:id* piece_labels:id* piece_words:word* "
_KNOWN = "states:byte* partners:id* best:word* bounds:word* "
_BY_LEADER = "count:long followers:id* order:long* keys:long* "

KERNELS = {
    "label_tiny": _kernel("label_move.cu", "id weighted task", _VISIT.format("range:long* ")),
    "label_long": _kernel(
        "label_move.cu",
        "id weighted task",
        _VISIT.format("") + "probes:long hub_labels:id* hub_sums:long* wave:long wave_slots:long",
    ),
    "sums_by_label": _kernel("volumes.cu", "id", "labels:id* values:long* count:long sums:long*"),
    "move_volumes": _kernel(
        "volumes.cu",
        "id",
        "nodes:long* count:long previous:id* labels:id* node_weights:long* volumes:long*",
    ),
    "weight_within": _kernel(
        "volumes.cu",
        "id weighted",
        "offsets:long* neighbors:id* weights:long*? num_nodes:long labels:id* other_labels:id* within:long*",
    ),
    "block_of_node": _kernel("hashing.cu", "", "stream:word num_nodes:long num_blocks:word blocks:int* sizes:long*"),
    "deal_nodes": _kernel("hashing.cu", "", "blocks:int* num_nodes:long num_blocks:word cursors:long* nodes:long*"),
    "begin_holding": _kernel(
        "hashing.cu", "", "held:int num_labels:long smallest:word* anchors:long* user_volumes:long* item_volumes:long*"
    ),
    "smallest_hash": _kernel("hashing.cu", "id", _HELD + "smallest:word*"),
    "anchor_of_label": _kernel(
        "hashing.cu", "id", _HELD + "smallest:word* anchors:long* user_volumes:long* item_volumes:long*"
    ),
    "end_holding": _kernel("hashing.cu", "", "num_labels:long user_volumes:long* item_volumes:long*"),
    "pairs_of_edges": _kernel(
        "merge.cu",
        "id symmetric",
        "begins:long* ends:long* num_rows:long neighbors:id* row_clusters:id* neighbor_clusters:id* "
        "num_clusters:long pairs:long*",
    ),
    "best_partners": _kernel(
        "merge.cu",
        "id",
        "rows:long* counts:long* num_clusters:long neighbors:id* weights:long* user_volumes:long* "
        "item_volumes:long* penalty:double partner:long* gain:double*",
    ),
    "size_clusters": _kernel(
        "rounds.cu",
        "id",
        "num_users:long num_items:long user_labels:id* item_labels:id* users_before:id*? items_before:id*? "
        "user_offsets:long* item_offsets:long* sizes:long* costs:long* rows:int* states:byte*",
    ),
    "begin_round": _kernel(
        "rounds.cu",
        "id",
        "size:long sizes:long* costs:long* rows:int* starts:long* filled:long* "
        + _KNOWN
        + _LISTED
        + "pair_counts:long*",
    ),
    "group_members": _kernel(
        "rounds.cu",
        "id",
        "num_users:long num_items:long keepers:id* starts:long* filled:long* user_offsets:long* item_offsets:long* "
        "user_labels:id* item_labels:id* members:id* lengths:long*",
    ),
    "merges_of_clusters": _kernel(
        "clusters.cu", "id weighted", "short_list:id* middle_list:id* counts:long* pass:int " + _GROUPS + _MERGES
    ),
    "add_hubs": _kernel("clusters.cu", "id weighted", _HUBS + _GROUPS),
    "merges_of_hubs": _kernel("clusters.cu", "id", _HUBS + "costs:long* " + _MERGES + _PIECES_FOUND),
    "accept_merges": _kernel(
        "rounds.cu",
        "id",
        "counts:long* pass:int offers:id* offered:word* room:long " + _PIECES_FOUND + "best:word* partners:id*",
    ),
    "list_undecided": _kernel("rounds.cu", "id", "size:long sizes:long* costs:long* " + _KNOWN + _LISTED),
    "merge_clusters": _kernel(
        "rounds.cu",
        "id",
        "size:long keepers:id* sizes:long* costs:long* rows:int* volumes:long* states:byte*",
    ),
    "pair_clusters": _kernel(
        "followers.cu",
        "id",
        "size:long sizes:long* rows:int* partners:id* best:word* states:byte* keepers:id* follows:byte* "
        "pair_counts:long* counts:long* num_counts:long",
    ),
    "list_followers": _kernel(
        "followers.cu", "id", "size:long follows:byte* running:long* best:word* followers:id* words:word*"
    ),
    "follower_keys": _kernel("followers.cu", "id", "count:long followers:id* order:long* partners:id* keys:long*"),
    "follower_volumes": _kernel("followers.cu", "id", _BY_LEADER + "volumes:long* own:long* firsts:long* waits:long*"),
    "follower_waits": _kernel(
        "followers.cu",
        "id",
        _BY_LEADER
        + "partners:id* best:word* volumes:long* own:long* running:long* penalty:double firsts:long* waits:long*",
    ),
    "join_followers": _kernel(
        "followers.cu", "id", _BY_LEADER + "waits:long* joined:byte*? running:long*? room:long keepers:id*"
    ),
    "codebook_rows": _kernel(
        "codebook.cu", "value code index two", _CODES + "codebook:value* dim:long packed:int lane_bits:int out:value*"
    ),
    "codebook_keys": _kernel("codebook.cu", "code index two", _CODES + "keys:code*"),
    "row_sums": _kernel(
        "codebook.cu",
        "value index weighted",
        _TERMS
        + "rows:long factor:double packed:int lane_bits:int "
        + _PIECES
        + "piece_rows:long* piece_numbers:long* totals:value*",
    ),
    "piece_sums": _kernel(
        "codebook.cu",
        "value index weighted",
        _TERMS + "packed:int lane_bits:int piece:long counters:long* piece_rows:long* piece_numbers:long* sums:wide*",
    ),
    "finish_sums": _kernel(
        "codebook.cu",
        "value index",
        "sums:wide* dim:long begins:index* ends:index* factor:double lane_bits:int " + _PIECES + "totals:value*",
    ),
    "draw_triples": _kernel(
        "sampling.cu",
        "",
        "users:long* items:long* num_samples:long bits:int starts:long* shifted:long* num_items:long seed:word "
        "epoch:word first:long count:long triples:long*",
    ),
    "low_precision_step": _kernel(
        "low_precision.cu",
        "level",
        "rows:long* count:long gradient:float* dim:long rate:double eps:double seed:word step:long* odd:int* "
        "integers:byte* scales:byte* squares:float* counts:byte*",
    ),
}

SOURCES = tuple(sorted({kernel.source for kernel in KERNELS.values()}))

_INCLUDE = re.compile(r'^#include "([^"]+)"$', re.MULTILINE)


def instance(kernel: str, values: tuple[str, ...]) -> str:
    """The name expression of an instance, such as `label_tiny<int, false, MOVE>`."""
    axes = KERNELS[kernel].axes
    if len(values) != len(axes) or any(value not in AXES[axis] for axis, value in zip(axes, values, strict=True)):
        raise ValueError(f"{kernel} has the template parameters {axes}, got {values}")
    return f"{kernel}<{', '.join(values)}>" if values else kernel


def instances(source: str) -> list[str]:
    """The name expressions of all instances of all kernels of a file."""
    return [
        instance(name, values)
        for name, kernel in KERNELS.items()
        if kernel.source == source
        for values in product(*(AXES[axis] for axis in kernel.axes))
    ]


def source_text(source: str) -> str:
    """A source with its own headers put in the place of their includes, each once; errors still name the right file."""
    seen: set[str] = set()

    def expanded(name: str) -> str:
        seen.add(name)
        text = files("baco_gpu.kernels").joinpath(name).read_text(encoding="utf-8").replace("#pragma once\n", "\n")
        parts, position = [f'#line 1 "{name}"\n'], 0
        for match in _INCLUDE.finditer(text):
            parts.append(text[position : match.start()])
            if match[1] not in seen:
                parts.append(expanded(match[1]))
            line = text.count("\n", 0, match.end()) + 2
            parts.append(f'\n#line {line} "{name}"')
            position = match.end()
        return "".join([*parts, text[position:]])

    return expanded(source)
