// Finished runs of a bench, kept as lines of JSON so that it can be stopped and started at will.
#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "bench/statistics.h"
#include "lithe/base/error.h"

namespace lithe::bench {

/// Runs by their "key". Several processes may append to one file; each sees what was there when it started.
class RunFile {
 public:
  /// Lines that are cut short, or that lack one of the fields, are left out: those runs are done again.
  RunFile(std::filesystem::path path, const std::vector<std::string>& fields) : path_(std::move(path)) {
    std::ifstream in(path_);
    for (std::string line; std::getline(in, line);) {
      nlohmann::json one = nlohmann::json::parse(line, nullptr, false);
      bool whole = one.is_object() && one.contains("key");
      for (const std::string& field : fields) whole = whole && one.contains(field);
      if (!whole) continue;
      const std::string key = one.at("key");  // before `one` is moved from
      runs_[key] = std::move(one);
    }
  }

  const nlohmann::json* find(const std::string& key) const {
    const auto found = runs_.find(key);
    return found == runs_.end() ? nullptr : &found->second;
  }

  const std::map<std::string, nlohmann::json>& all() const { return runs_; }

  void add(const nlohmann::json& run) {
    std::ofstream out(path_, std::ios::app);
    out << run.dump() + "\n" << std::flush;
    if (!out) fail_system("cannot append to {}", path_.string());
    runs_[run.at("key")] = run;
  }

 private:
  std::filesystem::path path_;
  std::map<std::string, nlohmann::json> runs_;
};

}  // namespace lithe::bench
