// Training of noise predictors: images in; a network that tells what noise was added to them out.
#pragma once

#include <cstdint>
#include <vector>

#include "lithe/data/dataset.h"
#include "lithe/diffusion/model_record.h"
#include "lithe/diffusion/network_inputs.h"
#include "lithe/graph/graph.h"
#include "lithe/train/train.h"

namespace lithe {

struct NoiseOptions {
  DiffusionRecord diffusion;
  NetworkInputs inputs;      // of the network that gets the samples
  std::int64_t classes = 0;  // labels must be below; 0: any
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;  // other noise and other steps in every epoch
};

/// Samples of one image input x_0 made into what a noise predictor is trained on: image x_t = sqrt(alpha_bar)
/// x_0 + sqrt(1 - alpha_bar) epsilon at a step t drawn uniformly, t itself and the label where the network
/// takes one; the target is what it should predict (Ho et al., NeurIPS 2020, algorithm 1). Step and noise of
/// sample i depend on (seed, epoch, order[i]) alone; an empty order counts 0, 1, ... `get` throws
/// Error(Input) naming the sample if it has no image or no fitting label.
DatasetPtr noised(DatasetPtr images, const NoiseOptions& options, std::vector<std::int64_t> order = {});

/// Trains the network (see `find_network_inputs` for its inputs) by the mean squared error of its prediction;
/// its output must be shaped like the image. Held-out images (`validation`, `validation_share`) are scored by
/// the same loss, with noise and steps that are the same at every evaluation; the lowest is the best.
/// Augmentation acts on the images. `options.loss` is ignored. The range of the images is taken from
/// `options.preprocess`. Both graphs of the result say in their metadata how they were trained
/// (`diffusion_record`). Errors as of `train`.
TrainResult train_denoiser(const Graph& graph, const DatasetPtr& data, DiffusionRecord diffusion,
                           TrainOptions options, Progress& progress);

}  // namespace lithe
