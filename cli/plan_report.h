// What a dry run found out, as a report.
#pragma once

#include <string>
#include <vector>

#include "cli/verb.h"
#include "lithe/report/report.h"

namespace lithe::cli {

/// A table of a JSON array of objects that all have these keys: one column a key.
Table table_of(const std::string& title, const json& rows, const std::vector<std::string>& keys);

/// Writes the report of a dry run where --report asks for one; returns its files. Throws Error(Input) if the
/// folder cannot be written.
std::vector<std::string> write_plan(const Invocation& call, const json& result, std::vector<Table> tables,
                                    const std::vector<std::string>& notes);

}  // namespace lithe::cli
