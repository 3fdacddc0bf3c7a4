#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/unknown_field_set.h>

#include <cstring>
#include <set>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/math.h"
#include "lithe/graph/attribute_names.h"
#include "lithe/graph/onnx.h"
#include "lithe/graph/onnx_proto.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;
using google::protobuf::Message;
using google::protobuf::UnknownFieldSet;

constexpr std::int64_t kMinIr = 3, kMaxIr = 13;

/// A string field by number, whether or not the message class knows it.
std::string string_field(const Message& message, int number) {
  const auto* reflection = message.GetReflection();
  if (const auto* field = message.GetDescriptor()->FindFieldByNumber(number))
    return reflection->GetString(message, field);
  const UnknownFieldSet& unknown = reflection->GetUnknownFields(message);
  for (int i = 0; i < unknown.field_count(); ++i)
    if (unknown.field(i).number() == number &&
        unknown.field(i).type() == google::protobuf::UnknownField::TYPE_LENGTH_DELIMITED)
      return unknown.field(i).length_delimited();
  return {};
}

std::string normal_domain(const std::string& domain) {
  return domain == "ai.onnx" ? "" : domain;
}

template <typename Stored, typename Field>
TensorData from_typed(DType dtype, std::vector<std::int64_t> shape, const Field& field) {
  auto values = std::make_shared<std::vector<Stored>>(field.begin(), field.end());
  const auto bytes = std::as_bytes(std::span<const Stored>(*values));
  return TensorData(dtype, std::move(shape), bytes, std::move(values));
}

class Reader {
 public:
  Reader(std::string origin, fs::path folder) : origin_(std::move(origin)), folder_(std::move(folder)) {}

  Graph model(onnx::ModelProto& proto) {
    if (!proto.has_graph() || proto.ir_version() == 0)
      fail("{}: not an ONNX model (no graph in it)", origin_);
    if (proto.ir_version() < kMinIr || proto.ir_version() > kMaxIr)
      fail("{}: IR version {} is not supported; versions {} to {} are", origin_, proto.ir_version(), kMinIr,
           kMaxIr);
    Graph out = graph(*proto.mutable_graph());
    if (out.outputs.empty())
      fail("{}: the graph has no outputs, so that there is nothing to compute; export the model again",
           origin_);
    ModelHeader& header = out.header;
    header.ir_version = proto.ir_version();
    header.opsets = opsets(proto.opset_import());
    if (header.opsets.empty()) header.opsets[""] = 1;
    header.producer_name = proto.producer_name();
    header.producer_version = proto.producer_version();
    header.domain = proto.domain();
    header.doc = proto.doc_string();
    header.model_version = proto.model_version();
    for (const auto& entry : proto.metadata_props()) header.metadata[entry.key()] = entry.value();
    for (auto& one : *proto.mutable_functions()) header.functions.push_back(function(one));
    proto.clear_graph();
    proto.clear_ir_version();
    proto.clear_opset_import();
    proto.clear_producer_name();
    proto.clear_producer_version();
    proto.clear_domain();
    proto.clear_doc_string();
    proto.clear_model_version();
    proto.clear_metadata_props();
    proto.clear_functions();
    header.extra = proto.SerializeAsString();
    try {
      out.validate();
      out.sort();
    } catch (const Error& error) {
      fail("{}: {}", origin_, error.what());
    }
    return out;
  }

  TensorData tensor(onnx::TensorProto& proto) {
    try {
      return checked_tensor(proto);
    } catch (const Error& error) {
      fail("{}: tensor '{}': {}", origin_, proto.name(), error.what());
    }
  }

 private:
  static std::map<std::string, std::int64_t, std::less<>> opsets(
      const google::protobuf::RepeatedPtrField<onnx::OperatorSetIdProto>& imports) {
    std::map<std::string, std::int64_t, std::less<>> out;
    for (const auto& one : imports) out[normal_domain(one.domain())] = one.version();
    return out;
  }

  Graph graph(onnx::GraphProto& proto) {
    Graph out;
    out.name = proto.name();
    out.doc = proto.doc_string();
    for (auto& one : *proto.mutable_initializer()) {
      const std::string name = one.name();
      if (name.empty()) fail("{}: an initializer without a name", origin_);
      if (!out.constants.emplace(name, tensor(one)).second)
        fail("{}: two initializers are called '{}'", origin_, name);
    }
    for (auto& one : *proto.mutable_node()) out.nodes.push_back(node(one));
    for (auto& one : *proto.mutable_input()) out.inputs.push_back(value(one));
    for (auto& one : *proto.mutable_output()) out.outputs.push_back(value(one));
    for (auto& one : *proto.mutable_value_info()) {
      ValueInfo info = value(one);
      out.values.emplace(info.name, info);
    }
    for (const auto& one : proto.quantization_annotation())
      out.quantization_annotations.push_back(one.SerializeAsString());
    for (const auto& one : proto.sparse_initializer())
      out.sparse_constants.push_back(one.SerializeAsString());
    proto.clear_name();
    proto.clear_doc_string();
    proto.clear_initializer();
    proto.clear_node();
    proto.clear_input();
    proto.clear_output();
    proto.clear_value_info();
    proto.clear_quantization_annotation();
    proto.clear_sparse_initializer();
    out.extra = proto.SerializeAsString();
    return out;
  }

  Node node(onnx::NodeProto& proto) {
    Node out;
    out.name = proto.name();
    out.op_type = proto.op_type();
    out.domain = normal_domain(proto.domain());
    out.inputs.assign(proto.input().begin(), proto.input().end());
    out.outputs.assign(proto.output().begin(), proto.output().end());
    out.overload = string_field(proto, kNodeOverloadField);
    out.doc = proto.doc_string();
    for (auto& one : *proto.mutable_attribute()) out.attributes.insert_or_assign(one.name(), attribute(one));
    check_attributes(out);
    proto.clear_name();
    proto.clear_op_type();
    proto.clear_domain();
    proto.clear_input();
    proto.clear_output();
    proto.clear_doc_string();
    proto.clear_attribute();
    out.extra = proto.SerializeAsString();
    return out;
  }

  /// Passed over, a damaged name would leave the operator at its default, and other runtimes refuse it.
  void check_attributes(const Node& node) const {
    const std::string unknown = unknown_attribute(node);
    if (unknown.empty()) return;
    const std::string_view known = known_attributes(node.op_type).value_or("");
    fail(
        "{}: {}: the operator {} has no attribute '{}'{}{}; the file is damaged or was written wrong: export "
        "it again",
        origin_, describe(node), node.op_type, unknown, known.empty() ? "" : ", only ", known);
  }

  Attribute attribute(onnx::AttributeProto& proto) {
    using A = onnx::AttributeProto;
    if (!proto.ref_attr_name().empty())
      return AttributeReference{proto.ref_attr_name(), static_cast<std::int32_t>(proto.type())};
    A::AttributeType type = proto.type();
    if (type == A::UNDEFINED) {  // files from before IR version 2 was common
      type = proto.has_t()          ? A::TENSOR
             : proto.has_g()        ? A::GRAPH
             : proto.ints_size()    ? A::INTS
             : proto.floats_size()  ? A::FLOATS
             : proto.strings_size() ? A::STRINGS
             : proto.has_s()        ? A::STRING
             : proto.has_f()        ? A::FLOAT
                                    : A::INT;
    }
    switch (type) {
      case A::FLOAT:
        return proto.f();
      case A::INT:
        return static_cast<std::int64_t>(proto.i());
      case A::STRING:
        return proto.s();
      case A::TENSOR:
        return tensor(*proto.mutable_t());
      case A::GRAPH:
        return std::make_shared<const Graph>(graph(*proto.mutable_g()));
      case A::FLOATS:
        return std::vector<float>(proto.floats().begin(), proto.floats().end());
      case A::INTS:
        return std::vector<std::int64_t>(proto.ints().begin(), proto.ints().end());
      case A::STRINGS:
        return std::vector<std::string>(proto.strings().begin(), proto.strings().end());
      case A::TENSORS: {
        std::vector<TensorData> tensors;
        for (auto& one : *proto.mutable_tensors()) tensors.push_back(tensor(one));
        return tensors;
      }
      case A::GRAPHS: {
        std::vector<GraphPtr> graphs;
        for (auto& one : *proto.mutable_graphs()) graphs.push_back(std::make_shared<const Graph>(graph(one)));
        return graphs;
      }
      default:
        return OpaqueProto{static_cast<std::int32_t>(type), proto.SerializeAsString()};
    }
  }

  ValueInfo value(onnx::ValueInfoProto& proto) {
    ValueInfo out;
    out.name = proto.name();
    out.doc = proto.doc_string();
    if (proto.has_type()) {
      if (proto.type().has_tensor_type()) {
        const auto& type = proto.type().tensor_type();
        out.dtype = static_cast<DType>(type.elem_type());
        if (type.has_shape()) {
          out.shape.emplace();
          for (const auto& dim : type.shape().dim()) {
            Dim one;
            if (dim.has_dim_value() && dim.dim_value() >= 0) one.value = dim.dim_value();
            if (dim.has_dim_param()) one.symbol = dim.dim_param();
            out.shape->push_back(one);
          }
        }
      } else {
        out.other_type = proto.type().SerializeAsString();
      }
    }
    proto.clear_name();
    proto.clear_doc_string();
    proto.clear_type();
    out.extra = proto.SerializeAsString();
    return out;
  }

  Function function(onnx::FunctionProto& proto) {
    Function out;
    out.name = proto.name();
    out.domain = normal_domain(proto.domain());
    out.overload = string_field(proto, kFunctionOverloadField);
    out.inputs.assign(proto.input().begin(), proto.input().end());
    out.outputs.assign(proto.output().begin(), proto.output().end());
    out.attributes.assign(proto.attribute().begin(), proto.attribute().end());
    out.opsets = opsets(proto.opset_import());
    out.doc = proto.doc_string();
    // attribute_proto (defaults) is newer than the oldest message classes: it stays in `extra` there, and is
    // parsed from the serialised form so that both see it.
    out.default_attributes = default_attributes(proto);
    for (auto& one : *proto.mutable_node()) out.nodes.push_back(node(one));
    proto.clear_name();
    proto.clear_domain();
    proto.clear_input();
    proto.clear_output();
    proto.clear_attribute();
    proto.clear_opset_import();
    proto.clear_doc_string();
    proto.clear_node();
    out.extra = proto.SerializeAsString();
    return out;
  }

  std::map<std::string, Attribute, std::less<>> default_attributes(const onnx::FunctionProto& proto) {
    constexpr int kAttributeProtoField = 11;
    std::map<std::string, Attribute, std::less<>> out;
    const auto add = [&](const std::string& bytes) {
      onnx::AttributeProto parsed;
      if (!parsed.ParseFromString(bytes))
        fail("{}: function '{}': unreadable attribute", origin_, proto.name());
      out.insert_or_assign(parsed.name(), attribute(parsed));
    };
    const auto* reflection = proto.GetReflection();
    if (const auto* field = proto.GetDescriptor()->FindFieldByNumber(kAttributeProtoField)) {
      for (int i = 0; i < reflection->FieldSize(proto, field); ++i)
        add(reflection->GetRepeatedMessage(proto, field, i).SerializeAsString());
    } else {
      const UnknownFieldSet& unknown = reflection->GetUnknownFields(proto);
      for (int i = 0; i < unknown.field_count(); ++i)
        if (unknown.field(i).number() == kAttributeProtoField &&
            unknown.field(i).type() == google::protobuf::UnknownField::TYPE_LENGTH_DELIMITED)
          add(unknown.field(i).length_delimited());
    }
    return out;
  }

  TensorData checked_tensor(onnx::TensorProto& proto) {
    const auto dtype = static_cast<DType>(proto.data_type());
    std::vector<std::int64_t> shape(proto.dims().begin(), proto.dims().end());
    if (proto.has_segment()) fail("is stored in segments, which is not supported");
    if (proto.data_location() == onnx::TensorProto::EXTERNAL) return external(proto, dtype, std::move(shape));
    if (dtype == DType::String)
      return TensorData(std::move(shape), {proto.string_data().begin(), proto.string_data().end()});
    if (proto.has_raw_data()) {
      auto raw = std::make_shared<const std::string>(std::move(*proto.mutable_raw_data()));
      const auto bytes = std::as_bytes(std::span<const char>(*raw));
      return TensorData(dtype, std::move(shape), bytes, std::move(raw));
    }
    switch (dtype) {
      case DType::Float32:
      case DType::Complex64:
        return from_typed<float>(dtype, std::move(shape), proto.float_data());
      case DType::Float64:
      case DType::Complex128:
        return from_typed<double>(dtype, std::move(shape), proto.double_data());
      case DType::Int64:
        return from_typed<std::int64_t>(dtype, std::move(shape), proto.int64_data());
      case DType::UInt64:
        return from_typed<std::uint64_t>(dtype, std::move(shape), proto.uint64_data());
      case DType::UInt32:
        return from_typed<std::uint32_t>(dtype, std::move(shape), proto.uint64_data());
      case DType::Int32:
        return from_typed<std::int32_t>(dtype, std::move(shape), proto.int32_data());
      default:
        break;
    }
    if (dtype_bits(dtype) == 16)
      return from_typed<std::uint16_t>(dtype, std::move(shape), proto.int32_data());
    return from_typed<std::uint8_t>(dtype, std::move(shape), proto.int32_data());  // 8 bits, or packed below
  }

  TensorData external(const onnx::TensorProto& proto, DType dtype, std::vector<std::int64_t> shape) {
    std::string location;
    std::uint64_t offset = 0;
    std::optional<std::uint64_t> length;
    const auto number = [](const std::string& key, const std::string& text) {
      if (text.empty() || text.size() > 18 || text.find_first_not_of("0123456789") != std::string::npos)
        fail("external data has an unreadable {} '{}'", key, text);
      return std::stoull(text);
    };
    for (const auto& entry : proto.external_data()) {
      if (entry.key() == "location") location = entry.value();
      if (entry.key() == "offset") offset = number("offset", entry.value());
      if (entry.key() == "length") length = number("length", entry.value());
    }
    const auto file = external_file(location);
    const auto count = element_count(shape);
    if (!count) fail("the shape {} is negative or too large", format_shape(shape));
    const auto wanted = static_cast<std::uint64_t>(packed_bytes(dtype, *count));
    const std::uint64_t available = file->bytes().size();
    if (offset > available || wanted > available - offset || length.value_or(wanted) != wanted)
      fail("needs {} bytes at offset {} of external data '{}', which has {}", wanted, offset, location,
           available);
    return TensorData(dtype, std::move(shape), file->bytes().subspan(offset, wanted), file);
  }

  std::shared_ptr<const MappedFile> external_file(const std::string& location) {
    if (folder_.empty()) fail("refers to external data '{}', which is not read here", location);
    std::error_code error;
    const fs::path root = fs::weakly_canonical(folder_, error);
    const fs::path path = fs::weakly_canonical(folder_ / location, error);
    const auto [root_end, diverges] = std::mismatch(root.begin(), root.end(), path.begin(), path.end());
    if (location.empty() || fs::path(location).is_absolute() || error || root_end != root.end())
      fail("external data '{}' lies outside the model's folder", location);
    auto& file = files_[path.string()];
    if (!file) file = std::make_shared<const MappedFile>(path);
    return file;
  }

  std::string origin_;
  fs::path folder_;
  std::map<std::string, std::shared_ptr<const MappedFile>> files_;
};

template <typename Proto>
void parse(Proto& proto, std::span<const std::byte> bytes, const std::string& origin, const char* what) {
  if (bytes.empty()) fail("{}: the file is empty", origin);
  if (bytes.size() > kMaxProtoBytes)
    fail("{}: {} bytes; a protobuf file above 2 GB must keep its weights as external data", origin,
         bytes.size());
  if (!proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    fail("{}: not {}, or a truncated one", origin, what);
}

}  // namespace

Graph parse_onnx(std::span<const std::byte> bytes, const std::string& origin, const fs::path& folder) {
  onnx::ModelProto proto;
  parse(proto, bytes, origin, "an ONNX model");
  return Reader(origin, folder).model(proto);
}

Graph read_onnx(const fs::path& path) {
  const MappedFile file(path);
  const fs::path folder = path.parent_path();
  return parse_onnx(file.bytes(), path.string(), folder.empty() ? fs::path(".") : folder);
}

TensorData read_onnx_tensor(const fs::path& path) {
  const MappedFile file(path);
  onnx::TensorProto proto;
  parse(proto, file.bytes(), path.string(), "an ONNX tensor");
  return Reader(path.string(), {}).tensor(proto);
}

}  // namespace lithe
