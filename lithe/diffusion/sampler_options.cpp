#include "lithe/diffusion/sampler_options.h"

#include <algorithm>
#include <array>
#include <utility>

#include "lithe/base/error.h"

namespace lithe {
namespace {

template <typename Kind, std::size_t Count>
using Names = std::array<std::pair<Kind, const char*>, Count>;

constexpr Names<SamplerKind, 4> kSamplers{{{SamplerKind::Ddim, "ddim"},
                                           {SamplerKind::Ddpm, "ddpm"},
                                           {SamplerKind::Plms, "plms"},
                                           {SamplerKind::DpmSolver, "dpmpp2m"}}};
constexpr Names<Prediction, 3> kPredictions{
    {{Prediction::Epsilon, "epsilon"}, {Prediction::V, "v"}, {Prediction::X0, "x0"}}};
constexpr Names<GuidanceKind, 3> kGuidances{{{GuidanceKind::None, "none"},
                                             {GuidanceKind::ClassifierFree, "classifier_free"},
                                             {GuidanceKind::Classifier, "classifier"}}};

template <typename Kind, std::size_t Count>
std::string name_in(const Names<Kind, Count>& names, Kind kind) {
  return std::find_if(names.begin(), names.end(), [&](const auto& one) { return one.first == kind; })->second;
}

template <typename Kind, std::size_t Count>
Kind parse_in(const Names<Kind, Count>& names, std::string_view name, std::string_view what) {
  std::string known;
  for (const auto& [kind, text] : names) {
    if (name == text) return kind;
    known += (known.empty() ? "" : ", ") + std::string(text);
  }
  fail("no {} is called '{}'; there are {}", what, name, known);
}

}  // namespace

std::string sampler_name(SamplerKind kind) {
  return name_in(kSamplers, kind);
}
SamplerKind parse_sampler(std::string_view name) {
  return parse_in(kSamplers, name, "sampler");
}
std::string prediction_name(Prediction prediction) {
  return name_in(kPredictions, prediction);
}
Prediction parse_prediction(std::string_view name) {
  return parse_in(kPredictions, name, "prediction");
}
std::string guidance_name(GuidanceKind kind) {
  return name_in(kGuidances, kind);
}
GuidanceKind parse_guidance(std::string_view name) {
  return parse_in(kGuidances, name, "guidance");
}

}  // namespace lithe
