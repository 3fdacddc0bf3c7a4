// The parts of `lithe schedule`.
#pragma once

#include <CLI/CLI.hpp>

#include "cli/denoiser_flags.h"
#include "cli/verb.h"
#include "lithe/diffusion/schedule_file.h"
#include "lithe/diffusion/search_schedule.h"
#include "lithe/report/report.h"

namespace lithe::cli {

void add_schedule_search(CLI::App& parent);
void add_schedule_show(CLI::App& parent);
void add_schedule_transfer(CLI::App& parent);
void add_schedule_export(CLI::App& parent);

/// What a search was asked and what it cost, for the report and the file.
struct SearchSummary {
  std::string model, method, metric, data, features;
  std::int64_t nfe = 0, images = 0, final_images = 0;
  double macs = 0;         // of one image
  double full_macs = 0;    // with every layer
  double noise_floor = 0;  // of the metric at final_images; 0: none
  double seconds = 0;
  std::vector<std::pair<std::string, std::vector<Judged>>> verdicts;  // by other features: their name
};

json search_json(const ScheduleSearchResult& result, const SearchSummary& summary,
                 const SavedSchedule& schedule);
Report search_report(const ScheduleSearchResult& result, const SearchSummary& summary,
                     const SavedSchedule& schedule, const LoadedDenoiser& model);
std::string judged_table(const ScheduleSearchResult& result);

/// Steps of a schedule on the log-SNR axis; for the reports.
LinePlot log_snr_plot(const NoiseSchedule& noise,
                      const std::vector<std::pair<std::string, SamplingPlan>>& plans);

}  // namespace lithe::cli
