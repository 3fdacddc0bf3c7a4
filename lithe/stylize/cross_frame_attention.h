// Lets the frames of a video look at one another inside an image model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

/// Attention found in a network: softmax over a product of two computed matrices, times a third.
struct FoundAttention {
  std::string name;  // what its nodes are called, for people
  std::string
      tokens;  // value that queries, keys and values are projected from [batch, n, c]; "" if they differ
  std::string context;  // softmax times values
  std::string output;   // behind the projection that follows [batch, n, c']; "" if there is none
  std::string trouble;  // why neither self-attention nor cross-attention was recognised; else ""
  bool self = false;
};

/// All attention of a network as PyTorch's exporters write it: heads in an axis of their own or in that of
/// the batch, products by MatMul or Einsum, queries, keys and values projected one by one or together. The
/// nodes must be sorted and constants in one place (see adopt_constants).
std::vector<FoundAttention> find_network_attention(const Graph& graph);

/// The network in which self-attention sees `frames` pictures at a time: along the batch lie sets of so many
/// pictures, and tokens [b frames, n, c] become [b, frames n, c] in front of every self-attention and part
/// again behind it (Duan et al., "DiffSynth", ECML PKDD 2024, after Wu et al., "Tune-A-Video", ICCV 2023).
/// Attention to other inputs, such as a text, stays. Throws Error(Input) that says how many attentions were
/// recognised, and what was wrong with the first that was not, if that is not all of them or none attends to
/// itself; and for fewer than 2 frames or a fixed batch that is no multiple of them.
Graph with_cross_frame_attention(const Graph& model, std::int64_t frames);

}  // namespace lithe
