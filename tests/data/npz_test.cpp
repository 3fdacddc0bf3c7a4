#include "lithe/data/npz.h"

#include <gmock/gmock.h>

#include <cstring>

#include "data/files.h"

namespace lithe {
namespace {

using test::message_of;
using testing::HasSubstr;

std::string npy(const std::string& header, const std::string& data, char version = 1) {
  std::string out("\x93NUMPY", 6);
  out += version;
  out += '\0';
  out += static_cast<char>(header.size() & 0xFF);
  out += static_cast<char>(header.size() >> 8);
  if (version > 1) out += std::string(2, '\0');
  return out + header + data;
}

at::Tensor parse(const std::string& bytes) {
  return parse_npy(std::as_bytes(std::span(bytes)), "a.npy");
}

template <typename T>
std::string raw(std::vector<T> values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

TEST(Npy, ReadsWhatNumpyWrites) {
  const at::Tensor x = parse(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n",
                                 raw<float>({1, 2, 3, 4, 5, 6})));
  EXPECT_TRUE(at::equal(x, at::tensor({1.f, 2.f, 3.f, 4.f, 5.f, 6.f}).reshape({2, 3})));
  const at::Tensor scalar =
      parse(npy("{'descr': '<i8', 'fortran_order': False, 'shape': ()}\n", raw<std::int64_t>({-7})));
  EXPECT_EQ(scalar.dim(), 0);
  EXPECT_EQ(scalar.item<std::int64_t>(), -7);
  const at::Tensor one =
      parse(npy("{\"shape\": (2,), 'fortran_order': False, 'descr': '|b1'}\n", raw<char>({0, 5}), 2));
  EXPECT_TRUE(at::equal(one, at::tensor({0, 1}).to(at::kBool)));
}

TEST(Npy, FortranOrderAndByteOrder) {
  // Fortran order stores column by column: [[1, 3, 5], [2, 4, 6]].
  const at::Tensor x = parse(npy("{'descr': '<i4', 'fortran_order': True, 'shape': (2, 3), }\n",
                                 raw<std::int32_t>({1, 2, 3, 4, 5, 6})));
  EXPECT_TRUE(at::equal(x, at::tensor({1, 3, 5, 2, 4, 6}).to(at::kInt).reshape({2, 3})));
  EXPECT_TRUE(x.is_contiguous());
  const at::Tensor big = parse(
      npy("{'descr': '>u2', 'fortran_order': False, 'shape': (2,), }\n", std::string("\x01\x02\xff\xfe", 4)));
  EXPECT_EQ(big.scalar_type(), at::kInt);
  EXPECT_EQ(big[0].item<int>(), 0x0102);
  EXPECT_EQ(big[1].item<int>(), 0xfffe);
}

TEST(Npy, RefusesMalformedFiles) {
  const auto complaint = [](const std::string& bytes) { return message_of([&] { parse(bytes); }); };
  EXPECT_THAT(complaint(""), HasSubstr("a.npy: not a NumPy array"));
  EXPECT_THAT(complaint("PK\x03\x04 something else"), HasSubstr("not a NumPy array"));
  const std::string good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n";
  EXPECT_THAT(complaint(npy(good, "1234")), HasSubstr("asks for 24 bytes but the file holds 4"));
  EXPECT_THAT(complaint(npy(good, "").substr(0, 30)), HasSubstr("cut short"));
  EXPECT_THAT(
      complaint(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 16)}\n", "")),
      HasSubstr("too large"));
  EXPECT_THAT(
      complaint(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}\n", "")),
      HasSubstr("no number"));
  EXPECT_THAT(complaint(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}\n", "")),
              HasSubstr("no number"));
  EXPECT_THAT(complaint(npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n", "12345678")),
              HasSubstr("'|O'"));
  EXPECT_THAT(complaint(npy("{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (1,)}\n", "1234")),
              HasSubstr("structured"));
  EXPECT_THAT(complaint(npy("{'descr': '<f4', 'shape': (1,)}\n", "1234")), HasSubstr("missing"));
  EXPECT_THAT(complaint(npy("{'descr': '<f4", "")), HasSubstr("malformed"));
  EXPECT_THAT(
      complaint(npy("{'descr': '<u8', 'fortran_order': False, 'shape': (1,)}\n", std::string(8, '\xff'))),
      HasSubstr("does not fit"));
}

TEST(Npy, RoundTripOfEveryType) {
  const TemporaryFolder folder;
  for (const auto type : {at::kFloat, at::kDouble, at::kHalf, at::kByte, at::kChar, at::kShort, at::kInt,
                          at::kLong, at::kBool}) {
    const at::Tensor x = at::arange(12).reshape({3, 4}).t().to(type);
    write_npy(x, folder.path() / "x.npy");
    const at::Tensor y = read_npy(folder.path() / "x.npy");
    EXPECT_EQ(y.scalar_type(), type);
    EXPECT_TRUE(at::equal(x, y)) << type;
  }
}

TEST(Npz, RoundTripStoredAndDeflated) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "x.npz";
  const TensorMap tensors{{"images", at::arange(6000).to(at::kFloat).reshape({2, 3, 1000})},
                          {"t", at::tensor({1, 2}).to(at::kLong)},
                          {"layer/odd name:0", at::zeros({0, 4})}};
  for (const bool compress : {false, true}) {
    write_npz(tensors, path, compress);
    const TensorMap read = read_npz(path);
    ASSERT_EQ(read.size(), tensors.size());
    for (const auto& [name, tensor] : tensors) EXPECT_TRUE(at::equal(read.at(name), tensor)) << name;
    const std::string first = read_text_file(path);
    write_npz(tensors, path, compress);
    EXPECT_EQ(read_text_file(path), first) << "the same tensors must give the same bytes";
  }
  EXPECT_LT(std::filesystem::file_size(path), 20000u);
}

TEST(Npz, RefusesDamagedFiles) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "x.npz";
  write_npz({{"a", at::arange(1000)}}, path, true);
  const std::string whole = read_text_file(path);
  EXPECT_THAT(message_of([&] { read_npz(folder.path() / "none.npz"); }), HasSubstr("none.npz"));
  int refused = 0;
  for (std::size_t keep : {std::size_t{0}, std::size_t{10}, whole.size() / 2, whole.size() - 1}) {
    test::write_bytes(path, whole.substr(0, keep));
    refused += !message_of([&] { read_npz(path); }).empty();
  }
  EXPECT_EQ(refused, 4);
  // A flipped bit in the deflated data is found by its checksum; nothing may crash wherever it is.
  for (std::size_t at = 0; at < whole.size(); at += 7) {
    std::string bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
    test::write_bytes(path, bytes);
    message_of([&] { read_npz(path); });
  }
  std::string flipped = whole;
  flipped[whole.size() / 3] = static_cast<char>(flipped[whole.size() / 3] ^ 0x40);
  test::write_bytes(path, flipped);
  EXPECT_THAT(message_of([&] { read_npz(path); }), HasSubstr("array 'a'"));
}

}  // namespace
}  // namespace lithe
