// The rewrite that learns how many tokens to keep.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lithe/tokens/account.h"
#include "lithe/tokens/choose.h"
#include "lithe/tokens/compress.h"

namespace lithe {

struct SearchOptions {
  TokenKind kind = TokenKind::Both;
  std::int64_t granularity = 1;  // candidates are so many tokens apart
  TokenSizes sizes = TokenSizes::Faithful;
};

/// A block whose counts are learnt.
struct LearntBlock {
  std::size_t block = 0;
  std::string prune_theta, merge_theta;  // constants, float32 [candidates], 0 at the start
  std::string pruned, merged;            // outputs: tokens kept, scalars
};

struct SearchGraph {
  Graph graph;       // outputs: those of the model, `macs`, and the counts of the blocks
  std::string macs;  // share of the dense multiply-accumulates, a scalar
  std::vector<LearntBlock> blocks;
  std::vector<std::string> thetas;  // those that are to be learnt
  std::int64_t patches = 0, specials = 0, granularity = 1;
};

/// Rewrites `prepared`: tokens keep their places; masks hide what is removed; every softmax over tokens
/// respects them. Chen et al., ICCV 2023, in the form of the authors' code; what `kind` leaves out keeps
/// everything.
SearchGraph insert_search(const Graph& prepared, const TokenModel& model, const TokenCost& cost,
                          const TokenLimits& limits, const SearchOptions& options = {});

/// The counts that the constants of `graph` (a SearchGraph's, as learnt) stand for, of all blocks, in fact.
TokenSchedule learnt_schedule(const Graph& graph, const SearchGraph& search, const TokenModel& model);

}  // namespace lithe
