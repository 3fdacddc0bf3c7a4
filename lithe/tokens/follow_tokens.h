// Where the tokens of a transformer are in the values behind its first block, and what reads them how.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

struct AttentionBlock;

/// An axis of a value whose index runs over outer x tokens x inner; tokens lie as they do in the stream.
struct TokenAxis {
  std::size_t axis = 0;
  std::int64_t outer = 1, inner = 1;
  bool operator==(const TokenAxis&) const = default;
  bool alone() const { return outer == 1 && inner == 1; }
};

/// Of one value that has an entry for each token: one axis, or two in the scores of an attention.
struct TokenPlace {
  std::vector<TokenAxis> axes;
  std::int64_t from = 0;  // the first token that it holds
  std::size_t block = 0;  // whose step its tokens have passed
  bool last = false;      // behind the sum that ends the last block
};

struct FollowedTokens {
  std::map<std::string, TokenPlace, std::less<>> places;
  std::string mean;                    // the mean over the tokens behind the last block; "" if none is taken
  std::int64_t mean_from = 0;          // the first token of it
  std::set<std::int64_t> places_read;  // special tokens that are read by themselves behind the last block
};

/// Walks from the sum behind the first attention to the outputs. Every node that reads tokens must work token
/// by token, be of one of the `blocks`, read special tokens by their places, or take the mean over the tokens
/// behind `last_sum`, the sum that ends the last block. `sized` has concrete shapes. Throws Error(Input)
/// naming the node and the block behind which anything else stands, or an output that shows the tokens.
FollowedTokens follow_tokens(const Graph& sized, const std::vector<AttentionBlock>& blocks,
                             std::int64_t tokens, std::int64_t specials, const std::string& last_sum);

/// Where an axis of tokens is after a Reshape from `from` to `to`, by the products of sizes before and behind
/// it; nothing if the tokens are divided, as for windows or a grid. `count`: tokens that there are.
std::vector<TokenAxis> reshaped_axes(const std::vector<TokenAxis>& axes, std::int64_t count,
                                     const std::vector<std::int64_t>& from,
                                     const std::vector<std::int64_t>& to);

/// The sizes of a value or constant, -1 for one that is not known; none where even the rank is not.
std::vector<std::int64_t> value_sizes(const Graph& graph, const std::string& value);

}  // namespace lithe
