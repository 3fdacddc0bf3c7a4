// What a dry run found out, as a report.
#pragma once

#include <string>
#include <vector>

#include "cli/verb.h"
#include "lithe/report/report.h"

namespace lithe::cli {

/// A table of a JSON array of objects that all have these keys: one column a key.
Table table_of(const std::string& title, const json& rows, const std::vector<std::string>& keys);

/// Ends a dry run: writes its report where --report asks for one, says so, and gives the result. Throws
/// Error(Input) if the folder cannot be written.
void finish_plan(Invocation& call, const json& result, std::vector<Table> tables,
                 const std::vector<std::string>& notes);

}  // namespace lithe::cli
