// Crops of images beside one another: what quantising an image-to-image model does to them.
#pragma once

#include <vector>

#include "lithe/data/dataset.h"
#include "lithe/quantize/quantize.h"
#include "lithe/report/report.h"

namespace lithe::cli {

struct PreviewOptions {
  std::int64_t images = 3;
  Preprocess preprocess;
  at::Device device = at::kCPU;
};

/// Throws Error(Input), before anything takes long, if the model makes no pictures (gray or of three colours)
/// from the first of the data.
void require_pictures(const Graph& model, const DatasetPtr& data, const PreviewOptions& options);

/// A picture for each of the first samples: the part where min-max differs most from float, as the target (if
/// the data have one), the float model, the quantised one and min-max show it. Throws as `require_pictures`
/// does.
std::vector<Picture> preview(const Graph& model, const Quantized& quantized, const DatasetPtr& data,
                             const std::string& method, const PreviewOptions& options);

}  // namespace lithe::cli
