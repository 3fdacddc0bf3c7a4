// Runs a multi-bit model in whole numbers, at a bit-width that can be changed between two images at no cost.
//
//   MultibitSession session(read_onnx("resnet20.mb.onnx"));
//   session.set_bits(4);
//   session.run(pixels, scores);
//
// The weights of every branch are kept once, packed in 2 bits, and unpacked block by block while a
// convolution runs; batch norms and the quantisers' scales are folded into one scale and shift a channel and
// bit-width. One thread. A session uses no tensors, although the library that it is part of links LibTorch
// for training.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "lithe/graph/graph.h"
#include "lithe/kernels/two_bit_conv.h"

namespace lithe {

class MultibitSession {
 public:
  /// Compiles every bit-width of the model and starts at the most bits. Throws Error(Input) naming the node
  /// if the model is not of method mbquant, or holds an operator that this run time does not have.
  explicit MultibitSession(const Graph& graph, TwoBitTarget target = best_two_bit_target());
  ~MultibitSession();
  MultibitSession(MultibitSession&&) noexcept;
  MultibitSession& operator=(MultibitSession&&) noexcept;

  /// Changes a number, whatever the model's size; allocates nothing. Throws Error(Input) that lists the
  /// bit-widths if the model was not trained for it.
  void set_bits(int bits);
  int bits() const;
  const std::vector<int>& all_bits() const;

  std::int64_t classes() const;
  std::int64_t input_count() const;  // floats of an image [channels, height, width]
  std::int64_t entry_count() const;  // of what the stem makes
  std::int64_t exit_count() const;   // of the mean over the branches

  /// scores [classes] of an image [channels, height, width]. Allocates nothing.
  void run(const float* image, float* scores);
  /// The body alone: exit [channels, height, width] from entry [channels, height, width]. Equal, bit for bit,
  /// to the exported integer models (deploy.h) in any runtime that follows ONNX, unless the body has average
  /// pools or convolutions in float, whose sums runtimes add up in orders of their own.
  void run_body(const float* entry, float* exit);

  /// The least of so many runs, at least one, of an image of zeros, which other work on the machine disturbs
  /// least.
  double seconds_an_image(std::int64_t repeats);

  std::int64_t packed_weight_bytes() const;  // of all branches together
  /// Bytes of float constants, each kept once: stem, head, scales and shifts of all bit-widths.
  std::int64_t float_bytes() const;
  TwoBitTarget target() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lithe
