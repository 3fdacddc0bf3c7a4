#include "lithe/engine/executor.h"

#include <algorithm>
#include <deque>
#include <list>
#include <set>
#include <unordered_map>

#include "lithe/base/error.h"
#include "lithe/base/math.h"
#include "lithe/engine/fuse.h"
#include "lithe/engine/program.h"

namespace lithe {
namespace {

constexpr std::size_t kMaxFusedPlans = 8;  // each may hold converted weights
constexpr std::size_t kMaxPlainPlans = 512;

struct Plan {
  Fused fused;  // nodes and constants that the program refers to
  std::unique_ptr<Program> program;
  std::vector<std::string> feeds, fetch;
  std::vector<std::string> absent;  // graph inputs that it needs and that are not fed
};

std::string format_lines(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += (text.empty() ? "" : "; ") + line;
  return text;
}

void check_input(const ValueInfo& info, const at::Tensor& value) {
  if (!value.defined()) fail("the input '{}' is an undefined tensor", info.name);
  if (!info.other_type.empty()) fail("the input '{}' is not a tensor; Lithe runs tensors only", info.name);
  if (info.dtype != DType::Undefined && scalar_type_of(info.dtype) != value.scalar_type())
    fail("the input '{}' has type {}, but the model takes {}; convert it", info.name,
         dtype_name(dtype_of_scalar(value.scalar_type())), dtype_name(info.dtype));
  if (!info.shape) return;
  const auto sizes = value.sizes().vec();
  bool fits = sizes.size() == info.shape->size();
  for (std::size_t i = 0; fits && i < sizes.size(); ++i)
    fits = !(*info.shape)[i].known() || (*info.shape)[i].value == sizes[i];
  if (!fits)
    fail("the input '{}' has shape {}, but the model takes {}; feed that shape", info.name,
         format_shape(sizes), format_type(info));
}

/// The tensor in the element type that the graph stores: undoes the widening of types that LibTorch lacks.
TensorData stored_as(DType dtype, const at::Tensor& tensor) {
  TensorData data = to_tensor_data(tensor);
  if (data.dtype() == dtype || dtype == DType::Undefined || scalar_type_of(dtype) != tensor.scalar_type())
    return data;
  const std::vector<std::int64_t> values = data.to_ints();
  const auto narrow = [&]<typename T>(T) {
    return TensorData::from<T>(data.shape(), std::vector<T>(values.begin(), values.end()));
  };
  switch (dtype) {
    case DType::UInt16:
      return narrow(std::uint16_t{});
    case DType::UInt32:
      return narrow(std::uint32_t{});
    case DType::UInt64:
      return narrow(std::uint64_t{});
    default:
      break;
  }
  const int bits = dtype_bits(dtype);
  if (bits <= 0 || bits >= 8) return data;
  auto packed = std::make_shared<std::vector<std::byte>>(
      static_cast<std::size_t>(packed_bytes(dtype, static_cast<std::int64_t>(values.size()))));
  const std::int64_t mask = (1 << bits) - 1;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t bit = i * static_cast<std::size_t>(bits);
    (*packed)[bit / 8] |= static_cast<std::byte>((values[i] & mask) << (bit % 8));
  }
  return TensorData(dtype, data.shape(), *packed, packed);
}

}  // namespace

struct Executor::Impl {
  struct Constant {
    at::Tensor tensor;  // made on first use
    bool changed = false;
  };

  Graph graph;
  ExecutorOptions options;
  std::map<std::string, Constant, std::less<>> constants;
  std::unordered_map<std::string, Node*>
      constant_nodes;  // Constant nodes are held like the graph's constants
  std::unordered_map<std::string, int> producers;
  std::map<std::string, const ValueInfo*, std::less<>> inputs;
  std::set<std::string> differentiable;  // constants that require gradients
  PackedConstants packed;
  std::map<std::string, std::unique_ptr<Plan>> plain_plans, fused_plans;
  std::list<std::string> fused_order;  // least recently made first

  Impl(const Graph& source, const ExecutorOptions& given) : graph(source), options(given) {
    if (const auto missing = missing_operators(graph); !missing.empty())
      fail("the model needs operators that Lithe does not run: {}", format_lines(missing));
    graph.validate();
    graph.sort();
    for (const auto& [name, data] : graph.constants) constants[name];
    for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
      Node& node = graph.nodes[i];
      if (node.is("Constant") && node.find<TensorData>("value") && !node.output(0).empty()) {
        constants[node.output(0)];
        constant_nodes[node.output(0)] = &node;
        continue;
      }
      for (const std::string& output : node.outputs)
        if (!output.empty()) producers[output] = static_cast<int>(i);
    }
    for (const ValueInfo& input : graph.inputs) inputs[input.name] = &input;
  }

  const TensorData& stored(const std::string& name) const {
    if (const auto node = constant_nodes.find(name); node != constant_nodes.end())
      return *node->second->find<TensorData>("value");
    return graph.constants.find(name)->second;
  }

  const at::Tensor* constant(const std::string& name) {
    const auto found = constants.find(name);
    if (found == constants.end()) return nullptr;
    if (!found->second.tensor.defined()) found->second.tensor = to_tensor(stored(name)).to(options.device);
    return &found->second.tensor;
  }

  bool known(const std::string& name) const {
    return producers.contains(name) || constants.contains(name) || inputs.contains(name);
  }

  void replace(const std::string& name, const at::Tensor& value) {
    Constant& constant = constants.find(name)->second;
    if (constant.tensor.defined()) packed.forget(constant.tensor);
    constant.tensor = value;
    constant.changed = true;
    if (value.requires_grad())
      differentiable.insert(name);
    else
      differentiable.erase(name);
    fused_plans.clear();
    fused_order.clear();
  }

  Plan& plan_for(const Feeds& feeds, const std::vector<std::string>& fetch, bool fused);
  std::unique_ptr<Plan> make_plan(const Feeds& feeds, const std::vector<std::string>& fetch, bool fused);
};

Plan& Executor::Impl::plan_for(const Feeds& feeds, const std::vector<std::string>& fetch, bool fused) {
  std::string key;
  for (const auto& [name, value] : feeds) key.append(name).push_back('\0');
  key.push_back('\0');
  for (const std::string& name : fetch) key.append(name).push_back('\0');
  auto& plans = fused ? fused_plans : plain_plans;
  if (const auto found = plans.find(key); found != plans.end()) return *found->second;
  auto plan = make_plan(feeds, fetch, fused);
  if (fused) {
    if (plans.size() >= kMaxFusedPlans) {
      plans.erase(fused_order.front());
      fused_order.pop_front();
    }
    fused_order.push_back(key);
  } else if (plans.size() >= kMaxPlainPlans) {
    plans.clear();
  }
  return *(plans[key] = std::move(plan));
}

std::unique_ptr<Plan> Executor::Impl::make_plan(const Feeds& feeds, const std::vector<std::string>& fetch,
                                                bool fused) {
  auto plan = std::make_unique<Plan>();
  for (const auto& [name, value] : feeds) {
    if (!known(name)) fail("the model '{}' has no value '{}' to feed", graph.name, name);
    plan->feeds.push_back(name);
  }
  std::set<std::string> absent, seen;
  std::vector<bool> needed(graph.nodes.size(), false);
  std::vector<std::string> open;
  for (const std::string& name : fetch) {
    if (!known(name)) fail("the model '{}' has no value '{}' to fetch", graph.name, name);
    open.push_back(name);
  }
  while (!open.empty()) {
    const std::string name = std::move(open.back());
    open.pop_back();
    if (feeds.find(name) != feeds.end() || constants.contains(name) || !seen.insert(name).second) continue;
    const auto producer = producers.find(name);
    if (producer == producers.end()) {
      absent.insert(name);
      continue;
    }
    const auto index = static_cast<std::size_t>(producer->second);
    if (needed[index]) continue;
    needed[index] = true;
    for (std::string& read : all_reads(graph.nodes[index])) open.push_back(std::move(read));
  }
  plan->absent.assign(absent.begin(), absent.end());
  plan->fetch = fetch;
  if (!absent.empty()) return plan;

  Program::Source source;
  for (std::size_t i = 0; i < needed.size(); ++i)
    if (needed[i]) source.nodes.push_back(&graph.nodes[i]);
  source.inputs = plan->feeds;
  source.outputs = fetch;
  source.constant = [this, &feeds](const std::string& name) {
    return feeds.find(name) == feeds.end() ? constant(name) : nullptr;
  };
  source.type = [this](const std::string& name) {
    const auto node = constant_nodes.find(name);
    return node == constant_nodes.end() ? declared_type(graph, name) : stored(name).dtype();
  };
  Scope scope{&graph, &graph.header.opsets, options.device};
  if (fused) {
    scope.in_place = true;
    plan->fused = fuse(source, scope, {.channels_last = options.channels_last});
    source.nodes.clear();
    for (const Node& node : plan->fused.nodes) source.nodes.push_back(&node);
    source.constant = [&fused = plan->fused.constants, original = source.constant](const std::string& name) {
      const auto found = fused.find(name);
      return found == fused.end() ? original(name) : &found->second;
    };
  }
  plan->program = std::make_unique<Program>(source, scope);
  if (!plan->program->captures().empty())
    fail("the model '{}' reads the value '{}', which nothing makes", graph.name,
         plan->program->captures().front());
  return plan;
}

Executor::Executor(const Graph& graph, const ExecutorOptions& options)
    : impl_(std::make_unique<Impl>(graph, options)) {}
Executor::~Executor() = default;
Executor::Executor(Executor&&) noexcept = default;
Executor& Executor::operator=(Executor&&) noexcept = default;

at::Tensor Executor::operator()(const at::Tensor& input) {
  const auto required = impl_->graph.required_inputs();
  if (required.size() != 1)
    fail("the model '{}' has {} inputs; feed them by name", impl_->graph.name, required.size());
  if (impl_->graph.outputs.empty()) fail("the model '{}' has no outputs", impl_->graph.name);
  const std::string& output = impl_->graph.outputs[0].name;
  return run({{required[0]->name, input}}, {output}).at(output);
}

Feeds Executor::run(const Feeds& feeds, const std::vector<std::string>& fetch, const Observer& observe) {
  Impl& impl = *impl_;
  bool differentiate = impl.options.training;
  for (const auto& [name, value] : feeds) {
    if (const auto input = impl.inputs.find(name); input != impl.inputs.end())
      check_input(*input->second, value);
    if (!value.defined()) fail("the value '{}' that is fed is an undefined tensor", name);
    differentiate = differentiate || value.requires_grad();
  }
  differentiate = at::GradMode::is_enabled() && (differentiate || !impl.differentiable.empty());
  std::vector<std::string> wanted = fetch;
  if (wanted.empty())
    for (const ValueInfo& output : impl.graph.outputs) wanted.push_back(output.name);

  // Fed constants and observers see the graph as it is; so does training.
  const bool fused = impl.options.fuse && !differentiate && !observe && !impl.options.training;
  Plan& plan = impl.plan_for(feeds, wanted, fused);
  if (!plan.absent.empty()) {
    std::string names;
    for (const std::string& name : plan.absent) names += (names.empty() ? "'" : ", '") + name + "'";
    fail("the input {} of the model '{}' is not fed; feed {}", names, impl.graph.name,
         plan.absent.size() == 1 ? "it" : "them");
  }
  std::vector<at::Tensor> arguments;
  for (const std::string& name : plan.feeds) {
    arguments.push_back(feeds.find(name)->second.to(impl.options.device));
    if (observe) observe(name, arguments.back());
  }
  std::function<void(const std::string&, const at::Tensor&)> store = [&](const std::string& name,
                                                                         const at::Tensor& value) {
    if (feeds.find(name) == feeds.end() && impl.constants.contains(name)) impl.replace(name, value);
  };
  RunContext context{.training = impl.options.training,
                     .channels_last = impl.options.channels_last,
                     .device = impl.options.device,
                     .collective = impl.options.collective,
                     .packed = &impl.packed,
                     .observe = &observe,
                     .store = &store};
  const at::AutoGradMode grad_mode(differentiate);
  std::vector<at::Tensor> results = plan.program->run(std::move(arguments), context);
  Feeds outputs;
  for (std::size_t i = 0; i < wanted.size(); ++i) outputs[wanted[i]] = std::move(results[i]);
  return outputs;
}

at::Tensor Executor::slice(std::string_view from, std::string_view to, const at::Tensor& x) {
  const Feeds feeds{{std::string(from), x}};
  const std::vector<std::string> fetch{std::string(to)};
  if (const Plan& plan = impl_->plan_for(feeds, fetch, false); !plan.absent.empty())
    fail("the value '{}' depends on the input '{}', not on '{}' alone", to, plan.absent.front(), from);
  return run(feeds, fetch).at(fetch[0]);
}

at::Tensor Executor::constant(std::string_view name) const {
  const at::Tensor* tensor = impl_->constant(std::string(name));
  if (!tensor) fail("the model '{}' has no constant '{}'", impl_->graph.name, name);
  return *tensor;
}

void Executor::set_constant(std::string_view name, at::Tensor value) {
  if (impl_->constants.find(name) == impl_->constants.end())
    fail("the model '{}' has no constant '{}'", impl_->graph.name, name);
  if (!value.defined()) fail("the constant '{}' is set to an undefined tensor", name);
  if (value.device() != impl_->options.device) value = value.to(impl_->options.device);
  impl_->replace(std::string(name), value);
}

void Executor::store_constants(Graph& graph) const {
  for (const auto& [name, constant] : impl_->constants) {
    if (!constant.changed) continue;
    const TensorData data = stored_as(impl_->stored(name).dtype(), constant.tensor);
    if (const auto found = graph.constants.find(name); found != graph.constants.end()) {
      found->second = data;
      continue;
    }
    const auto node = std::find_if(graph.nodes.begin(), graph.nodes.end(), [&name = name](const Node& one) {
      return one.is("Constant") && one.output(0) == name;
    });
    if (node == graph.nodes.end()) fail("the graph '{}' has no constant '{}'", graph.name, name);
    node->attributes["value"] = data;
  }
}

void Executor::set_training(bool training) {
  impl_->options.training = training;
}
const Graph& Executor::graph() const {
  return impl_->graph;
}
const ExecutorOptions& Executor::options() const {
  return impl_->options;
}

}  // namespace lithe
