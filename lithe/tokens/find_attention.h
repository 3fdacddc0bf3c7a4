// Where a vision transformer's blocks are, from its graph alone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/tokens/follow_tokens.h"

namespace lithe {

/// One block with self-attention, by the names of its values.
struct AttentionBlock {
  std::string name;           // what its nodes are called, for people
  std::string entry;          // tokens that attention is added to [b, n, c]
  std::string logits;         // what the softmax reads [b, heads, n, n] or [b heads, n, n]
  std::string probabilities;  // what it gives
  std::string queries, keys;  // factors of the scores: [..., n, d] and [..., d, n]
  std::string context;        // probabilities times values [..., n, d]
  std::string residual;       // entry plus what attention made of it [b, n, c]: tokens are reduced here
  bool flat = false;          // heads and batch share an axis
};

enum class TokenTail {
  Specials,  // only special tokens are read
  Mean,      // the mean over the tokens, or over those behind the special ones
};

struct TokenModel {
  std::vector<AttentionBlock> blocks;
  std::int64_t tokens = 0, specials = 0, width = 0, heads = 0;
  TokenTail tail = TokenTail::Specials;
  std::string mean;                // the output of the ReduceMean of TokenTail::Mean
  std::int64_t mean_from = 0;      // the first token of it
  std::vector<std::string> aside;  // attention that is left alone, one line each with the reason
  /// Queries of the attention that importance is read from: so many in front, as many as special tokens are
  /// read behind the last block (1 for a class token, 2 with DeiT's second one); 0: all of them, where none
  /// is read and a mean over several tokens takes their place. A single special token that nobody reads
  /// counts as a class token: MAE's classifiers average patches, and their authors go by it.
  std::int64_t rows = 1;
  std::int64_t grid_rows = 0, grid_columns = 0;           // how patches lie in the picture; 0: not known
  std::map<std::string, TokenPlace, std::less<>> places;  // values behind the first step that hold tokens
};

/// Gives inputs whose height and width are free the sizes of `shapes`; a free batch stays free. Throws
/// Error(Input) naming an input that is not there or whose rank or fixed sizes differ.
void fix_input_sizes(Graph& graph, const InputShapes& shapes);

/// The graph as `find_attention` wants it: constants in one place, Attention operators (opset 23) written
/// out. Throws Error(Input) naming an Attention node that is not plain self-attention.
Graph prepare_tokens(const Graph& model);

/// Finds the blocks of pre-norm vision transformers as PyTorch's exporters write them: fused or separate q, k
/// and v, scaled before or after the product, heads in an axis of their own or in that of the batch, with or
/// without LayerScale. Every softmax over a product of two computed matrices is an anchor; from there the
/// walk goes to the sum that attention joins. How many tokens in front are special (class token, distillation
/// token, registers) is found by running the stem on two images. Throws Error(Input) naming the node and the
/// reason if there is no attention, or if a block is not of this kind: windows, relative position bias,
/// masks, post-norm, parallel branches, tokens of several sizes, an output that shows all tokens, and
/// whatever else works across tokens (see `follow_tokens`).
TokenModel find_attention(const Graph& prepared);

}  // namespace lithe
