#include "lithe/engine/program.h"

#include <algorithm>

#include "lithe/base/error.h"
#include "lithe/engine/fuse.h"

namespace lithe {
namespace {

constexpr int kMaxDepth = 64;  // of sub-graphs and functions inside one another

std::string format_inputs(const std::vector<at::Tensor>& inputs) {
  std::string text;
  for (const at::Tensor& tensor : inputs) {
    if (!text.empty()) text += ", ";
    if (!tensor.defined()) {
      text += "-";
      continue;
    }
    text += fmt::format("{} {}", c10::toString(tensor.scalar_type()), format_shape(tensor.sizes().vec()));
  }
  return text;
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

/// Sub-graphs of a control-flow node, in the order in which `bodies` holds them.
std::vector<GraphPtr> sub_graphs(const Node& node) {
  const auto body = [&](std::string_view name) {
    const GraphPtr* graph = node.find<GraphPtr>(name);
    if (!graph || !*graph) fail("{}: the sub-graph '{}' is missing", describe(node), name);
    return *graph;
  };
  if (node.is("If")) return {body("then_branch"), body("else_branch")};
  return {body("body")};
}

bool wants_channels_last(const at::Tensor& tensor) {
  return tensor.defined() && tensor.dim() == 4 && tensor.is_floating_point();
}

}  // namespace

at::Tensor PackedConstants::channels_last(const at::Tensor& tensor) {
  Entry& entry = packed_[tensor.unsafeGetTensorImpl()];
  const std::int64_t version = tensor.is_inference() ? 0 : static_cast<std::int64_t>(tensor._version());
  if (!entry.source.defined() || entry.version != version)
    entry = {tensor, tensor.contiguous(at::MemoryFormat::ChannelsLast), version};
  return entry.packed;
}

DType declared_type(const Graph& graph, const std::string& name) {
  if (const TensorData* constant = graph.constant(name)) return constant->dtype();
  const ValueInfo* info = graph.info(name);
  return info ? info->dtype : DType::Undefined;
}

std::int64_t Scope::opset(const std::string& domain) const {
  if (const auto found = opsets->find(domain); found != opsets->end()) return found->second;
  return model->opset(domain);
}

const OpEntry* native_entry(const Node& node, std::int64_t opset) {
  if (node.domain == kFusedDomain) return fused_ops().find(node.domain, node.op_type);
  const OpEntry* entry = op_registry().find(node.domain, node.op_type);
  if (!entry) return nullptr;
  const bool standard = node.domain.empty();
  return !standard || (opset >= entry->since && opset <= entry->until) ? entry : nullptr;
}

Program::Program(const Source& source, const Scope& scope) {
  if (scope.depth > kMaxDepth) fail("sub-graphs or functions are nested more than {} deep", kMaxDepth);
  const auto add = [&](const std::string& name) {
    names_.push_back(name);
    const int slot = static_cast<int>(names_.size()) - 1;
    if (!name.empty()) slots_[name] = slot;
    return slot;
  };
  for (const std::string& name : source.inputs) inputs_.push_back(add(name));
  for (const Node* node : source.nodes) compile(*node, source, scope);
  for (const std::string& name : source.outputs) outputs_.push_back(slot_of(name, source));
  plan_lifetimes();
}

std::unique_ptr<Program> Program::of_graph(const Graph& body, const Source& around, const Scope& scope) {
  std::map<std::string, at::Tensor> constants;
  for (const auto& [name, data] : body.constants) constants[name] = to_tensor(data).to(scope.device);
  Source source;
  for (const Node& node : body.nodes) source.nodes.push_back(&node);
  for (const ValueInfo& input : body.inputs) source.inputs.push_back(input.name);
  for (const ValueInfo& output : body.outputs) source.outputs.push_back(output.name);
  source.constant = [&](const std::string& name) -> const at::Tensor* {
    const auto found = constants.find(name);
    return found == constants.end() ? nullptr : &found->second;
  };
  source.type = [&](const std::string& name) {
    const DType type = declared_type(body, name);
    return type == DType::Undefined ? around.type(name) : type;
  };
  auto program = std::make_unique<Program>(source, scope);
  for (auto& [slot, tensor] : program->constants_) {
    const std::string& name = program->names_[static_cast<std::size_t>(slot)];
    tensor = &(program->owned_constants_[name] = *tensor);
  }
  return program;
}

int Program::slot_of(const std::string& name, const Source& source) {
  if (name.empty()) return -1;
  if (const auto found = slots_.find(name); found != slots_.end()) return found->second;
  const int slot = static_cast<int>(names_.size());
  names_.push_back(name);
  slots_[name] = slot;
  if (const at::Tensor* constant = source.constant(name)) {
    constants_.emplace_back(slot, constant);
  } else {
    captures_.push_back(name);
    inputs_.push_back(slot);
  }
  return slot;
}

void Program::compile(const Node& node, const Source& source, const Scope& scope) {
  Step step;
  step.node = &node;
  step.opset = scope.opset(node.domain);
  Scope inner = scope;
  inner.depth = scope.depth + 1;
  if (is_control_flow(node, step.opset)) {
    step.kind = node.is("If") ? Kind::If : node.is("Loop") ? Kind::Loop : Kind::Scan;
    for (const GraphPtr& graph : sub_graphs(node)) step.bodies.push_back(of_graph(*graph, source, inner));
  } else if (const OpEntry* entry = native_entry(node, step.opset)) {
    const OpEntry* overwriting = scope.in_place ? fused_ops().find(node.domain, node.op_type) : nullptr;
    step.run = overwriting ? overwriting->run : entry->run;
  } else if (const Function* function = scope.model->function_of(node)) {
    step.kind = Kind::Call;
    auto nodes = nodes_of_call(*function, node);
    Source body;
    for (const Node& one : nodes) body.nodes.push_back(&one);
    body.inputs = function->inputs;
    body.outputs = function->outputs;
    body.constant = [](const std::string&) -> const at::Tensor* { return nullptr; };
    body.type = [&](const std::string& name) {
      const auto found = std::find(function->inputs.begin(), function->inputs.end(), name);
      const auto index = static_cast<std::size_t>(found - function->inputs.begin());
      return index < node.inputs.size() ? source.type(node.inputs[index]) : DType::Undefined;
    };
    inner.opsets = &function->opsets;
    step.bodies.push_back(std::make_unique<Program>(body, inner));
    if (!step.bodies[0]->captures().empty())
      fail("the function {}.{} reads '{}', which nothing in it makes", function->domain, function->name,
           step.bodies[0]->captures().front());
    step.bodies[0]->owned_nodes_ = std::move(nodes);  // a deque keeps its elements' addresses when moved
  } else {
    fail("{}: Lithe does not run the operator {} (opset {})", describe(node), node.op_type, step.opset);
  }
  for (const std::string& name : node.inputs) {
    step.inputs.push_back(slot_of(name, source));
    step.types.push_back(name.empty() ? DType::Undefined : source.type(name));
  }
  for (const auto& body : step.bodies) {
    std::vector<int> captured;
    for (const std::string& name : body->captures()) captured.push_back(slot_of(name, source));
    step.captured.push_back(std::move(captured));
  }
  for (const std::string& name : node.outputs) {
    if (name.empty()) {
      step.outputs.push_back(-1);
      continue;
    }
    const int slot = static_cast<int>(names_.size());
    names_.push_back(name);
    slots_[name] = slot;
    step.outputs.push_back(slot);
  }
  if (node.is("Conv") && step.inputs.size() > 1) {
    const int weight = step.inputs[1];
    step.packs_weight = std::any_of(constants_.begin(), constants_.end(),
                                    [&](const auto& constant) { return constant.first == weight; });
  }
  step.plain_only = !takes_blocked(node);
  has_blocked_ = has_blocked_ || (node.domain == kFusedDomain && node.op_type == "Conv");
  steps_.push_back(std::move(step));
}

void Program::plan_lifetimes() {
  std::vector<bool> read_later(names_.size(), false);
  for (const int slot : outputs_)
    if (slot >= 0) read_later[static_cast<std::size_t>(slot)] = true;
  const auto mark = [&](int slot) {
    if (slot < 0 || read_later[static_cast<std::size_t>(slot)]) return false;
    read_later[static_cast<std::size_t>(slot)] = true;
    return true;
  };
  for (std::size_t i = steps_.size(); i-- > 0;) {
    Step& step = steps_[i];
    for (const int slot : step.outputs)
      if (mark(slot)) step.release.push_back(slot);  // made, and read by nobody
    for (const auto& captured : step.captured)
      for (const int slot : captured)
        if (mark(slot)) step.release.push_back(slot);
    step.last_input.assign(step.inputs.size(), false);
    for (std::size_t k = step.inputs.size(); k-- > 0;) step.last_input[k] = mark(step.inputs[k]);
  }
}

std::vector<at::Tensor> Program::run(std::vector<at::Tensor> arguments, const RunContext& context) const {
  std::vector<at::Tensor> frame(names_.size());
  for (std::size_t i = 0; i < inputs_.size() && i < arguments.size(); ++i)
    frame[static_cast<std::size_t>(inputs_[i])] = std::move(arguments[i]);
  for (const auto& [slot, tensor] : constants_) frame[static_cast<std::size_t>(slot)] = *tensor;
  const auto make_plain = [&](int slot) {
    if (slot < 0) return;
    at::Tensor& value = frame[static_cast<std::size_t>(slot)];
    if (value.defined() && value.is_mkldnn()) value = value.to_dense();
  };
  std::vector<at::Tensor> inputs;
  for (const Step& step : steps_) {
    if (has_blocked_ && step.plain_only) {
      std::for_each(step.inputs.begin(), step.inputs.end(), make_plain);
      for (const auto& captured : step.captured) std::for_each(captured.begin(), captured.end(), make_plain);
    }
    inputs.assign(step.inputs.size(), at::Tensor());
    for (std::size_t i = 0; i < step.inputs.size(); ++i) {
      if (step.inputs[i] < 0) continue;
      at::Tensor& value = frame[static_cast<std::size_t>(step.inputs[i])];
      inputs[i] = step.last_input[i] ? std::move(value) : value;
    }
    std::vector<at::Tensor> results = execute(step, inputs, frame, context);
    if (context.store && context.training) update_statistics(step, results, context);
    inputs.clear();
    for (std::size_t i = 0; i < step.outputs.size(); ++i) {
      if (step.outputs[i] < 0) continue;
      if (i >= results.size() || !results[i].defined())
        fail("{}: the output '{}' is not computed by this operator", describe(*step.node),
             step.node->outputs[i]);
      if (context.observe && *context.observe) (*context.observe)(step.node->outputs[i], results[i]);
      frame[static_cast<std::size_t>(step.outputs[i])] = std::move(results[i]);
    }
    for (const int slot : step.release) frame[static_cast<std::size_t>(slot)].reset();
  }
  if (has_blocked_) std::for_each(outputs_.begin(), outputs_.end(), make_plain);
  std::vector<at::Tensor> outputs;
  for (const int slot : outputs_)
    outputs.push_back(slot < 0 ? at::Tensor() : frame[static_cast<std::size_t>(slot)]);
  return outputs;
}

std::vector<at::Tensor> Program::execute(const Step& step, std::vector<at::Tensor>& inputs,
                                         const std::vector<at::Tensor>& frame,
                                         const RunContext& context) const {
  const Node& node = *step.node;
  try {
    if (step.kind == Kind::Op) {
      if (context.channels_last && node.is("Conv") && inputs.size() > 1 && wants_channels_last(inputs[0]) &&
          wants_channels_last(inputs[1])) {
        inputs[0] = inputs[0].contiguous(at::MemoryFormat::ChannelsLast);
        inputs[1] = step.packs_weight && context.packed && !inputs[1].requires_grad()
                        ? context.packed->channels_last(inputs[1])
                        : inputs[1].contiguous(at::MemoryFormat::ChannelsLast);
      }
      return step.run(OpCall{.node = node,
                             .opset = step.opset,
                             .inputs = inputs,
                             .training = context.training,
                             .device = context.device,
                             .types = step.types,
                             .collective = context.collective});
    }
    RunContext inner = context;
    inner.observe = nullptr;
    inner.store = nullptr;
    if (step.kind == Kind::Call) {
      inputs.resize(step.bodies[0]->inputs_.size());
      return step.bodies[0]->run(std::move(inputs), inner);
    }
    const RunBody run_body = [&](std::size_t index, std::vector<at::Tensor> arguments) {
      for (const int slot : step.captured[index]) arguments.push_back(frame[static_cast<std::size_t>(slot)]);
      return step.bodies[index]->run(std::move(arguments), inner);
    };
    if (step.kind == Kind::If) return run_if(node, inputs, run_body);
    const Graph& body = **node.find<GraphPtr>("body");
    return step.kind == Kind::Loop ? run_loop(node, body, inputs, run_body)
                                   : run_scan(node, body, inputs, run_body);
  } catch (const Error&) {
    throw;
  } catch (const c10::Error& error) {
    const std::string reason = first_line(error.what_without_backtrace());
    if (reason.find("can't allocate") != std::string::npos ||
        reason.find("out of memory") != std::string::npos)
      fail_system("{} with inputs ({}): {}; use a smaller batch or image", describe_fused(node),
                  format_inputs(inputs), reason);
    fail("{} cannot run on inputs ({}): {}", describe_fused(node), format_inputs(inputs), reason);
  } catch (const std::bad_alloc&) {
    fail_system("{} with inputs ({}): out of memory; use a smaller batch or image", describe_fused(node),
                format_inputs(inputs));
  } catch (const std::exception& error) {
    fail("{} cannot run on inputs ({}): {}", describe_fused(node), format_inputs(inputs),
         first_line(error.what()));
  }
}

void Program::update_statistics(const Step& step, const std::vector<at::Tensor>& results,
                                const RunContext& context) const {
  if (!step.node->is("BatchNormalization") || results.size() < 3) return;
  for (std::size_t i = 1; i <= 2; ++i)
    if (results[i].defined()) (*context.store)(step.node->input(i + 2), results[i].detach());
}

}  // namespace lithe
