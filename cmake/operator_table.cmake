# cmake -DINPUT=docs/operators.md -DOUTPUT=<header> -P operator_table.cmake: the table of operators, which a test keeps
# equal to the registry, for programs that do without LibTorch.
file(STRINGS ${INPUT} rows REGEX "^\\| `[^`]+` \\| [^|]+ \\| [0-9]+ \\| [0-9]+ \\|")
set(entries "")
foreach(row IN LISTS rows)
  string(REGEX REPLACE "^\\| `([^`]+)` \\| ([^ |]+) \\| ([0-9]+) \\| ([0-9]+) \\|.*" "    {\"\\2\", \"\\1\", \\3, \\4},\n"
         entry "${row}")
  string(REPLACE "{\"ai.onnx\"," "{\"\"," entry "${entry}")
  string(APPEND entries "${entry}")
endforeach()
if(entries STREQUAL "")
  message(FATAL_ERROR "${INPUT} has no table of operators")
endif()
file(WRITE ${OUTPUT} "#pragma once
namespace lithe {
struct KnownOperator {
  const char *domain, *op_type;
  int since, until;
};
inline constexpr KnownOperator kOperatorTable[] = {
${entries}};
}  // namespace lithe
")
