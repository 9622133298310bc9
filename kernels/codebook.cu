// Lookups in a codebook: the row of an id is that of its code, or the mean of two; sums of gradients by row, which are
// also the product of a sparse matrix with a dense one.
//
//   codebook_rows   looks ids up, or all of them in order
//   codebook_keys   the rows that a lookup reads, as keys that a stable sort brings together
//   row_sums        adds up what belongs to each row, in the order of the sorted list; rows of more than `piece` terms
//                   are handed on in pieces, so that one of them does not hold up all others
//   piece_sums      adds up every piece
//   finish_sums     adds up the pieces of every such row
//
// No sum depends on the order of threads: none is atomic, and where a long row is cut is a matter of its length alone.
//
// Threads work on rows in teams of 2^lane_bits, lane after lane along a row; 16 bytes at a time where `packed`.
// What is out of range reads nothing: an id or a code that is not there gives a row of NaN and takes no gradient.
#include "value.cuh"

// The codes of all ids.
template <class Code, class Index>
struct Lookup {
    const Code* codes;
    const Code* secondary;
    Int64 num_ids;
    Int64 rows;
    const Index* indices;  // null: the ids in order
    Int64 padding;         // the id whose row is zero; NONE for no such id

    __device__ __forceinline__ Int64 id(Int64 place) const { return indices == nullptr ? place : (Int64)indices[place]; }

    // NONE where there is no such row.
    __device__ __forceinline__ Int64 row(const Code* table, Int64 id) const {
        if (id < 0 || id >= num_ids) return NONE;
        const Int64 row = table[id];
        return row < rows && row >= 0 ? row : NONE;
    }
};

// Threads of a grid, in teams whose size is a power of two.
struct Teams {
    int lane_bits;

    __device__ __forceinline__ int lane() const { return threadIdx.x & ((1 << lane_bits) - 1); }
    __device__ __forceinline__ int size() const { return 1 << lane_bits; }
    __device__ __forceinline__ Int64 first() const { return index_of_thread() >> lane_bits; }
    __device__ __forceinline__ Int64 count() const { return threads_in_grid() >> lane_bits; }
};

template <class Pack, class Value>
__device__ __forceinline__ void fill_row(Value* out, Int64 dim, Value value, const Teams& teams) {
    Pack pack;
    for (int i = 0; i < Pack::size; ++i) pack.values[i] = value;
#pragma unroll 1
    for (Int64 column = teams.lane() * Pack::size; column < dim; column += teams.size() * Pack::size) {
        pack.to(out + column);
    }
}

template <class Pack, bool Two, class Value>
__device__ __forceinline__ void mean_row(
    const Value* one, const Value* other, Value* out, Int64 dim, const Teams& teams
) {
    // A team is as wide as a row, where that fits a warp: there is nothing to unroll.
#pragma unroll 1
    for (Int64 column = teams.lane() * Pack::size; column < dim; column += teams.size() * Pack::size) {
        Pack pack = Pack::of(one + column);
        if constexpr (Two) {
            const Pack second = Pack::of(other + column);
            for (int i = 0; i < Pack::size; ++i) {
                const Wide<Value> sum = widened(pack.values[i]) + widened(second.values[i]);
                pack.values[i] = narrowed<Value>(sum * (Wide<Value>)0.5);
            }
        }
        pack.to(out + column);
    }
}

template <class Pack, class Value, class Code, class Index, bool Two>
__device__ void look_up(
    const Lookup<Code, Index>& lookup, Int64 count, const Value* codebook, Int64 dim, const Teams& teams, Value* out
) {
    const Wide<Value> nan = __uint_as_float(0x7fc00000u);
    for (Int64 place = teams.first(); place < count; place += teams.count()) {
        const Int64 id = lookup.id(place);
        const Int64 one = lookup.row(lookup.codes, id);
        const Int64 other = Two ? lookup.row(lookup.secondary, id) : one;
        Value* target = out + place * dim;
        if (id == lookup.padding && id >= 0) {
            fill_row<Pack>(target, dim, narrowed<Value>(0), teams);
        } else if (one == NONE || other == NONE) {
            fill_row<Pack>(target, dim, narrowed<Value>(nan), teams);
        } else {
            mean_row<Pack, Two>(codebook + one * dim, codebook + other * dim, target, dim, teams);
        }
    }
}

template <class Value, class Code, class Index, bool Two>
__global__ void __launch_bounds__(THREADS) codebook_rows(
    const Code* codes, const Code* secondary, Int64 num_ids, Int64 rows, const Index* indices, Int64 count,
    Int64 padding, const Value* codebook, Int64 dim, int packed, int lane_bits, Value* out
) {
    const Lookup<Code, Index> lookup{codes, secondary, num_ids, rows, indices, padding};
    const Teams teams{lane_bits};
    if (packed) {
        look_up<Sixteen<Value>, Value, Code, Index, Two>(lookup, count, codebook, dim, teams, out);
    } else {
        look_up<Single<Value>, Value, Code, Index, Two>(lookup, count, codebook, dim, teams, out);
    }
}

// keys[k]: the row that place k reads; keys[count + k]: its second. NONE for the padding and what is out of range.
template <class Code, class Index, bool Two>
__global__ void __launch_bounds__(THREADS) codebook_keys(
    const Code* codes, const Code* secondary, Int64 num_ids, Int64 rows, const Index* indices, Int64 count,
    Int64 padding, Code* keys
) {
    const Lookup<Code, Index> lookup{codes, secondary, num_ids, rows, indices, padding};
    for (Int64 place = index_of_thread(); place < count; place += threads_in_grid()) {
        const Int64 id = lookup.id(place);
        Int64 one = id == padding ? NONE : lookup.row(codes, id);
        if constexpr (Two) {
            Int64 other = id == padding ? NONE : lookup.row(secondary, id);
            if (one == NONE || other == NONE) one = other = NONE;
            keys[count + place] = (Code)other;
        }
        keys[place] = (Code)one;
    }
}

// A list of terms, sorted by the row that they belong to: term number order[j], less `period` where it is not below,
// for j from begins[r] to ends[r] - 1; times weights[j], where they are weighted.
template <class Value, class Index, bool Weighted>
struct Terms {
    const Value* terms;
    Int64 period;
    Int64 dim;
    const Index* order;
    const Value* weights;
    const Index* begins;
    const Index* ends;

    __device__ __forceinline__ const Value* row(Int64 place) const {
        const Int64 number = order[place];
        return terms + (number < period ? number : number - period) * dim;
    }

    // The sum of a range of the list, one after another, for the columns from `column` on.
    template <class Pack>
    __device__ __forceinline__ void sum(Int64 begin, Int64 end, Int64 column, Wide<Value>* sums) const {
        for (int i = 0; i < Pack::size; ++i) sums[i] = 0;
#pragma unroll 4
        for (Int64 place = begin; place < end; ++place) {
            const Pack pack = Pack::of(row(place) + column);
            if constexpr (Weighted) {
                const Wide<Value> weight = widened(weights[place]);
                for (int i = 0; i < Pack::size; ++i) sums[i] += weight * widened(pack.values[i]);
            } else {
                for (int i = 0; i < Pack::size; ++i) sums[i] += widened(pack.values[i]);
            }
        }
    }
};

// Rows of more than `piece` terms. counters[0]: how many; counters[1]: how many pieces they have together. Which places
// they get depends on the order of threads, their sums do not.
struct LongRows {
    Int64 piece;
    Int64* counters;
    Int64* rows;
    Int64* first_pieces;

    __device__ __forceinline__ Int64 pieces(Int64 length) const { return (length + piece - 1) / piece; }

    __device__ __forceinline__ void add(Int64 row, Int64 length, Int64* piece_rows, Int64* piece_numbers) const {
        const Int64 place = (Int64)atomicAdd((Word*)&counters[0], (Word)1);
        const Int64 first = (Int64)atomicAdd((Word*)&counters[1], (Word)pieces(length));
        rows[place] = row;
        first_pieces[place] = first;
        for (Int64 number = 0; number < pieces(length); ++number) {
            piece_rows[first + number] = row;
            piece_numbers[first + number] = number;
        }
    }
};

template <class Pack, class Value, class Index, bool Weighted>
__device__ void sum_rows(
    const Terms<Value, Index, Weighted>& terms, Int64 rows, Wide<Value> factor, const Teams& teams,
    const LongRows& long_rows, Int64* piece_rows, Int64* piece_numbers, Value* totals
) {
    for (Int64 row = teams.first(); row < rows; row += teams.count()) {
        const Int64 begin = terms.begins[row];
        const Int64 end = terms.ends[row];
        if (end - begin > long_rows.piece) {
            if (teams.lane() == 0) long_rows.add(row, end - begin, piece_rows, piece_numbers);
            continue;
        }
        for (Int64 column = teams.lane() * Pack::size; column < terms.dim; column += teams.size() * Pack::size) {
            Wide<Value> sums[Pack::size];
            terms.template sum<Pack>(begin, end, column, sums);
            Pack total;
            for (int i = 0; i < Pack::size; ++i) total.values[i] = narrowed<Value>(sums[i] * factor);
            total.to(totals + row * terms.dim + column);
        }
    }
}

template <class Value, class Index, bool Weighted>
__global__ void __launch_bounds__(THREADS, 4) row_sums(
    const Value* terms, Int64 period, Int64 dim, const Index* order, const Value* weights, const Index* begins,
    const Index* ends, Int64 rows, double factor, int packed, int lane_bits, Int64 piece, Int64* counters,
    Int64* long_rows, Int64* first_pieces, Int64* piece_rows, Int64* piece_numbers, Value* totals
) {
    const Terms<Value, Index, Weighted> list{terms, period, dim, order, weights, begins, ends};
    const LongRows longer{piece, counters, long_rows, first_pieces};
    const Teams teams{lane_bits};
    const Wide<Value> scale = (Wide<Value>)factor;
    if (packed) {
        sum_rows<Sixteen<Value>>(list, rows, scale, teams, longer, piece_rows, piece_numbers, totals);
    } else {
        sum_rows<Single<Value>>(list, rows, scale, teams, longer, piece_rows, piece_numbers, totals);
    }
}

template <class Pack, class Value, class Index, bool Weighted>
__device__ void sum_pieces(
    const Terms<Value, Index, Weighted>& terms, Int64 count, Int64 piece, const Int64* piece_rows,
    const Int64* piece_numbers, const Teams& teams, Wide<Value>* sums
) {
    for (Int64 number = teams.first(); number < count; number += teams.count()) {
        const Int64 row = piece_rows[number];
        const Int64 last = terms.ends[row];
        const Int64 begin = terms.begins[row] + piece_numbers[number] * piece;
        const Int64 end = begin + piece < last ? begin + piece : last;
        Wide<Value>* out = sums + number * terms.dim;
        for (Int64 column = teams.lane() * Pack::size; column < terms.dim; column += teams.size() * Pack::size) {
            Wide<Value> part[Pack::size];
            terms.template sum<Pack>(begin, end, column, part);
            for (int i = 0; i < Pack::size; ++i) out[column + i] = part[i];
        }
    }
}

template <class Value, class Index, bool Weighted>
__global__ void __launch_bounds__(THREADS, 4) piece_sums(
    const Value* terms, Int64 period, Int64 dim, const Index* order, const Value* weights, const Index* begins,
    const Index* ends, int packed, int lane_bits, Int64 piece, const Int64* counters, const Int64* piece_rows,
    const Int64* piece_numbers, Wide<Value>* sums
) {
    const Terms<Value, Index, Weighted> list{terms, period, dim, order, weights, begins, ends};
    const Teams teams{lane_bits};
    if (packed) {
        sum_pieces<Sixteen<Value>>(list, counters[1], piece, piece_rows, piece_numbers, teams, sums);
    } else {
        sum_pieces<Single<Value>>(list, counters[1], piece, piece_rows, piece_numbers, teams, sums);
    }
}

// A thread block a row: every team adds up a share of its pieces, the first team the shares, both in ascending order.
template <class Value, class Index>
__global__ void __launch_bounds__(THREADS) finish_sums(
    const Wide<Value>* sums, Int64 dim, const Index* begins, const Index* ends, double factor, int lane_bits,
    Int64 piece, Int64* counters, Int64* long_rows, Int64* first_pieces, Value* totals
) {
    __shared__ Wide<Value> shares[THREADS];
    const LongRows longer{piece, counters, long_rows, first_pieces};
    const Teams teams{lane_bits};
    const int team = threadIdx.x >> lane_bits;
    const int num_teams = THREADS >> lane_bits;
    for (Int64 place = blockIdx.x; place < counters[0]; place += gridDim.x) {
        const Int64 row = long_rows[place];
        const Int64 pieces = longer.pieces((Int64)ends[row] - (Int64)begins[row]);
        const Wide<Value>* parts = sums + first_pieces[place] * dim;
        for (Int64 start = 0; start < dim; start += teams.size()) {
            const Int64 column = start + teams.lane();
            Wide<Value> share = 0;
            if (column < dim) {
#pragma unroll 4
                for (Int64 part = pieces * team / num_teams; part < pieces * (team + 1) / num_teams; ++part) {
                    share += parts[part * dim + column];
                }
            }
            shares[threadIdx.x] = share;
            __syncthreads();
            if (team == 0 && column < dim) {
                for (int other = 1; other < num_teams; ++other) share += shares[(other << lane_bits) + teams.lane()];
                totals[row * dim + column] = narrowed<Value>(share * (Wide<Value>)factor);
            }
            __syncthreads();
        }
    }
}
