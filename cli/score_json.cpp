#include "cli/score_json.h"

#include <fmt/format.h>

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
  if (score->n_exact > 0) object["n_exact"] = score->n_exact;
  add("argmax_agreement", score->argmax_agreement);
  add("sqnr_db", score->sqnr_db);
  return object;
}

std::vector<std::string> notes_on_scores(const Evaluation& score) {
  std::vector<std::string> notes;
  const auto images = static_cast<std::int64_t>(score.images.size());
  const auto exact = [&](std::int64_t count, const char* what) {
    if (count > 0 && count < images)
      notes.push_back(fmt::format("{} of {} images {} equal to the target: the mean PSNR (Y) leaves {} out",
                                  count, images, what, count == 1 ? "it" : "them"));
  };
  exact(score.n_exact, "came out");
  if (score.bicubic_psnr_y) exact(score.n_bicubic_exact, "enlarged by bicubic came out");
  if (score.ssim_y && score.n_without_ssim > 0)
    notes.push_back(
        fmt::format("{} of {} images are smaller than the 11x11 pixels that SSIM needs: its mean "
                    "leaves them out",
                    score.n_without_ssim, images));
  return notes;
}

}  // namespace lithe::cli
