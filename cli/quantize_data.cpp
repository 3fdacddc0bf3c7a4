#include "cli/quantize_data.h"

#include <algorithm>
#include <optional>

#include "lithe/base/error.h"
#include "lithe/data/loader.h"
#include "lithe/data/sources.h"

namespace lithe::cli {
namespace {

namespace fs = std::filesystem;

bool names_pairs(const std::string& spec) {
  const DataSpec parts = parse_data_spec(spec);
  std::error_code ignored;
  return parts.kind == "pairs" ||
         (parts.kind.empty() && fs::is_directory(parts.path, ignored) && has_pairs(parts.path));
}

Preprocess at_own_size(Preprocess preprocess) {
  preprocess.resize.reset();
  preprocess.resize_shorter.reset();
  preprocess.crop.reset();
  return preprocess;
}

/// The centres of the inputs, without the targets.
class CroppedInputs : public Dataset {
 public:
  CroppedInputs(DatasetPtr dataset, PixelSize crop, ImageLayout layout)
      : dataset_(std::move(dataset)), crop_(crop), first_axis_(layout == ImageLayout::Nhwc ? 0 : 1) {}
  std::int64_t size() const override { return dataset_->size(); }
  Sample get(std::int64_t index) const override {
    Sample sample = dataset_->get(index);
    sample.target = at::Tensor();
    for (auto& [name, picture] : sample.inputs) {
      const std::int64_t height = picture.size(first_axis_), width = picture.size(first_axis_ + 1);
      if (height < crop_.height || width < crop_.width)
        fail("{}: --crop {}x{} is larger than the picture of {}x{}", sample.name, crop_.height, crop_.width,
             height, width);
      picture = picture.narrow(first_axis_, (height - crop_.height) / 2, crop_.height)
                    .narrow(first_axis_ + 1, (width - crop_.width) / 2, crop_.width);
    }
    return sample;
  }

 private:
  DatasetPtr dataset_;
  PixelSize crop_;
  std::int64_t first_axis_;
};

/// "--crop 48x64", which all pictures have; nothing where they are no pictures.
std::optional<std::string> common_crop(const std::vector<std::int64_t>& a,
                                       const std::vector<std::int64_t>& b) {
  if (a.size() != 3 || b.size() != 3) return std::nullopt;
  const std::size_t axis = a[0] == b[0] && (a[0] == 1 || a[0] == 3) ? 1 : 0;
  return fmt::format("--crop {}x{}", std::min(a[axis], b[axis]), std::min(a[axis + 1], b[axis + 1]));
}

}  // namespace

DatasetPtr open_calibration(const std::string& spec, const Preprocess& preprocess) {
  if (!preprocess.crop || !names_pairs(spec)) return open_dataset(spec, preprocess);
  Preprocess whole = preprocess;
  whole.crop.reset();
  return std::make_shared<CroppedInputs>(open_dataset(spec, whole), *preprocess.crop, preprocess.layout);
}

DatasetPtr open_measured(const std::string& spec, const Preprocess& preprocess, bool calibrates_apart) {
  return open_dataset(spec, calibrates_apart && names_pairs(spec) ? at_own_size(preprocess) : preprocess);
}

void require_inputs(const Graph& model, const Dataset& data, const std::string& spec) {
  const Sample sample = data.get(0);
  if (sample.inputs.contains("")) return;
  std::string held;
  for (const auto& [name, value] : sample.inputs) held += (held.empty() ? "'" : ", '") + name + "'";
  for (const ValueInfo* input : model.required_inputs())
    if (!sample.inputs.contains(input->name))
      fail("{}: holds no array '{}', which the model reads as {}; add it (there is {})",
           parse_data_spec(spec).path, input->name, format_type(*input), held);
}

void require_one_size(const DatasetPtr& data, int threads) {
  Loader loader(data, {.batch = 1, .threads = threads});
  std::map<std::string, std::vector<std::int64_t>, std::less<>> first;
  std::string first_name;
  for (Batch batch; loader.next(batch);)
    for (const auto& [name, value] : batch.inputs) {
      const std::vector<std::int64_t> sizes = value.sizes().slice(1).vec();
      const auto [seen, fresh] = first.emplace(name, sizes);
      if (fresh) first_name = batch.names.front();
      if (seen->second == sizes) continue;
      const auto crop = common_crop(seen->second, sizes);
      fail("{}: has the shape {}, {} has {}, but learning needs calibration data of one size; {}",
           batch.names.front(), format_shape(sizes), first_name, format_shape(seen->second),
           crop ? "give " + *crop + " or less (the centre of each picture), or --resize HEIGHTxWIDTH"
                : "cut them to one size");
    }
}

std::vector<std::string> plan_shapes(const Graph& model, const std::vector<std::string>& given,
                                     const DatasetPtr& data, bool pictures) {
  constexpr std::int64_t kSide = 48;
  if (!given.empty()) return given;
  const Feeds feeds = data ? bind_inputs(model, data->get(0).inputs) : Feeds{};
  std::vector<std::string> shapes;
  for (const ValueInfo* input : model.required_inputs()) {
    if (!input->shape || input->shape->empty()) continue;
    const DimVector& declared = *input->shape;
    if (std::all_of(declared.begin() + 1, declared.end(), [](const Dim& dim) { return dim.known(); }))
      continue;
    std::vector<std::int64_t> sizes{declared[0].known() ? declared[0].value : 1};
    if (const auto found = feeds.find(input->name);
        found != feeds.end() && found->second.dim() + 1 == static_cast<std::int64_t>(declared.size())) {
      for (const std::int64_t size : found->second.sizes()) sizes.push_back(size);
    } else if (pictures && declared.size() == 4 && (declared[1].known() || declared[3].known())) {
      for (std::size_t axis = 1; axis < 4; ++axis)
        sizes.push_back(declared[axis].known() ? declared[axis].value : kSide);
    } else {
      continue;  // what is open is named by whoever needs it
    }
    shapes.push_back(fmt::format("{}={}", input->name, fmt::join(sizes, ",")));
  }
  return shapes;
}

void require_parent_folder(const fs::path& folder, const char* flag) {
  std::error_code ignored;
  const fs::path whole = fs::absolute(folder, ignored).lexically_normal();
  const fs::path parent = whole.has_filename() ? whole.parent_path() : whole.parent_path().parent_path();
  if (!fs::is_directory(parent, ignored))
    fail("{} {}: there is no folder '{}'; make it first, or mend the path", flag, folder.string(),
         parent.string());
}

}  // namespace lithe::cli
