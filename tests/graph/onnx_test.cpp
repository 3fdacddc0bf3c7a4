#include "lithe/graph/onnx.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include <filesystem>
#include <functional>

#include "lithe/base/error.h"
#include "lithe/base/file.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

/// y = Add(x, w): the smallest model with a constant.
onnx::ModelProto small_model() {
  onnx::ModelProto model;
  model.set_ir_version(8);
  auto* opset = model.add_opset_import();
  opset->set_domain("");
  opset->set_version(17);
  auto* graph = model.mutable_graph();
  graph->set_name("g");
  auto* weight = graph->add_initializer();
  weight->set_name("w");
  weight->set_data_type(onnx::TensorProto::FLOAT);
  weight->add_dims(2);
  weight->add_float_data(1.5f);
  weight->add_float_data(-2.0f);
  auto* node = graph->add_node();
  node->set_op_type("Add");
  node->set_name("add");
  node->add_input("x");
  node->add_input("w");
  node->add_output("y");
  for (auto* value : {graph->add_input(), graph->add_output()}) {
    auto* type = value->mutable_type()->mutable_tensor_type();
    type->set_elem_type(onnx::TensorProto::FLOAT);
    type->mutable_shape()->add_dim()->set_dim_param("n");
    type->mutable_shape()->add_dim()->set_dim_value(2);
  }
  graph->mutable_input(0)->set_name("x");
  graph->mutable_output(0)->set_name("y");
  return model;
}

Graph parse(const onnx::ModelProto& model) {
  const std::string bytes = model.SerializeAsString();
  return parse_onnx(std::as_bytes(std::span<const char>(bytes)), "test.onnx");
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::Input);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.what();
  }
  return "no error";
}

std::string error_of(const onnx::ModelProto& model) {
  return error_of([&] { parse(model); });
}

TEST(Onnx, ReadsTypedInitializersAndSymbolicDims) {
  const Graph graph = parse(small_model());
  ASSERT_EQ(graph.nodes.size(), 1u);
  EXPECT_EQ(graph.nodes[0].name, "add");
  EXPECT_EQ(graph.opset(), 17);
  EXPECT_EQ(format_type(graph.inputs[0]), "float32 [n, 2]");
  EXPECT_THAT(graph.constant("w")->to_floats(), testing::ElementsAre(1.5f, -2.0f));
}

TEST(Onnx, WritesWhatItRead) {
  onnx::ModelProto model = small_model();
  auto* entry = model.add_metadata_props();
  entry->set_key("author");
  entry->set_value("someone");
  auto* function = model.add_functions();
  function->set_name("Twice");
  function->set_domain("mine");
  function->add_input("a");
  function->add_output("b");
  auto* import = function->add_opset_import();
  import->set_version(17);
  auto* inner = function->add_node();
  inner->set_op_type("Add");
  inner->add_input("a");
  inner->add_input("a");
  inner->add_output("b");
  auto* attribute = inner->add_attribute();
  attribute->set_name("axis");
  attribute->set_type(onnx::AttributeProto::INT);
  attribute->set_ref_attr_name("which");
  // Fields newer than the message classes: a node's overload (8) and the graph's metadata (16).
  auto* node = model.mutable_graph()->mutable_node(0);
  node->GetReflection()->MutableUnknownFields(node)->AddLengthDelimited(8, "second");
  auto* graph_proto = model.mutable_graph();
  graph_proto->GetReflection()->MutableUnknownFields(graph_proto)->AddLengthDelimited(16, "\x0a\x01k");

  const Graph graph = parse(model);
  EXPECT_EQ(graph.nodes[0].overload, "second");
  EXPECT_EQ(graph.header.metadata.at("author"), "someone");
  const std::string once = serialize_onnx(graph);
  const Graph again = parse_onnx(std::as_bytes(std::span<const char>(once)), "again");
  EXPECT_EQ(serialize_onnx(again), once);
  onnx::ModelProto written;
  ASSERT_TRUE(written.ParseFromString(once));
  EXPECT_EQ(written.functions(0).node(0).attribute(0).ref_attr_name(), "which");
  const auto& unknown = written.graph().GetReflection()->GetUnknownFields(written.graph());
  ASSERT_EQ(unknown.field_count(), 1);
  EXPECT_EQ(unknown.field(0).number(), 16);
}

TEST(Onnx, KeepsFourBitIntegersPacked) {
  onnx::ModelProto model = small_model();
  auto* tensor = model.mutable_graph()->add_initializer();
  tensor->set_name("q");
  tensor->set_data_type(22);
  tensor->add_dims(5);
  tensor->set_raw_data("\x78\x3F\x05", 3);
  const Graph graph = parse(model);
  EXPECT_EQ(graph.constant("q")->dtype(), DType::Int4);
  EXPECT_THAT(graph.constant("q")->to_ints(), testing::ElementsAre(-8, 7, -1, 3, 5));
  EXPECT_EQ(serialize_onnx(graph), serialize_onnx(parse(model)));
}

TEST(Onnx, RoundTripsExternalData) {
  const TemporaryFolder folder;
  const Graph graph = parse(small_model());
  write_onnx(graph, folder.path() / "m.onnx", {.external_threshold = 1});
  EXPECT_TRUE(fs::exists(folder.path() / "m.onnx.data"));
  const Graph again = read_onnx(folder.path() / "m.onnx");
  EXPECT_THAT(again.constant("w")->to_floats(), testing::ElementsAre(1.5f, -2.0f));
}

TEST(Onnx, RefusesExternalDataOutsideTheFolder) {
  const TemporaryFolder folder;
  fs::create_directory(folder.path() / "models");
  write_file(folder.path() / "secret", std::string(8, 'x'));
  for (const char* location : {"../secret", "/etc/passwd", "link", ""}) {
    onnx::ModelProto model = small_model();
    auto* tensor = model.mutable_graph()->mutable_initializer(0);
    tensor->clear_float_data();
    tensor->set_data_location(onnx::TensorProto::EXTERNAL);
    auto* entry = tensor->add_external_data();
    entry->set_key("location");
    entry->set_value(location);
    if (std::string(location) == "link")
      fs::create_symlink(folder.path() / "secret", folder.path() / "models" / "link");
    write_file(folder.path() / "models" / "m.onnx", model.SerializeAsString());
    EXPECT_THAT(error_of([&] { read_onnx(folder.path() / "models" / "m.onnx"); }),
                HasSubstr("outside the model's folder"))
        << location;
  }
}

TEST(Onnx, RefusesExternalDataThatIsTooShort) {
  const TemporaryFolder folder;
  write_onnx(parse(small_model()), folder.path() / "m.onnx", {.external_threshold = 1});
  fs::resize_file(folder.path() / "m.onnx.data", 4);
  EXPECT_THAT(error_of([&] { read_onnx(folder.path() / "m.onnx"); }), HasSubstr("needs 8 bytes at offset 0"));
}

TEST(Onnx, RefusesWhatIsNoModel) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "m.onnx";
  const auto error = [&] { return error_of([&] { read_onnx(path); }); };
  EXPECT_THAT(error(), HasSubstr("cannot open"));
  write_file(path, "");
  EXPECT_THAT(error(), HasSubstr("the file is empty"));
  write_file(path, "this is a text, not a model, whatever its name says");
  EXPECT_THAT(error(), HasSubstr("m.onnx: not an ONNX model"));
  const std::string whole = small_model().SerializeAsString();
  write_file(path, whole.substr(0, whole.size() / 2));
  EXPECT_THAT(error(), HasSubstr("m.onnx: not an ONNX model"));
  EXPECT_THAT(error_of([&] { read_onnx(folder.path()); }), HasSubstr("not a regular file"));
}

TEST(Onnx, RefusesSizesThatDisagree) {
  onnx::ModelProto model = small_model();
  model.mutable_graph()->mutable_initializer(0)->set_dims(0, 3);
  EXPECT_THAT(error_of(model),
              HasSubstr("tensor 'w': the shape [3] of float32 takes 12 bytes but 8 are given"));
  model.mutable_graph()->mutable_initializer(0)->set_dims(0, -2);
  EXPECT_THAT(error_of(model), HasSubstr("negative or too large"));
  model.mutable_graph()->mutable_initializer(0)->set_dims(0, std::int64_t{1} << 62);
  model.mutable_graph()->mutable_initializer(0)->add_dims(8);
  EXPECT_THAT(error_of(model), HasSubstr("negative or too large"));
  model.mutable_graph()->mutable_initializer(0)->clear_dims();
  model.mutable_graph()->mutable_initializer(0)->add_dims(std::int64_t{1} << 61);
  EXPECT_THAT(error_of(model), HasSubstr("too many"));
}

TEST(Onnx, RefusesBrokenGraphs) {
  onnx::ModelProto cyclic = small_model();
  cyclic.mutable_graph()->mutable_node(0)->set_input(0, "y");
  EXPECT_THAT(error_of(cyclic), HasSubstr("cyclic"));
  onnx::ModelProto dangling = small_model();
  dangling.mutable_graph()->mutable_node(0)->set_input(0, "nowhere");
  EXPECT_THAT(error_of(dangling), HasSubstr("Add node 'add': reads 'nowhere', which nothing makes"));
  onnx::ModelProto twice = small_model();
  *twice.mutable_graph()->add_node() = twice.graph().node(0);
  EXPECT_THAT(error_of(twice), HasSubstr("'y' has a maker already"));
  onnx::ModelProto future = small_model();
  future.set_ir_version(99);
  EXPECT_THAT(error_of(future), HasSubstr("IR version 99"));
  onnx::ModelProto idle = small_model();
  idle.mutable_graph()->clear_output();
  EXPECT_THAT(error_of(idle), HasSubstr("test.onnx: the graph has no outputs"));
}

TEST(Onnx, BitFlipsNeverCrash) {
  const std::string whole = small_model().SerializeAsString();
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    try {
      serialize_onnx(parse_onnx(std::as_bytes(std::span<const char>(flipped)), "flipped"));
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::Input) << error.what();
    }
  }
}

TEST(Onnx, WriteRefusesAMissingFolderAndKeepsWhatStood) {
  const TemporaryFolder folder;
  const Graph graph = parse(small_model());
  EXPECT_THAT(error_of([&] { write_onnx(graph, folder.path() / "no" / "m.onnx"); }),
              HasSubstr("does not exist"));
  Graph broken = graph;
  broken.nodes[0].inputs[0] = "nowhere";
  write_file(folder.path() / "m.onnx", "before");
  EXPECT_THAT(error_of([&] { write_onnx(broken, folder.path() / "m.onnx"); }), HasSubstr("nowhere"));
  EXPECT_EQ(read_text_file(folder.path() / "m.onnx"), "before");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 1);
}

}  // namespace
}  // namespace lithe
