#include "lithe/sparsify/learn.h"

#include <algorithm>

#include "lithe/base/error.h"
#include "lithe/ops/registry.h"

namespace lithe {
namespace {

TensorData data_of(Executor& executor, const std::string& constant) {
  return to_tensor_data(executor.constant(constant).detach());
}

at::Tensor as_bytes(const std::vector<std::uint8_t>& mask) {
  return at::tensor(at::ArrayRef<std::uint8_t>(mask), at::kByte);
}

std::vector<std::uint8_t> from_bytes(const at::Tensor& tensor) {
  const at::Tensor bytes = tensor.to(at::kCPU, at::kByte).contiguous();
  return {bytes.data_ptr<std::uint8_t>(), bytes.data_ptr<std::uint8_t>() + bytes.numel()};
}

std::int64_t differing(const std::vector<std::uint8_t>& a, const std::vector<std::uint8_t>& b) {
  std::int64_t count = 0;
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) count += a[i] != b[i] ? 1 : 0;
  return count;
}

}  // namespace

ReestimateOptions reestimate_options(const TrainOptions& training, std::int64_t batches) {
  return {.batches = batches,
          .batch = training.batch,
          .threads = training.threads,
          .seed = training.seed,
          .collective = training.collective};
}

std::int64_t tightened(const SparsityPattern& pattern, std::int64_t epoch, std::int64_t epochs) {
  const std::int64_t steps = std::max<std::int64_t>(epochs - 1, 0);
  if (epoch >= steps) return pattern.kept;
  const std::int64_t above = pattern.group - pattern.kept;
  return pattern.kept + (above * (steps - epoch) + steps - 1) / steps;
}

MaskHooks::MaskHooks(const MaskedGraph& masked, const MaskTraining& options, const TrainOptions& training)
    : masked_(masked),
      options_(options),
      reestimate_(reestimate_options(training, options.norm_batches)),
      spatial_(masked.layers.size()),
      weights_(masked.layers.size()),
      fixed_(masked.layers.size()),
      start_(masked.layers.size()) {}

std::vector<std::uint8_t> MaskHooks::weight_mask(Executor& executor, const MaskedLayer& layer) const {
  return mask_of(data_of(executor, layer.layer.weight), layer.layer);
}

void MaskHooks::before_training(Executor& executor) {
  for (std::size_t i = 0; i < masked_.layers.size(); ++i) {
    const MaskedLayer& layer = masked_.layers[i];
    if (layer.has_branch()) {
      const at::Tensor mask = executor.constant(layer.spatial_mask);
      if (spatial_[i].empty())
        spatial_[i] = from_bytes(mask.reshape({-1}));
      else  // of a checkpoint
        executor.set_constant(layer.spatial_mask, as_bytes(spatial_[i]).to(mask.options()).view_as(mask));
    }
    if (!layer.fixed_mask.empty()) {
      const at::Tensor mask = executor.constant(layer.fixed_mask);
      if (fixed_[i].empty())
        fixed_[i] = from_bytes(mask.reshape({-1}));
      else
        executor.set_constant(layer.fixed_mask, as_bytes(fixed_[i]).to(mask.options()).view_as(mask));
    } else if (weights_[i].empty()) {
      weights_[i] = start_[i] = weight_mask(executor, layer);
    }
  }
}

void MaskHooks::set_kept(Executor& executor, std::int64_t epoch) const {
  for (const MaskedLayer& layer : masked_.layers)
    if (!layer.kept.empty())
      executor.set_constant(layer.kept,
                            at::full_like(executor.constant(layer.kept),
                                          tightened(*layer.layer.pattern, epoch, options_.tighten_epochs)));
}

void MaskHooks::before_step(Executor& executor, std::int64_t epoch, std::int64_t step) {
  if (step == 0) set_kept(executor, epoch);
  if (options_.update == SpatialUpdate::Step || (options_.update == SpatialUpdate::Epoch && step == 0))
    refresh(executor);
}

void MaskHooks::refresh(Executor& executor) {
  for (std::size_t i = 0; i < masked_.layers.size(); ++i) {
    const MaskedLayer& layer = masked_.layers[i];
    if (!layer.has_branch()) continue;
    auto mask = spatial_mask_of(data_of(executor, layer.layer.weight), layer.layer, masked_.options.spatial,
                                options_.margin, spatial_[i]);
    spatial_flips_ += differing(mask, spatial_[i]);
    spatial_asked_ += static_cast<std::int64_t>(mask.size());
    if (mask == spatial_[i]) continue;
    const at::Tensor old = executor.constant(layer.spatial_mask);
    executor.set_constant(layer.spatial_mask, as_bytes(mask).to(old.options()).view_as(old));
    spatial_[i] = std::move(mask);
  }
}

void MaskHooks::before_evaluation(Executor& executor, const DatasetPtr& data) {
  set_kept(executor, options_.tighten_epochs);  // what is scored, and may be kept, follows the pattern
  reestimate_batch_norm(executor, data, reestimate_);
}

std::map<std::string, double> MaskHooks::epoch_numbers(Executor& executor, std::int64_t /*epoch*/) {
  std::map<std::string, double> numbers;
  std::int64_t flips = 0, diverged = 0, all = 0;
  for (std::size_t i = 0; i < masked_.layers.size(); ++i) {
    if (weights_[i].empty()) continue;
    auto mask = weight_mask(executor, masked_.layers[i]);
    flips += differing(mask, weights_[i]);
    diverged += differing(mask, start_[i]);
    all += static_cast<std::int64_t>(mask.size());
    weights_[i] = std::move(mask);
  }
  if (all > 0) {
    numbers["mask_flips"] = static_cast<double>(flips) / static_cast<double>(all);
    numbers["mask_divergence"] = static_cast<double>(diverged) / static_cast<double>(all);
  }
  if (spatial_asked_ > 0)
    numbers["spatial_flips"] = static_cast<double>(spatial_flips_) / static_cast<double>(spatial_asked_);
  spatial_flips_ = spatial_asked_ = 0;
  return numbers;
}

std::map<std::string, std::string> MaskHooks::recipe() const {
  const MaskOptions& masks = masked_.options;
  const char* mode = masks.mode == MaskMode::Fixed             ? "fixed"
                     : masks.mode == MaskMode::StraightThrough ? "straight-through"
                                                               : "straight-through, refined";
  std::map<std::string, std::string> recipe = options_.recipe;
  recipe["masks"] = mode;
  recipe["decay of pruned weights"] = fmt::format("{}", masks.decay);
  recipe["epochs of tightening"] = fmt::format("{}", options_.tighten_epochs);
  recipe["batches for norms"] = fmt::format("{}", options_.norm_batches);
  for (const MaskedLayer& one : masked_.layers)
    recipe[fmt::format("pattern of '{}'", one.layer.weight)] = format_sparsity(*one.layer.pattern);
  if (!masks.branches) return recipe;
  recipe["scale of branches"] = fmt::format("{}", masks.branch_gamma);
  recipe["place of branches"] = masks.spatial == SpatialChoice::Everywhere ? "everywhere"
                                : masks.spatial == SpatialChoice::Inverted ? "inverted"
                                                                           : "measured";
  recipe["spatial update"] = options_.update == SpatialUpdate::Step    ? "step"
                             : options_.update == SpatialUpdate::Epoch ? "epoch"
                                                                       : "never";
  recipe["spatial margin"] = fmt::format("{}", options_.margin);
  return recipe;
}

std::map<std::string, at::Tensor> MaskHooks::state() const {
  std::map<std::string, at::Tensor> state;
  for (std::size_t i = 0; i < masked_.layers.size(); ++i) {
    const std::string& weight = masked_.layers[i].layer.weight;
    if (!spatial_[i].empty()) state["spatial/" + weight] = as_bytes(spatial_[i]);
    if (!weights_[i].empty()) state["weights/" + weight] = as_bytes(weights_[i]);
    if (!start_[i].empty()) state["start/" + weight] = as_bytes(start_[i]);
    if (!fixed_[i].empty()) state["fixed/" + weight] = as_bytes(fixed_[i]);
  }
  state["spatial_counts"] = at::tensor({spatial_flips_, spatial_asked_}, at::kLong);
  return state;
}

void MaskHooks::load_state(const std::map<std::string, at::Tensor>& state) {
  const auto take = [&](const std::string& key, std::int64_t size, std::vector<std::uint8_t>& into) {
    const auto found = state.find(key);
    if (found == state.end()) fail("the checkpoint lacks the mask '{}'; leave --resume out", key);
    if (found->second.numel() != size)
      fail("the checkpoint's mask '{}' has {} elements, the model's {}; it is of another model", key,
           found->second.numel(), size);
    into = from_bytes(found->second);
  };
  for (std::size_t i = 0; i < masked_.layers.size(); ++i) {
    const MaskedLayer& one = masked_.layers[i];
    const SparseLayer& layer = one.layer;
    if (one.has_branch()) take("spatial/" + layer.weight, layer.groups.inner, spatial_[i]);
    if (!one.fixed_mask.empty()) {
      take("fixed/" + layer.weight, layer.groups.count(), fixed_[i]);
    } else {
      take("weights/" + layer.weight, layer.groups.count(), weights_[i]);
      take("start/" + layer.weight, layer.groups.count(), start_[i]);
    }
  }
  if (const auto counts = state.find("spatial_counts");
      counts != state.end() && counts->second.numel() == 2) {
    spatial_flips_ = counts->second[0].item<std::int64_t>();
    spatial_asked_ = counts->second[1].item<std::int64_t>();
  }
}

}  // namespace lithe
