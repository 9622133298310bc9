"""Host logic around the kernels: which nodes go to which kernel, how many thread blocks, how much memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

WARP = 32
LISTS = 3  # of nodes for a warp, for a thread block, and of hubs
_MAX_BLOCKS = 2**31 - 1

# Contraction in pieces: bytes an edge of a piece, which the graph of clusters before and after it are among, and what
# merging takes beside, bytes a node; and the smallest piece that is worth the trouble.
PIECE_BYTES = 200
MERGING_BYTES = 150
SMALLEST_PIECE = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What the kernels are compiled for.

    Attributes
    ----------
    tiny_degree : int
        The longest neighbor list that a single thread takes; its labels are kept in registers.
    warp_slots, block_slots : int
        Slots of the shared hash tables of a warp and of a thread block, powers of two. A table takes every list of
        half as many edges; a longer one may overflow the table of a thread block, and then goes to global memory.
    warps : int
        Warps of a thread block.
    probes : int
        How far a hub's label looks for a free slot in the shared table before the hub goes to global memory.
    hub_bytes : int
        Tables of hubs in global memory that are there at a time begin within so many bytes; the last one may go beyond.
    """

    tiny_degree: int = 8
    warp_slots: int = 256
    block_slots: int = 2048
    warps: int = 8
    probes: int = 64
    hub_bytes: int = 1 << 28

    @property
    def threads(self) -> int:
        """Threads of a thread block."""
        return self.warps * WARP

    @property
    def longest(self) -> tuple[int, int, int]:
        """The longest lists of a thread, a warp, and a thread block whose table cannot overflow."""
        return self.tiny_degree, self.warp_slots // 2, self.block_slots // 2

    def macros(self) -> dict[str, int]:
        """What the sources are compiled with."""
        return {
            "BACO_TINY_DEGREE": self.tiny_degree,
            "BACO_WARP_SLOTS": self.warp_slots,
            "BACO_BLOCK_SLOTS": self.block_slots,
            "BACO_WARPS": self.warps,
        }

    def shared_bytes(self, kernel: str, id_bytes: int, *, weighted: bool) -> int:
        """Bytes of the shared table of a thread block of one of the kernels that have one; 0 for others."""
        slot = id_bytes + (8 if weighted else 4)
        slots = {"label_long": self.block_slots, "merges_of_clusters": self.block_slots // (2 if slot > 12 else 1)}
        return slots.get(kernel, 0) * slot


@dataclass(frozen=True)
class SidePlan:
    """How many nodes of a side each kernel can meet at most, and its longest list.

    Attributes
    ----------
    nodes : int
    longer : tuple of int
        Nodes beyond the reach of a single thread: for a warp, for a thread block, hubs.
    largest_degree : int
    hub_slots : int
        What tables with room for all edges of every hub have together at most.
    """

    nodes: int
    longer: tuple[int, int, int]
    largest_degree: int
    hub_slots: int = 0


@dataclass(frozen=True)
class HubTables:
    """The tables in global memory, one a hub, one behind the other.

    Those that begin at the same multiple of `wave_slots` are there at a time, in `slots` slots.
    """

    waves: int
    wave_slots: int
    slots: int

    def nbytes(self, id_bytes: int) -> int:
        """Bytes of the tables that are there at a time."""
        return self.slots * (id_bytes + 8)


def plan_side(xp: Any, offsets: Any, limits: Limits) -> SidePlan:
    """Count the nodes of a side by kernel, on the device of `offsets`."""
    degrees = xp.diff(offsets)
    if not len(degrees):
        return SidePlan(0, (0, 0, 0), 0)
    beyond = [int((degrees > longest).sum()) for longest in limits.longest]
    hubs = degrees[degrees > limits.longest[-1]]
    longer = (beyond[0] - beyond[1], beyond[1] - beyond[2], beyond[2])
    return SidePlan(len(degrees), longer, int(degrees.max()), 4 * int(hubs.sum()))


def slots_for(labels: int) -> int:
    """The smallest power of two that leaves half of a table of so many labels free (as in label_move.cu)."""
    return 1 << max(1, (2 * labels - 1).bit_length())


def hub_tables(side: SidePlan, num_labels: int, id_bytes: int, limits: Limits) -> HubTables:
    """Tables of all hubs of a side, as many at a time as begin within `hub_bytes`: none waits for a processor alone."""
    longest = slots_for(min(side.largest_degree, num_labels)) if side.longer[-1] else 0
    total = min(side.hub_slots, side.longer[-1] * longest)
    wave = max(1, min(total, limits.hub_bytes // (id_bytes + 8)))
    waves = max(1, -(-total // wave))
    return HubTables(waves, wave, total if waves == 1 else wave + longest)


@dataclass(frozen=True)
class MergePlan:
    """How clusters go by the edges of their members when they merge.

    Attributes
    ----------
    edges : pair of int
        The most edges of a cluster that a warp takes, and a thread block; beyond are the hubs.
    hubs : int
        No more hubs are possible.
    wave_slots : int
        Tables of hubs begin at so many slots at a time; more hubs wait for the next wave.
    longest_table : int
        The slots of the largest table that a hub can need.
    pieces : int
        Warps take hubs in no more pieces than that.
    """

    edges: tuple[int, int]
    hubs: int
    wave_slots: int
    longest_table: int
    pieces: int

    def nbytes(self, id_bytes: int) -> int:
        """Bytes of what merging keeps of hubs: their tables, their list, and what every piece of one has found."""
        if not self.hubs:
            return 0
        tables = (self.wave_slots + self.longest_table) * (id_bytes + 8)
        return tables + self.hubs * (id_bytes + 16) + self.pieces * (2 * id_bytes + 8)


def plan_merging(edges: int, clusters: int, id_bytes: int, weighted: bool, limits: Limits) -> MergePlan:
    """Plan merging for so many clusters with so many edges, each counted at both of its ends."""
    slots = limits.block_slots // (2 if weighted and id_bytes == 8 else 1)  # as in clusters.cu
    short, middle = slots // limits.warps // 2, slots // 2
    hubs = min(clusters, edges // (middle + 1))
    longest = slots_for(min(edges, clusters)) if hubs else 0
    wave = max(1, min(4 * edges, limits.hub_bytes // (id_bytes + 8)))
    return MergePlan((short, middle), hubs, wave, longest, edges // limits.block_slots + hubs)


def blocks_for(count: int, per_block: int) -> int:
    """Thread blocks for `count` things, `per_block` to each: one at least."""
    blocks = max(1, -(-count // per_block))
    if blocks > _MAX_BLOCKS:
        raise OverflowError(f"a grid has at most {_MAX_BLOCKS} thread blocks, got {blocks}")
    return blocks


def shared_grid(count: int, per_block: int, processors: int, rounds: int = 32) -> int:
    """Thread blocks that share a list among them whatever its length: enough to keep every multiprocessor busy."""
    return min(blocks_for(count, per_block), processors * rounds)


def move_bytes(nodes: int, tables: HubTables, id_bytes: int) -> int:
    """Temporary bytes of a move on a side of so many nodes: lists of the places of nodes that are beyond a single
    thread (all of them at most), the tables of hubs and where they begin, and counters."""
    return nodes * (id_bytes + 8) + tables.nbytes(id_bytes) + 8 * (LISTS + 3)


def blocks_bytes(nodes: int) -> int:
    """Bytes of the blocks of a sweep: the nodes of every block, and first also the block of every node."""
    return 12 * nodes


def second_bytes(nodes: int, num_labels: int, tables: HubTables, id_bytes: int) -> int:
    """Temporary bytes of the second labels of a side: those of a move, and a mark a label."""
    return move_bytes(nodes, tables, id_bytes) + 8 * num_labels


def contraction_bytes(edges: int, weighted: bool, pairs: int | None = None) -> int:
    """Bytes of a contraction of so many edges between so many distinct pairs of clusters (at most as many), with the
    graph of clusters that it leaves.

    8 an edge throughout: the pair of its clusters. Then first 58 an edge: the pairs of two clusters among those, a
    mask, what sorting needs (twice 8), a running count, where pairs begin and end; with weights 24 more: their order,
    and the weights in it. Later 128 a pair: its clusters, weight and place in both directions, in two orders.
    """
    later = 128 * (edges if pairs is None else pairs)
    return 8 * edges + max(edges * (58 + 24 * weighted), later)


def merging_bytes(nodes: int, id_bytes: int) -> int:
    """Bytes of merging from as many clusters as nodes, without what it keeps of hubs (`MergePlan.nbytes`).

    What is known of every cluster, lists of clusters, and offers: 7 ids and 94 bytes; the members of clusters, their
    labels, and where their edges end: 2 ids and 8 bytes. And, for a while, followers in two orders, or the labels that
    are left at the end of a level: 78 bytes at most.
    """
    return nodes * (9 * id_bytes + 180)


@dataclass(frozen=True)
class SolveBytes:
    """Bytes that a whole solve takes on a device at most: `graph` and `partitions` throughout, and at a time the larger
    of `sweeping` and `merging`."""

    graph: int
    partitions: int
    sweeping: int
    merging: int

    @property
    def total(self) -> int:
        """The peak."""
        return self.graph + self.partitions + max(self.sweeping, self.merging)


def solve_bytes(
    users: int,
    items: int,
    edges: int,
    *,
    weighted: bool = False,
    id_bytes: int = 4,
    merging: bool = True,
    hub_tables_bytes: int = 0,
    merge_tables_bytes: int = 0,
    contracting: bool = False,
    streamed: bool = False,
    piece: int | None = None,
) -> SolveBytes:
    """What a solve from singletons takes at most, and what every part of it does.

    With ids of 4 bytes and no weights: 8 bytes an edge and 16 a node for the graph; 20 a label (a node has one, to
    begin with) for each of two partitions, since a sweep can be undone; for sweeps up to 40 a node; and for merging 216
    a node. `hub_tables_bytes` are those of `hub_tables`, `merge_tables_bytes` those of `plan_merging`.

    Several processes merge by contraction instead (`contracting`), at up to 136 bytes an edge: so many where no sweep
    has brought clusters together; what it does take goes with the pairs of clusters that edges join
    (`contraction_bytes`). With a `piece`, it takes on so many edges at a time; what it leaves is on the device if it is
    no larger than that, and on the host elsewhere. Edges that are `streamed` stay on the host, and take nothing.
    """
    nodes = users + items
    larger = max(users, items)
    graph = (0 if streamed else 2 * edges * (id_bytes + 8 * weighted)) + 16 * nodes + 16
    partition = nodes * (id_bytes + 16)
    # All nodes by block, and an anchor a label on each side; finding them takes a hash a label.
    anchors, hashes = 16 * nodes, 16 * nodes
    anchoring = anchors + hashes
    moving = anchors + move_bytes(larger, HubTables(0, 0, 0), id_bytes)
    second = second_bytes(larger, nodes, HubTables(0, 0, 0), id_bytes)
    sweeping = max(8 * nodes + max(anchoring, moving), blocks_bytes(nodes), second) + hub_tables_bytes
    if not merging:
        merged = 0
    elif contracting:
        # The labels before and after, and of every cluster: its volumes, whom it holds, its row, whether it is in use.
        pieces = PIECE_BYTES * (piece or 0) + MERGING_BYTES * nodes
        merged = (contraction_bytes(edges, weighted) if piece is None else pieces) + nodes * (id_bytes + 34)
    else:
        merged = merging_bytes(nodes, id_bytes) + merge_tables_bytes
    return SolveBytes(graph, 2 * partition, sweeping, merged)


def usable(free: int) -> int:
    """What a solve plans with, of so many bytes: a thirty-second stays free, since allocators round sizes up and leave
    gaps, and libraries that sort or multiply take a little that nobody foresees."""
    return free - free // 32


@dataclass(frozen=True)
class Placement:
    """Where a solve keeps the edges, and how many a contraction takes on at a time (None for all); what it needs."""

    streamed: bool
    piece: int | None
    needed: SolveBytes


def place(free: int, edges: int, needs: Callable[[bool, int | None], SolveBytes]) -> Placement:
    """The first placement that fits into so many bytes; the one that takes least where none does.

    They are: all on the device at once; all on the device, and contraction in pieces, which take three quarters of what
    is left over; the edges on the host, and contraction in pieces. `needs` gives the bytes for `streamed` and `piece`.
    """
    whole = Placement(False, None, needs(False, None))
    if whole.needed.total <= free:
        return whole
    smallest = min(edges, SMALLEST_PIECE)
    for streamed in (False, True):
        least = needs(streamed, smallest)
        if least.total <= free:
            # A quarter of what is left over stays so: a pool of memory has gaps, larger ones where arrays are larger.
            spare = free - (least.graph + least.partitions + least.merging)
            piece = min(edges, smallest + spare // 4 * 3 // PIECE_BYTES)
            return Placement(streamed, piece, needs(streamed, piece))
    return Placement(True, smallest, least)
