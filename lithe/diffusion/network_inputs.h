// Which input of a graph is the noisy image, which the time, which the label.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lithe/engine/executor.h"
#include "lithe/graph/graph.h"

namespace lithe {

/// Names of inputs; those left empty are found.
struct InputNames {
  std::string image, time, label;
};

/// What a network of diffusion takes. Sizes are -1 where the graph leaves them free.
struct NetworkInputs {
  ValueInfo image;                                // float [n, channels, height, width]
  std::optional<ValueInfo> time;                  // a number, [1], [n] or [n, 1]; integer or float
  std::optional<ValueInfo> label;                 // integer [n] or [n, 1]
  std::int64_t batch = 0;                         // that the shapes fix; 0: free
  std::vector<std::int64_t> image_shape() const;  // channels, height, width
};

/// Finds the inputs by name and shape. The image is the float input of four axes. The time is called t,
/// timestep, timesteps, time or the like, the label y, class, class_labels, labels or the like; a single one
/// that is left over and fits is the time. Throws Error(Input) that lists the inputs that cannot be told
/// and says how to name them, or that names an input that is not there or does not fit.
NetworkInputs find_network_inputs(const Graph& graph, const InputNames& names = {});

/// The time as that input takes it, for `count` images. Throws Error(Input) for a fractional time where the
/// input takes integers, unless it may be rounded.
at::Tensor time_feed(const ValueInfo& input, double timestep, std::int64_t count, bool round);

/// The labels int64 [n] as that input takes them.
at::Tensor label_feed(const ValueInfo& input, const at::Tensor& labels);

/// The number of classes that the label chooses between, by the table or the one-hot code that it ends in.
std::optional<std::int64_t> class_count(const Graph& graph, const std::string& label);

}  // namespace lithe
