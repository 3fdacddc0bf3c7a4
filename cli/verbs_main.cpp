// The entry of the module with the verbs that compute on tensors.
#include "cli/verb.h"

extern "C" __attribute__((visibility("default"))) int lithe_run_verbs(int argc, char** argv) {
  using namespace lithe::cli;
  return run_command_line(argc, argv,
                          {add_list_operators, add_eval, add_verify, add_quantize, add_sparsify, add_multibit,
                           add_tokens, add_train, add_sample, add_schedule, add_deflicker, add_stylize});
}
