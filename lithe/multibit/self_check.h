// Compares an exported model with what it was made of.
#pragma once

#include <optional>

#include "lithe/engine/executor.h"
#include "lithe/multibit/session.h"

namespace lithe {

/// Largest differences, and how often the class is the same.
struct ExportCheck {
  int bits = 0;
  double to_float = 0;  // of the scores, from the float graph
  /// At the body's exit, from the integer run time given the same entry; nothing without a session. The exact
  /// forms give 0 (see deploy.h for bodies of which that cannot be said).
  std::optional<double> to_integer;
  /// Of the scores, from the exact static form; nothing if this is what was exported.
  std::optional<double> to_static;
  double agreement = 1;  // share of the samples with the class that the float graph gives
};

/// Runs `exported`, made of the multi-bit model `graph` by a function of deploy.h, at one bit-width on inputs
/// of the model. Changes the bit-width of `session`, a session of `graph`, which may be missing.
ExportCheck check_export(const Graph& graph, MultibitSession* session, const Graph& exported, int bits,
                         const Feeds& inputs);

}  // namespace lithe
