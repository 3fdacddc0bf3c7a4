#include "cli/score_json.h"

#include "cli/json.h"

namespace lithe::cli {

nlohmann::json score_json(const std::optional<Evaluation>& score) {
  if (!score) return nullptr;
  nlohmann::json object{{"n", score->n}};
  const auto add = [&](const char* name, const std::optional<double>& value) {
    if (value) object[name] = or_null(value);
  };
  add("top1", score->top1);
  add("top5", score->top5);
  add("loss", score->loss);
  add("psnr_y", score->psnr_y);
  add("bicubic_psnr_y", score->bicubic_psnr_y);
  add("ssim_y", score->ssim_y);
  add("argmax_agreement", score->argmax_agreement);
  add("sqnr_db", score->sqnr_db);
  return object;
}

}  // namespace lithe::cli
