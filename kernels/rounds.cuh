// What the kernels of merging share: states, counts, and how a hub is cut.
#pragma once

#include "candidate.cuh"
#include "table.cuh"

enum State : unsigned char { KNOWN, CHANGED, WAITING, MISSED };  // MISSED: an offer had no room

// Where in `counts` the kernels of a round count.
enum Count { SHORT, MIDDLE, HUBS, SLOTS, SECOND_PASS, OFFERS = 2 * SECOND_PASS, GROUPED, ALIVE, USER_ROWS, ITEM_ROWS, ROUND };

constexpr Int64 PIECE = BACO_BLOCK_SLOTS;  // edges of a hub that a warp takes at a time
constexpr int PIECE_BITS = 36;             // the hubs are counted above those bits, and their pieces below
