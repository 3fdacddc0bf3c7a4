#include "lithe/data/loader.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <numeric>
#include <optional>
#include <thread>

#include "lithe/base/error.h"
#include "lithe/base/random.h"

namespace lithe {
namespace {

std::string shape_text(const at::Tensor& tensor) {
  return tensor.defined() ? format_shape(tensor.sizes()) : "none";
}

std::int64_t numbers_of(const Sample& sample) {
  std::int64_t numbers = sample.target.defined() ? sample.target.numel() : 0;
  for (const auto& [name, input] : sample.inputs) numbers += input.numel();
  return numbers;
}

bool same_shape(const at::Tensor& a, const at::Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() == b.defined();
  return a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type();
}

bool same_shape(const Sample& a, const Sample& b) {
  return same_shape(a.target, b.target) && a.inputs.size() == b.inputs.size() &&
         std::equal(a.inputs.begin(), a.inputs.end(), b.inputs.begin(), [](const auto& x, const auto& y) {
           return x.first == y.first && same_shape(x.second, y.second);
         });
}

at::Tensor stack_tensors(std::vector<at::Tensor> tensors, const std::vector<Sample>& samples) {
  for (std::size_t i = 1; i < tensors.size(); ++i)
    if (!same_shape(tensors[0], tensors[i]))
      fail("{}: has the shape {}, {} has {}; resize (--resize, --crop) or use --batch 1", samples[i].name,
           shape_text(tensors[i]), samples[0].name, shape_text(tensors[0]));
  return at::stack(tensors);
}

}  // namespace

Batch stack(const std::vector<Sample>& samples) {
  if (samples.empty()) fail("a batch needs at least one sample");
  Batch batch;
  std::vector<std::int64_t> labels;
  std::vector<at::Tensor> targets;
  for (const Sample& sample : samples) {
    batch.names.push_back(sample.name);
    labels.push_back(sample.label);
    targets.push_back(sample.target);
  }
  for (const auto& [name, first] : samples[0].inputs) {
    std::vector<at::Tensor> tensors;
    for (const Sample& sample : samples) {
      const auto found = sample.inputs.find(name);
      if (found == sample.inputs.end()) fail("{}: lacks the input '{}'", sample.name, name);
      tensors.push_back(found->second);
    }
    batch.inputs[name] = stack_tensors(std::move(tensors), samples);
  }
  if (labels[0] >= 0) batch.labels = at::tensor(labels, at::kLong);
  if (targets[0].defined()) batch.targets = stack_tensors(std::move(targets), samples);
  return batch;
}

struct Loader::Impl {
  DatasetPtr dataset;
  LoaderOptions options;
  std::vector<std::int64_t> order;

  // A ring of samples: workers fill positions [consumed, consumed + window), the consumer empties them in
  // order.
  struct Slot {
    std::optional<Sample> sample;
    std::exception_ptr error;
  };
  std::mutex mutex;
  std::condition_variable room, filled;
  std::vector<Slot> ring;
  std::size_t claimed = 0, consumed = 0;
  std::int64_t held = 0;  // numbers in the ring
  bool stopping = false;
  std::vector<std::thread> workers;
  std::optional<Sample> ahead;  // the sample that did not fit the last batch

  void work() {
    while (true) {
      std::size_t position = 0;
      {
        std::unique_lock lock(mutex);
        // The sample that is waited for is always decoded, whatever is held.
        const auto fits = [&] {
          return options.numbers == 0 || held < options.numbers || claimed == consumed;
        };
        room.wait(lock, [&] {
          return stopping || claimed >= order.size() || (claimed < consumed + ring.size() && fits());
        });
        if (stopping || claimed >= order.size()) return;
        position = claimed++;
      }
      Slot slot;
      try {
        slot.sample = dataset->get(order[position]);
      } catch (...) {
        slot.error = std::current_exception();
      }
      {
        const std::lock_guard lock(mutex);
        if (slot.sample) held += numbers_of(*slot.sample);
        ring[position % ring.size()] = std::move(slot);
      }
      filled.notify_all();
    }
  }

  std::optional<Sample> take() {
    if (ahead) return std::exchange(ahead, std::nullopt);
    if (consumed >= order.size()) return std::nullopt;
    if (workers.empty()) return dataset->get(order[consumed++]);
    Slot slot;
    {
      std::unique_lock lock(mutex);
      Slot& next = ring[consumed % ring.size()];
      filled.wait(lock, [&] { return next.sample || next.error; });
      slot = std::exchange(next, Slot{});
      if (slot.sample) held -= numbers_of(*slot.sample);
      ++consumed;
    }
    room.notify_all();
    if (slot.error) std::rethrow_exception(slot.error);
    return std::move(slot.sample);
  }
};

Loader::Loader(DatasetPtr dataset, const LoaderOptions& options) : impl_(std::make_unique<Impl>()) {
  if (options.batch < 1) fail("--batch {}: a batch needs at least one sample", options.batch);
  impl_->options = options;
  if (options.shuffle) {
    impl_->order = Rng(options.seed, options.epoch).permutation(dataset->size());
  } else {
    impl_->order.resize(static_cast<std::size_t>(dataset->size()));
    std::iota(impl_->order.begin(), impl_->order.end(), std::int64_t{0});
  }
  impl_->dataset = std::move(dataset);
  const auto window = static_cast<std::size_t>(std::clamp<std::int64_t>(2 * options.batch, 4, 512));
  if (options.threads > 1 || (options.threads == 1 && impl_->order.size() > 1)) {
    impl_->ring.resize(window);
    const auto count = std::min<std::size_t>(static_cast<std::size_t>(options.threads), window);
    for (std::size_t i = 0; i < count; ++i) impl_->workers.emplace_back([this] { impl_->work(); });
  }
}

Loader::~Loader() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->room.notify_all();
  for (std::thread& worker : impl_->workers) worker.join();
}

std::int64_t Loader::samples() const {
  return static_cast<std::int64_t>(impl_->order.size());
}

bool Loader::next(Batch& batch) {
  std::vector<Sample> samples;
  std::int64_t numbers = 0;
  while (static_cast<std::int64_t>(samples.size()) < impl_->options.batch) {
    std::optional<Sample> sample = impl_->take();
    if (!sample) break;
    numbers += numbers_of(*sample);
    const bool too_many = impl_->options.numbers > 0 && numbers > impl_->options.numbers;
    if (!samples.empty() && (too_many || !same_shape(samples[0], *sample))) {
      impl_->ahead = std::move(sample);
      break;
    }
    samples.push_back(std::move(*sample));
  }
  const bool last = !impl_->ahead && impl_->consumed >= impl_->order.size();
  if (samples.empty()) return false;
  if (last && impl_->options.drop_last && static_cast<std::int64_t>(samples.size()) < impl_->options.batch)
    return false;
  batch = stack(samples);
  return true;
}

Feeds bind_inputs(const Graph& graph, const Feeds& inputs) {
  Feeds out;
  for (const auto& [name, tensor] : inputs) {
    if (name.empty()) {
      const auto required = graph.required_inputs();
      if (required.size() != 1)
        fail(
            "the model has {} inputs, but the data hold one tensor a sample; give a .npz file with an array "
            "for "
            "each input",
            required.size());
      out[required[0]->name] = tensor;
    } else {
      const bool known = std::any_of(graph.inputs.begin(), graph.inputs.end(),
                                     [&name = name](const ValueInfo& input) { return input.name == name; });
      if (!known) {
        std::string names;
        for (const ValueInfo& input : graph.inputs) names += (names.empty() ? "" : ", ") + input.name;
        fail("the data hold an array '{}', which is no input of the model; its inputs are {}", name, names);
      }
      out[name] = tensor;
    }
  }
  return out;
}

std::int64_t fixed_batch(const Graph& graph) {
  const auto required = graph.required_inputs();
  if (required.empty() || !required[0]->shape || required[0]->shape->empty()) return 0;
  const Dim& first = required[0]->shape->front();
  return first.known() ? first.value : 0;
}

Batch load_all(const DatasetPtr& dataset, std::int64_t limit, int threads) {
  std::int64_t count = dataset->size();
  if (limit >= 0) count = std::min(count, limit);
  std::vector<std::int64_t> indices(static_cast<std::size_t>(count));
  std::iota(indices.begin(), indices.end(), std::int64_t{0});
  Loader loader(subset(dataset, std::move(indices)),
                {.batch = std::max<std::int64_t>(count, 1), .threads = threads});
  Batch out;
  if (!loader.next(out)) fail("the data hold no samples");
  if (out.size() != count)
    fail("{}: the samples differ in shape from here on; resize them (--resize, --crop)", out.names.back());
  return out;
}

}  // namespace lithe
