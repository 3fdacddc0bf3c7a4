#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/graph/onnx.h"
#include "lithe/graph/onnx_proto.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kExternalAlignment = 4096;  // lets readers map each tensor

/// Where big constants go: beside the model.
struct ExternalData {
  AtomicFile file;
  std::string location;
  std::int64_t threshold;
  std::int64_t position = 0;
};

class Writer {
 public:
  explicit Writer(ExternalData* external) : external_(external) {}

  void model(const Graph& graph, onnx::ModelProto& out) {
    const ModelHeader& header = graph.header;
    merge(out, header.extra);
    out.set_ir_version(header.ir_version);
    opsets(header.opsets, *out.mutable_opset_import());
    set(header.producer_name, [&](auto& s) { out.set_producer_name(s); });
    set(header.producer_version, [&](auto& s) { out.set_producer_version(s); });
    set(header.domain, [&](auto& s) { out.set_domain(s); });
    set(header.doc, [&](auto& s) { out.set_doc_string(s); });
    if (header.model_version != 0) out.set_model_version(header.model_version);
    for (const auto& [key, value] : header.metadata) {
      auto* entry = out.add_metadata_props();
      entry->set_key(key);
      entry->set_value(value);
    }
    for (const Function& one : header.functions) function(one, *out.add_functions());
    this->graph(graph, *out.mutable_graph());
  }

 private:
  static void merge(google::protobuf::Message& message, const std::string& extra) {
    if (!extra.empty() && !message.MergeFromString(extra)) fail_system("kept protobuf fields are unreadable");
  }
  template <typename F>
  static void set(const std::string& text, F&& setter) {
    if (!text.empty()) setter(text);
  }
  static void opsets(const std::map<std::string, std::int64_t, std::less<>>& from,
                     google::protobuf::RepeatedPtrField<onnx::OperatorSetIdProto>& out) {
    for (const auto& [domain, version] : from) {
      auto* one = out.Add();
      one->set_domain(domain);
      one->set_version(version);
    }
  }

  void graph(const Graph& graph, onnx::GraphProto& out) {
    merge(out, graph.extra);
    out.set_name(graph.name);
    set(graph.doc, [&](auto& s) { out.set_doc_string(s); });
    for (const Node& one : graph.nodes) node(one, *out.add_node());
    for (const auto& [name, data] : graph.constants) tensor(name, data, *out.add_initializer());
    for (const ValueInfo& one : graph.inputs) value(one, *out.add_input());
    for (const ValueInfo& one : graph.outputs) value(one, *out.add_output());
    for (const auto& [name, one] : graph.values) value(one, *out.add_value_info());
    for (const std::string& bytes : graph.quantization_annotations)
      merge(*out.add_quantization_annotation(), bytes);
    for (const std::string& bytes : graph.sparse_constants) merge(*out.add_sparse_initializer(), bytes);
  }

  void node(const Node& node, onnx::NodeProto& out) {
    merge(out, node.extra);
    set(node.name, [&](auto& s) { out.set_name(s); });
    out.set_op_type(node.op_type);
    set(node.domain, [&](auto& s) { out.set_domain(s); });
    for (const std::string& name : node.inputs) out.add_input(name);
    for (const std::string& name : node.outputs) out.add_output(name);
    set(node.doc, [&](auto& s) { out.set_doc_string(s); });
    for (const auto& [name, one] : node.attributes) attribute(name, one, *out.add_attribute());
  }

  void attribute(const std::string& name, const Attribute& attribute, onnx::AttributeProto& out) {
    using A = onnx::AttributeProto;
    out.set_name(name);
    const auto visit = [&](const auto& value) {
      using T = std::decay_t<decltype(value)>;
      if constexpr (std::is_same_v<T, float>) {
        out.set_type(A::FLOAT);
        out.set_f(value);
      } else if constexpr (std::is_same_v<T, std::int64_t>) {
        out.set_type(A::INT);
        out.set_i(value);
      } else if constexpr (std::is_same_v<T, std::string>) {
        out.set_type(A::STRING);
        out.set_s(value);
      } else if constexpr (std::is_same_v<T, TensorData>) {
        out.set_type(A::TENSOR);
        tensor("", value, *out.mutable_t());
      } else if constexpr (std::is_same_v<T, GraphPtr>) {
        out.set_type(A::GRAPH);
        graph(*value, *out.mutable_g());
      } else if constexpr (std::is_same_v<T, std::vector<float>>) {
        out.set_type(A::FLOATS);
        for (const float v : value) out.add_floats(v);
      } else if constexpr (std::is_same_v<T, std::vector<std::int64_t>>) {
        out.set_type(A::INTS);
        for (const std::int64_t v : value) out.add_ints(v);
      } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
        out.set_type(A::STRINGS);
        for (const std::string& v : value) out.add_strings(v);
      } else if constexpr (std::is_same_v<T, std::vector<TensorData>>) {
        out.set_type(A::TENSORS);
        for (const TensorData& v : value) tensor("", v, *out.add_tensors());
      } else if constexpr (std::is_same_v<T, std::vector<GraphPtr>>) {
        out.set_type(A::GRAPHS);
        for (const GraphPtr& v : value) graph(*v, *out.add_graphs());
      } else if constexpr (std::is_same_v<T, AttributeReference>) {
        out.set_type(static_cast<A::AttributeType>(value.attribute_type));
        out.set_ref_attr_name(value.name);
      } else {
        merge(out, value.bytes);
      }
    };
    std::visit(visit, attribute);
  }

  void value(const ValueInfo& value, onnx::ValueInfoProto& out) {
    merge(out, value.extra);
    out.set_name(value.name);
    set(value.doc, [&](auto& s) { out.set_doc_string(s); });
    if (!value.other_type.empty()) {
      merge(*out.mutable_type(), value.other_type);
    } else if (value.dtype != DType::Undefined) {
      auto* type = out.mutable_type()->mutable_tensor_type();
      type->set_elem_type(static_cast<std::int32_t>(value.dtype));
      if (!value.shape) return;
      auto* shape = type->mutable_shape();
      for (const Dim& dim : *value.shape) {
        auto* one = shape->add_dim();
        if (dim.known())
          one->set_dim_value(dim.value);
        else if (!dim.symbol.empty())
          one->set_dim_param(dim.symbol);
      }
    }
  }

  void function(const Function& function, onnx::FunctionProto& out) {
    merge(out, function.extra);  // holds the default attributes and the overload
    out.set_name(function.name);
    out.set_domain(function.domain);
    for (const std::string& name : function.inputs) out.add_input(name);
    for (const std::string& name : function.outputs) out.add_output(name);
    for (const std::string& name : function.attributes) out.add_attribute(name);
    opsets(function.opsets, *out.mutable_opset_import());
    set(function.doc, [&](auto& s) { out.set_doc_string(s); });
    for (const Node& one : function.nodes) node(one, *out.add_node());
  }

  void tensor(const std::string& name, const TensorData& data, onnx::TensorProto& out) {
    set(name, [&](auto& s) { out.set_name(s); });
    out.set_data_type(static_cast<std::int32_t>(data.dtype()));
    for (const std::int64_t dim : data.shape()) out.add_dims(dim);
    if (data.dtype() == DType::String) {
      for (const std::string& text : data.strings()) out.add_string_data(text);
      return;
    }
    const auto bytes = data.bytes();
    const auto size = static_cast<std::int64_t>(bytes.size());
    if (!external_ || size < external_->threshold || size == 0) {
      out.set_raw_data(bytes.data(), bytes.size());
      return;
    }
    static constexpr char kZeros[kExternalAlignment] = {};
    const std::int64_t padding =
        (kExternalAlignment - external_->position % kExternalAlignment) % kExternalAlignment;
    external_->file.write(kZeros, static_cast<std::size_t>(padding));
    external_->position += padding;
    out.set_data_location(onnx::TensorProto::EXTERNAL);
    const auto add = [&](const char* key, const std::string& text) {
      auto* entry = out.add_external_data();
      entry->set_key(key);
      entry->set_value(text);
    };
    add("location", external_->location);
    add("offset", std::to_string(external_->position));
    add("length", std::to_string(size));
    external_->file.write(bytes.data(), bytes.size());
    external_->position += size;
  }

  ExternalData* external_;
};

std::int64_t constant_bytes(const Graph& graph) {
  std::int64_t total = 0;
  for (const auto& [name, data] : graph.constants) total += static_cast<std::int64_t>(data.bytes().size());
  return total;
}

std::string serialize(const Graph& graph, ExternalData* external) {
  graph.validate();
  onnx::ModelProto proto;
  Writer(external).model(graph, proto);
  if (proto.ByteSizeLong() > kMaxProtoBytes)
    fail("the model takes {} bytes, more than a protobuf message may; write it with external data",
         proto.ByteSizeLong());
  return proto.SerializeAsString();
}

}  // namespace

std::string serialize_onnx(const Graph& graph) {
  return serialize(graph, nullptr);
}

void write_onnx(const Graph& graph, const fs::path& path, const WriteOnnxOptions& options) {
  constexpr std::int64_t kAutomaticThreshold = 1024, kEmbeddedLimit = 2'000'000'000;
  std::int64_t threshold = options.external_threshold;
  if (threshold < 0 && constant_bytes(graph) > kEmbeddedLimit) threshold = kAutomaticThreshold;
  if (threshold < 0) {
    write_file(path, serialize(graph, nullptr));
    return;
  }
  const std::string location = path.filename().string() + ".data";
  ExternalData external{AtomicFile(path.parent_path() / location), location, threshold};
  AtomicFile model(path);
  model.write(serialize(graph, &external));
  external.file.commit();
  model.commit();
}

}  // namespace lithe
