// The operators of domain "lithe" that thin out the tokens of a transformer, as functions of standard
// operators.
#pragma once

#include "lithe/graph/graph.h"

namespace lithe {

/// `TokenPrune(x, attention, size; kept, specials, rows)` -> (x', size'): x [b, n, c], attention [b, heads,
/// queries, n] after its softmax, size [b or 1, n]. The importance of a token is the mean of its column of
/// attention over the heads and the first `rows` queries. The first `specials` tokens stay in front, then
/// come the most important others, `kept` tokens in all; of equally important ones those of lower index.
inline constexpr const char* kTokenPrune = "TokenPrune";
/// `TokenReduce(x, attention, size; prune, merge, specials, rows, scaled, weighted, least)` -> (x', size'):
/// prunes to `prune` tokens, then folds each token behind the first `merge` into the one of them, special
/// ones left out, whose direction is nearest. x' is the mean of a group (of sizes `weighted`: 0 or 1), size'
/// the sum of its sizes; the sizes of tokens that are folded in are multiplied by the cosine if `scaled` is
/// 1, then all are made at least `least`. Chen et al., "DiffRate: Differentiable Compression Rate for
/// Efficient Vision Transformers", ICCV 2023, with a floor of 1e-6 below all sizes, whose logarithm is taken.
inline constexpr const char* kTokenReduce = "TokenReduce";
/// `TokenReduceOwn(x, attention, size; prune, merge, specials, rows, mass, scaled, weighted, least)` -> (x',
/// size'): TokenReduce with counts of every sample's own. A token of size 0 is not there. A sample prunes to
/// its most important tokens that hold the share `mass` (0 to 1) of the importance of all that are not
/// special, one of them at least and no more than `prune` tokens in all, and merges what is more than
/// `merge`. The result has as many tokens as the sample that keeps most; behind a sample's own ones they are
/// 0 and of size 0.
inline constexpr const char* kTokenReduceOwn = "TokenReduceOwn";
/// `TomeMerge(x, keys, size; removed, specials, order)` -> (x', size'): keys [b, heads, d, n]. Tokens of even
/// index find the most similar one of odd index by the mean of the keys over the heads; the `removed` most
/// similar pairs become one, by size. Those of even index that stay and then those of odd index are put out
/// in the order of `order`. Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023.
inline constexpr const char* kTomeMerge = "TomeMerge";
/// `EvitReduce(x, attention; kept, specials, rows)` -> x': the tokens that TokenPrune keeps, and one that is
/// the sum of the others times their importance. Liang et al., "Not All Patches are What You Need: Expediting
/// Vision Transformers via Token Reorganizations", ICLR 2022.
inline constexpr const char* kEvitReduce = "EvitReduce";

/// Below all sizes of TokenReduce.
inline constexpr float kSmallestTokenSize = 1e-6f;
/// Below the length of a token whose direction is compared.
inline constexpr float kSmallestTokenLength = 1e-12f;

/// Declares those that the graph uses as model-local functions. Throws Error(Input) below opset 12.
void add_token_functions(Graph& graph);

}  // namespace lithe
