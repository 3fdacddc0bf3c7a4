// Damaged files are read or refused with one clear line; nothing else happens, whatever the damage.
#include "tests/mutation.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <zlib.h>

#include <iostream>
#include <opencv2/core/utils/logger.hpp>

#include "data/files.h"
#include "lithe/base/picture_size.h"
#include "lithe/data/dataset.h"
#include "lithe/data/image.h"
#include "lithe/data/npz.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;

std::int64_t peak_bytes() {
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

/// Reads `count` damaged copies of the file with `read`, which may throw nothing but Error(Input).
void expect_robust(const fs::path& path, int count, const std::function<void()>& read) {
  const std::string whole = read_text_file(path);
  const std::int64_t before = peak_bytes();
  Rng rng(whole.size());
  int accepted = 0;
  testing::internal::CaptureStderr();  // image libraries write there
  for (int i = 0; i < count; ++i) {
    test::write_bytes(path, test::mutate(whole, rng));
    try {
      read();
      ++accepted;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::Input) << path << ", copy " << i << ": " << error.what();
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    } catch (const std::exception& error) {
      ADD_FAILURE() << path << ", copy " << i << ": " << error.what();
    }
  }
  testing::internal::GetCapturedStderr();
  std::cout << path.filename().string() << ": " << accepted << " of " << count
            << " damaged copies were read\n";
  EXPECT_LT(accepted, count);
  EXPECT_LT(peak_bytes() - before, std::int64_t{2} << 30);
  test::write_bytes(path, whole);
  read();
}

void read_all(const std::string& spec) {
  const DatasetPtr data = open_dataset(spec, {.scale = 1});
  for (std::int64_t i = 0; i < std::min<std::int64_t>(data->size(), 8); ++i) data->get(i);
}

TEST(Damage, NumpyArrays) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "x.npy";
  const std::string wide =
      "{'descr': '>u2', 'fortran_order': True, 'shape': (2, 3, 2), }" + std::string(56, ' ') + "\n";
  test::write_bytes(path, std::string("\x93NUMPY\x01\x00\x76\x00", 10) + wide + std::string(24, '\x81'));
  expect_robust(path, 4000, [&] { read_npy(path); });
  for (const auto type : {at::kFloat, at::kBool, at::kLong}) {
    write_npy(at::arange(24).reshape({2, 3, 4}).to(type), path);
    expect_robust(path, 2000, [&] { read_all(path.string()); });
  }
}

TEST(Damage, NumpyArchives) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "x.npz";
  for (const bool compress : {false, true}) {
    write_npz({{"x", at::arange(48).reshape({4, 3, 4}).to(at::kFloat)}, {"labels", at::arange(4)}}, path,
              compress);
    expect_robust(path, 3000, [&] { read_all(path.string()); });
  }
}

TEST(Damage, Idx) {
  const TemporaryFolder folder;
  const fs::path images = folder.path() / "t-images-idx3-ubyte",
                 labels = folder.path() / "t-labels-idx1-ubyte";
  std::string pixels("\0\0\x08\x03\0\0\0\x05\0\0\0\x04\0\0\0\x03", 16);
  for (int i = 0; i < 60; ++i) pixels += static_cast<char>(4 * i);
  test::write_bytes(images, pixels);
  test::write_bytes(labels, std::string("\0\0\x08\x01\0\0\0\x05\x01\x02\x03\x04\x05", 13));
  for (const fs::path& path : {images, labels}) expect_robust(path, 3000, [&] { read_all(images.string()); });
  const fs::path packed = folder.path() / "p-images-idx3-ubyte.gz";
  const gzFile file = gzopen(packed.c_str(), "wb");
  ASSERT_EQ(gzwrite(file, pixels.data(), static_cast<unsigned>(pixels.size())),
            static_cast<int>(pixels.size()));
  gzclose(file);
  expect_robust(packed, 3000, [&] { read_all(packed.string()); });
}

TEST(Damage, Cifar) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "x.bin";
  for (const int labels : {1, 2}) {
    std::string records;
    for (int i = 0; i < 3; ++i)
      records += std::string(static_cast<std::size_t>(labels), '\x05') + std::string(3072, '\x40');
    test::write_bytes(path, records);
    expect_robust(path, 1000, [&] { read_all((labels == 1 ? "cifar10:" : "cifar100:") + path.string()); });
  }
}

TEST(Damage, Pictures) {
  cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT);
  const TemporaryFolder folder;
  cv::Mat picture(48, 40, CV_8UC3);
  for (int y = 0; y < picture.rows; ++y)
    for (int x = 0; x < picture.cols; ++x)
      picture.at<cv::Vec3b>(y, x) = {static_cast<uchar>(8 * x), static_cast<uchar>(9 * y),
                                     static_cast<uchar>(x * y)};
  int formats = 0;
  for (const char* extension : {"png", "jpg", "bmp", "ppm", "webp", "tiff", "jp2"}) {
    const fs::path path = folder.path() / ("x." + std::string(extension));
    if (!cv::haveImageWriter(path.string())) continue;
    ASSERT_TRUE(cv::imwrite(path.string(), picture));
    const MappedFile file(path);
    EXPECT_EQ(promised_size(file.text()), (PromisedSize{48, 40})) << extension;
    expect_robust(path, 400, [&] { read_image(path, Channels::AsInFile); });
    ++formats;
  }
  EXPECT_GE(formats, 5);
}

}  // namespace
}  // namespace lithe
