#include "lithe/graph/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/models/models.h"

namespace lithe {
namespace {

std::string file_of(const std::string& header, std::size_t data) {
  std::string out;
  for (std::size_t i = 0; i < 8; ++i) out.push_back(static_cast<char>(header.size() >> (8 * i) & 0xff));
  return out + header + std::string(data, '\1');
}

SafeTensors parse(const std::string& bytes) {
  return parse_safetensors(std::as_bytes(std::span(bytes)), nullptr, "weights");
}

std::string message_of(const std::string& bytes) {
  try {
    parse(bytes);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::Input);
    return error.what();
  }
  return "";
}

TEST(SafeTensors, ComeBackAsTheyWere) {
  SafeTensors file;
  file.metadata["made by"] = "a test";
  file.tensors["weights"] = TensorData::from<float>({2, 3}, {1, 2, 3, 4, 5, -0.5f});
  file.tensors["bytes"] = TensorData::from<std::uint8_t>({3}, {1, 2, 255});
  file.tensors["scalar"] = TensorData::scalar<double>(1e300);
  file.tensors["none"] = TensorData::from<std::int64_t>({0, 4}, {});
  const TemporaryFolder folder;
  const auto path = folder.path() / "a.safetensors";
  write_safetensors(path, file);
  const SafeTensors read = read_safetensors(path);
  EXPECT_EQ(read.metadata, file.metadata);
  ASSERT_EQ(read.tensors.size(), 4u);
  for (const auto& [name, tensor] : file.tensors) {
    const TensorData& other = read.tensors.at(name);
    EXPECT_EQ(other.dtype(), tensor.dtype());
    EXPECT_EQ(other.shape(), tensor.shape());
    EXPECT_TRUE(
        std::equal(other.bytes().begin(), other.bytes().end(), tensor.bytes().begin(), tensor.bytes().end()));
  }
  EXPECT_EQ(read.tensors.at("scalar").values<double>()[0], 1e300);
}

// Written out by hand from the format's description: length, JSON, elements in little endian.
TEST(SafeTensors, ReadTheFormat) {
  std::string bytes = file_of(R"({"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}})", 0);
  bytes += std::string("\x80\x3f\x00\xc0", 4);  // 1 and -2
  const SafeTensors file = parse(bytes);
  EXPECT_EQ(file.tensors.at("a").dtype(), DType::BFloat16);
  EXPECT_EQ(file.tensors.at("a").to_floats(), (std::vector<float>{1, -2}));
  const TensorData wide = convert_floats(file.tensors.at("a"), DType::Float32);
  EXPECT_EQ(std::vector<float>(wide.values<float>().begin(), wide.values<float>().end()),
            (std::vector<float>{1, -2}));
}

TEST(SafeTensors, RefuseWhatDoesNotAddUp) {
  const auto entry = [](const char* dtype, const char* shape, const char* offsets) {
    return std::string(R"("a":{"dtype":")") + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" +
           offsets + "}";
  };
  EXPECT_NE(message_of("abc").find("too few"), std::string::npos);
  EXPECT_NE(message_of(std::string("\xff\xff\xff\xff\xff\xff\xff\xff", 8) + "{}").find("cut short"),
            std::string::npos);
  EXPECT_NE(message_of(file_of("[1]", 0)).find("no JSON object"), std::string::npos);
  EXPECT_NE(message_of(file_of("{", 0)).find("no JSON object"), std::string::npos);
  EXPECT_EQ(message_of(file_of("{" + entry("F32", "[2]", "[0,8]") + "}", 8)), "");
  EXPECT_NE(message_of(file_of("{" + entry("F32", "[2]", "[0,8]") + "}", 4)).find("outside"),
            std::string::npos);
  EXPECT_NE(message_of(file_of("{" + entry("F32", "[2]", "[0,8]") + "}", 12)).find("follow"),
            std::string::npos);
  EXPECT_NE(message_of(file_of("{" + entry("F32", "[3]", "[0,8]") + "}", 8)).find("do not hold"),
            std::string::npos);
  EXPECT_NE(message_of(file_of("{" + entry("F32", "[4611686018427387904,4]", "[0,0]") + "}", 0))
                .find("do not hold"),
            std::string::npos);
  EXPECT_NE(message_of(file_of("{" + entry("F32", "[-1]", "[0,4]") + "}", 4)).find("shape"),
            std::string::npos);
  EXPECT_NE(message_of(file_of("{" + entry("Q7", "[1]", "[0,4]") + "}", 4)).find("unknown type"),
            std::string::npos);
  EXPECT_NE(message_of(file_of("{" + entry("F32", "[1]", "[8,4]") + "}", 8)).find("outside"),
            std::string::npos);
  EXPECT_NE(message_of(file_of("{" + entry("U8", "[4]", "[0,4]") +
                                   R"(,"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
                               4))
                .find("overlaps"),
            std::string::npos);
  EXPECT_NE(message_of(file_of("{" + entry("U8", "[2]", "[2,4]") + "}", 4)).find("gap"), std::string::npos);
  EXPECT_NE(message_of(file_of(R"({"__metadata__":{"a":1}})", 0)).find("no text"), std::string::npos);
}

TEST(SafeTensors, CarryWeightsByName) {
  Graph source = build_resnet20({.classes = 3, .image_size = 8, .seed = 1});
  Graph target = build_resnet20({.classes = 3, .image_size = 8, .seed = 2});
  SafeTensors file{named_weights(source), {}};
  // A half-precision file is as good.
  file.tensors["fc.bias"] =
      TensorData(DType::Float16, {3}, std::as_bytes(std::span("\x00\x3c\x00\xc0\x00\x38", 6)), nullptr);
  file.tensors.erase("conv1.weight");
  file.tensors["optimiser"] = TensorData::scalar<float>(1);
  const std::string bytes = serialize_safetensors(file);
  const LoadedWeights loaded = load_weights(target, parse(bytes).tensors, "weights");
  EXPECT_EQ(loaded.missing, std::vector<std::string>{"conv1.weight"});
  EXPECT_EQ(loaded.unknown, std::vector<std::string>{"optimiser"});
  EXPECT_EQ(target.constants.at("fc.bias").to_floats(), (std::vector<float>{1, -2, 0.5f}));
  EXPECT_EQ(target.constants.at("fc.bias").dtype(), DType::Float32);
  EXPECT_EQ(target.constants.at("fc.weight").to_floats(), source.constants.at("fc.weight").to_floats());
  EXPECT_NE(target.constants.at("conv1.weight").to_floats(), source.constants.at("conv1.weight").to_floats());
}

TEST(SafeTensors, KeepTheGraphWhenTheyDoNotFit) {
  Graph graph = build_resnet20({.classes = 3, .image_size = 8});
  const auto before = graph.constants.at("conv1.weight").to_floats();
  NamedTensors tensors = named_weights(build_resnet20({.classes = 4, .image_size = 8, .seed = 5}));
  EXPECT_THROW(load_weights(graph, tensors, "weights"), Error);  // fc.weight has another shape
  EXPECT_EQ(graph.constants.at("conv1.weight").to_floats(), before);
  EXPECT_THROW(load_weights(graph, {{"x", TensorData::scalar<float>(1)}}, "weights"), Error);
}

}  // namespace
}  // namespace lithe
