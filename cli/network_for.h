// Networks by name, fitted to data.
#pragma once

#include <cstdint>
#include <string>

#include "lithe/data/dataset.h"
#include "lithe/graph/graph.h"

namespace lithe::cli {

/// Whether the name is that of a network and of no file. Throws Error(Input) that lists the networks if it
/// can be neither.
bool names_network(const std::string& name);

/// How images become the input of a network of that name, before any flag.
Preprocess network_preprocess(const std::string& name);

struct NetworkRequest {
  std::string name, data_spec;  // the latter for messages
  std::int64_t classes = 0;     // 0: as many as the data have
  std::int64_t scale = 2;       // of super-resolution where the data do not show it
  bool labels = false;          // a noise predictor is told the label
  std::uint64_t seed = 0;
};

/// The network with the size of the data's images and the number of their classes, its weights drawn anew.
Graph network_for(const NetworkRequest& request, const Dataset& data, const Preprocess& preprocess);

}  // namespace lithe::cli
