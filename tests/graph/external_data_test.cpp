// External data of hostile models: whatever location, offset and length say, nothing is read that lies
// outside the model's folder or past the end of a file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>
#include <sys/stat.h>

#include <array>
#include <filesystem>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/graph/onnx.h"
#include "tests/mutation.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using Entries = std::vector<std::pair<std::string, std::string>>;

constexpr std::size_t kFileBytes = 64;
const std::string kSecret = "not for this model";

/// root/outside.bin holds the secret; root/models/ holds inside.bin, deep/inner.bin and three links.
class ExternalData : public testing::Test {
 protected:
  ExternalData() : models_(root_.path() / "models") {
    fs::create_directories(models_ / "deep");
    std::string secret;
    while (secret.size() < kFileBytes) secret += kSecret;
    write_file(root_.path() / "outside.bin", secret);
    write_file(models_ / "inside.bin", std::string(kFileBytes, 'i'));
    write_file(models_ / "deep" / "inner.bin", std::string(kFileBytes, 'd'));
    fs::create_symlink(root_.path() / "outside.bin", models_ / "link.bin");
    fs::create_directory_symlink(root_.path(), models_ / "up");
    fs::create_symlink("inside.bin", models_ / "harmless.bin");
  }

  /// y = Add(x, w) with two floats of w elsewhere.
  static std::string model(const Entries& entries) {
    onnx::ModelProto model;
    model.set_ir_version(8);
    auto* opset = model.add_opset_import();
    opset->set_version(17);
    auto* graph = model.mutable_graph();
    auto* weight = graph->add_initializer();
    weight->set_name("w");
    weight->set_data_type(onnx::TensorProto::FLOAT);
    weight->add_dims(2);
    weight->set_data_location(onnx::TensorProto::EXTERNAL);
    for (const auto& [key, value] : entries) {
      auto* entry = weight->add_external_data();
      entry->set_key(key);
      entry->set_value(value);
    }
    auto* node = graph->add_node();
    node->set_op_type("Add");
    node->add_input("x");
    node->add_input("w");
    node->add_output("y");
    graph->add_input()->set_name("x");
    graph->add_output()->set_name("y");
    return model.SerializeAsString();
  }

  /// What the reader makes of it: the weight's bytes, or the message.
  std::string read(const std::string& bytes) const {
    try {
      const Graph graph = parse_onnx(std::as_bytes(std::span<const char>(bytes)), "m.onnx", models_);
      const std::string written = serialize_onnx(graph);
      EXPECT_EQ(written.find(kSecret), std::string::npos);
      EXPECT_LT(written.size(), bytes.size() + 4 * kFileBytes);
      const TensorData* weight = graph.constant("w");
      if (!weight) return "";
      const auto span = weight->bytes();
      return {reinterpret_cast<const char*>(span.data()), span.size()};
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::Input) << error.what();
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
      return error.what();
    }
  }

  const TemporaryFolder root_;
  const fs::path models_;
};

TEST_F(ExternalData, IsReadFromTheFolderAlone) {
  for (const char* location : {"inside.bin", "./inside.bin", "deep/../inside.bin", "harmless.bin"})
    EXPECT_EQ(read(model({{"location", location}})), "iiiiiiii") << location;
  EXPECT_EQ(read(model({{"location", "deep/inner.bin"}, {"offset", "56"}, {"length", "8"}})), "dddddddd");
  for (const std::string& location :
       {std::string("../outside.bin"), std::string("deep/../../outside.bin"), std::string("link.bin"),
        std::string("up/outside.bin"), std::string("up/models/../outside.bin"),
        (root_.path() / "outside.bin").string(), std::string("/dev/zero"), std::string(".."), std::string()})
    EXPECT_THAT(read(model({{"location", location}})), HasSubstr("outside the model's folder")) << location;
  EXPECT_THAT(read(model({{"location", "deep"}})), HasSubstr("not a regular file"));
  EXPECT_THAT(read(model({{"location", "gone.bin"}})), HasSubstr("cannot open"));
  ASSERT_EQ(::mkfifo((models_ / "pipe.bin").c_str(), 0600), 0);
  EXPECT_THAT(read(model({{"location", "pipe.bin"}})), HasSubstr("not a regular file"));
  // Inside all the same, as the name of a link back down leads there.
  EXPECT_EQ(read(model({{"location", "up/models/inside.bin"}})), "iiiiiiii");
}

TEST_F(ExternalData, EndsWithTheFile) {
  for (const char* offset : {"57", "64", "65", "4294967295", "999999999999999999"})
    EXPECT_THAT(read(model({{"location", "inside.bin"}, {"offset", offset}})), HasSubstr("needs 8 bytes"))
        << offset;
  for (const char* number : {"-1", "0x10", "1e3", " 4", "4 ", "9999999999999999999", "", "four"})
    for (const char* key : {"offset", "length"})
      EXPECT_THAT(read(model({{"location", "inside.bin"}, {key, number}})), HasSubstr("unreadable"))
          << number;
  for (const char* length : {"0", "7", "9", "64"})
    EXPECT_THAT(read(model({{"location", "inside.bin"}, {"length", length}})), HasSubstr("needs 8 bytes"))
        << length;
}

TEST_F(ExternalData, DamagedModelsReadNothingElse) {
  const std::array<Entries, 4> seeds{Entries{{"location", "inside.bin"}, {"offset", "8"}, {"length", "8"}},
                                     Entries{{"location", "deep/../inside.bin"}, {"checksum", "0"}},
                                     Entries{{"location", "link.bin"}},
                                     Entries{{"location", "up/outside.bin"}}};
  Rng rng(11);
  for (const Entries& entries : seeds) {
    const std::string whole = model(entries);
    for (int i = 0; i < 4000; ++i) read(test::mutate(whole, rng));
  }
}

TEST_F(ExternalData, DamagedEntriesReadNothingElse) {
  const std::array<std::string, 12> pieces{"..",   "/",  "inside.bin", "outside.bin",
                                           "deep", "up", "link.bin",   ".",
                                           "0",    "8",  "64",         std::string(1, '\0')};
  Rng rng(12);
  int good = 0;
  for (int i = 0; i < 4000; ++i) {
    Entries entries;
    for (const char* key : {"location", "offset", "length"}) {
      std::string value;
      for (std::uint64_t count = rng.below(4); count > 0; --count) value += pieces[rng.below(pieces.size())];
      if (rng.below(3) > 0 || key[1] == 'o') entries.emplace_back(key, value);
    }
    const std::string result = read(model(entries));
    if (result == "iiiiiiii" || result == "dddddddd") ++good;
  }
  EXPECT_GT(good, 0);
}

}  // namespace
}  // namespace lithe
