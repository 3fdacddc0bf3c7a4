// A list of nodes compiled for running: values in numbered slots, operators resolved, lifetimes known.
#pragma once

#include <ATen/ATen.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "lithe/engine/executor.h"
#include "lithe/graph/graph.h"
#include "lithe/graph/missing_operators.h"
#include "lithe/ops/registry.h"

namespace lithe {

/// Constants in the layout that their kernels like best, each converted once; keyed by the tensor itself.
class PackedConstants {
 public:
  /// The tensor in channels-last layout.
  at::Tensor channels_last(const at::Tensor& tensor);
  void forget(const at::Tensor& tensor) { packed_.erase(tensor.unsafeGetTensorImpl()); }

 private:
  struct Entry {
    at::Tensor source, packed;  // `source` keeps its address taken
    std::int64_t version = 0;   // of `source` when it was packed
  };
  std::unordered_map<const void*, Entry> packed_;
};

/// What a run carries along.
struct RunContext {
  bool training = false;
  bool channels_last = true;
  at::Device device = at::kCPU;
  Collective* collective = nullptr;
  PackedConstants* packed = nullptr;
  const Observer* observe = nullptr;
  /// Receives new running statistics of batch norms: (value name, tensor).
  const std::function<void(const std::string&, const at::Tensor&)>* store = nullptr;
};

/// What names mean outside the nodes themselves.
struct Scope {
  const Graph* model = nullptr;                                              // holds the functions
  const std::map<std::string, std::int64_t, std::less<>>* opsets = nullptr;  // by domain
  at::Device device = at::kCPU;
  int depth = 0;  // of nested bodies
  /// Operators may overwrite inputs that nobody reads later; needs grad mode off.
  bool in_place = false;

  std::int64_t opset(const std::string& domain) const;
};

/// The entry that runs a node, or nullptr where a function's body must or the operator is missing.
const OpEntry* native_entry(const Node& node, std::int64_t opset);

class Program {
 public:
  struct Source {
    std::vector<const Node*> nodes;   // in topological order; they outlive the program
    std::vector<std::string> inputs;  // "" is allowed
    std::vector<std::string> outputs;
    /// The tensor behind a constant's name, at an address that stays, or nullptr.
    std::function<const at::Tensor*(const std::string&)> constant;
    /// The declared element type of a value, Undefined where it is not known.
    std::function<DType(const std::string&)> type;
  };
  Program(const Source& source, const Scope& scope);
  /// A sub-graph with its own constants, inside a node of the program made from `around`.
  static std::unique_ptr<Program> of_graph(const Graph& body, const Source& around, const Scope& scope);

  /// Names that are read but made nowhere inside: the caller passes them after the inputs.
  const std::vector<std::string>& captures() const { return captures_; }

  /// Takes inputs, then captures; returns the outputs.
  std::vector<at::Tensor> run(std::vector<at::Tensor> arguments, const RunContext& context) const;

 private:
  enum class Kind { Op, If, Loop, Scan, Call };
  struct Step {
    const Node* node = nullptr;
    Kind kind = Kind::Op;
    OpFunction run = nullptr;
    std::int64_t opset = 0;
    bool plain_only = false;       // inputs in a blocked layout are made plain first
    bool packs_weight = false;     // a convolution whose weight is a constant
    std::vector<int> inputs;       // slots; -1: left out
    std::vector<DType> types;      // declared, of the inputs
    std::vector<bool> last_input;  // the slot is not read again
    std::vector<int> outputs;      // slots; -1: without a name
    std::vector<std::unique_ptr<Program>> bodies;
    std::vector<std::vector<int>> captured;  // per body: slots of its captures
    std::vector<int> release;                // slots to empty afterwards
  };

  int slot_of(const std::string& name, const Source& source);
  void compile(const Node& node, const Source& source, const Scope& scope);
  void plan_lifetimes();
  std::vector<at::Tensor> execute(const Step& step, std::vector<at::Tensor>& inputs,
                                  const std::vector<at::Tensor>& frame, const RunContext& context) const;
  void update_statistics(const Step& step, const std::vector<at::Tensor>& results,
                         const RunContext& context) const;

  std::unordered_map<std::string, int> slots_;
  std::vector<std::string> names_;  // by slot
  std::vector<Step> steps_;
  bool has_blocked_ = false;           // some values may be in oneDNN's blocked layout
  std::vector<int> inputs_, outputs_;  // slots
  std::vector<std::string> captures_;
  std::vector<std::pair<int, const at::Tensor*>> constants_;
  std::deque<Node> owned_nodes_;  // of function bodies, with attributes filled in
  std::map<std::string, at::Tensor> owned_constants_;
};

/// The declared type of a value of the graph.
DType declared_type(const Graph& graph, const std::string& name);

/// Runs If, Loop and Scan. `run_body(index, arguments)` runs the node's sub-graph of that number.
using RunBody = std::function<std::vector<at::Tensor>(std::size_t, std::vector<at::Tensor>)>;
std::vector<at::Tensor> run_if(const Node& node, const std::vector<at::Tensor>& inputs,
                               const RunBody& run_body);
std::vector<at::Tensor> run_loop(const Node& node, const Graph& body, const std::vector<at::Tensor>& inputs,
                                 const RunBody& run_body);
std::vector<at::Tensor> run_scan(const Node& node, const Graph& body, const std::vector<at::Tensor>& inputs,
                                 const RunBody& run_body);

/// The nodes of a function's body with the call's attributes in place of references.
std::deque<Node> nodes_of_call(const Function& function, const Node& call);

}  // namespace lithe
