#include "lithe/graph/attribute_names.h"

#include <gmock/gmock.h>
#include <onnx/onnx_pb.h>

#include <filesystem>

#include "lithe/base/error.h"
#include "lithe/graph/onnx.h"
#include "message_of.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

Node node_with(const std::string& op_type, const std::string& attribute, const std::string& domain = "") {
  return {.op_type = op_type, .domain = domain, .attributes = {{attribute, std::int64_t{1}}}};
}

TEST(AttributeNames, MisspeltOnesAreFound) {
  EXPECT_EQ(unknown_attribute(node_with("Conv", "stridls")), "stridls");
  EXPECT_EQ(unknown_attribute(node_with("Conv", "stride")), "stride") << "part of a name";
  EXPECT_EQ(unknown_attribute(node_with("Conv", "strides pads")), "strides pads") << "two names";
  EXPECT_EQ(unknown_attribute(node_with("Where", "axis")), "axis") << "an operator without attributes";
  EXPECT_EQ(unknown_attribute(node_with("Conv", "strides")), "");
}

TEST(AttributeNames, EveryOpsetCounts) {
  for (const auto& [op_type, attribute] :
       std::vector<std::pair<std::string, std::string>>{{"Relu", "consumed_inputs"},        // opset 1
                                                        {"Add", "broadcast"},               // to 6
                                                        {"BatchNormalization", "spatial"},  // to 8
                                                        {"Upsample", "scales"},             // to 8
                                                        {"Clip", "max"},                    // to 10
                                                        {"Split", "num_outputs"},           // from 18
                                                        {"Resize", "antialias"},            // from 18
                                                        {"QuantizeLinear", "block_size"},   // from 21
                                                        {"Attention", "softcap"},           // from 23
                                                        {"Cast", "round_mode"}})            // from 24
    EXPECT_EQ(unknown_attribute(node_with(op_type, attribute)), "") << op_type;
}

TEST(AttributeNames, WhatTheSpecificationLeavesOpenIsNotJudged) {
  EXPECT_EQ(unknown_attribute(node_with("Conv", "anything", "com.example")), "");
  EXPECT_EQ(unknown_attribute(node_with("Frobnicate", "anything")), "");
  EXPECT_EQ(unknown_attribute(node_with("Conv", "__scope__")), "");
}

/// y = Relu(x), where the Relu may also lie in the branch of an If.
onnx::ModelProto model_with(const std::string& attribute, bool in_branch) {
  onnx::ModelProto model;
  model.set_ir_version(8);
  model.add_opset_import()->set_version(17);
  auto* graph = model.mutable_graph();
  graph->add_input()->set_name("x");
  graph->add_output()->set_name("y");
  if (in_branch) {
    graph->add_input()->set_name("which");
    auto* chooser = graph->add_node();
    chooser->set_op_type("If");
    chooser->add_input("which");
    chooser->add_output("y");
    for (const char* branch : {"then_branch", "else_branch"}) {
      auto* body = chooser->add_attribute();
      body->set_name(branch);
      body->set_type(onnx::AttributeProto::GRAPH);
      graph = body->mutable_g();
      graph->add_output()->set_name("inner");
    }
  }
  auto* node = graph->add_node();
  node->set_op_type("Relu");
  node->set_name("act");
  node->add_input("x");
  node->add_output(in_branch ? "inner" : "y");
  auto* odd = node->add_attribute();
  odd->set_name(attribute);
  odd->set_type(onnx::AttributeProto::INT);
  return model;
}

TEST(AttributeNames, ReadingRefusesThem) {
  for (const bool in_branch : {false, true}) {
    const std::string bytes = model_with("alpga", in_branch).SerializeAsString();
    const std::string said =
        test::message_of([&] { parse_onnx(std::as_bytes(std::span<const char>(bytes)), "odd.onnx"); });
    EXPECT_THAT(said, HasSubstr("odd.onnx: Relu node 'act': the operator Relu has no attribute 'alpga'"));
    EXPECT_THAT(said, HasSubstr("export it again"));
  }
}

TEST(AttributeNames, TheOnnxProjectsOwnModelsAreAccepted) {
  const fs::path root = "/usr/share/libonnx-testdata/data";
  if (!fs::exists(root)) GTEST_SKIP() << "libonnx-testdata is not installed";
  int read = 0;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (entry.path().filename() != "model.onnx") continue;
    EXPECT_NO_THROW(read_onnx(entry.path())) << entry.path();
    ++read;
  }
  EXPECT_GT(read, 500);
}

}  // namespace
}  // namespace lithe
