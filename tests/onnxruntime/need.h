// Tests against stock ONNX Runtime are skipped, with the reason, where it is not installed; they fail instead
// if LITHE_REQUIRE_ORT is set, as scripts/test.sh does.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>

#include "lithe/engine/onnxruntime.h"

#define LITHE_NEED_ONNX_RUNTIME()                                      \
  if (std::string reason; !::lithe::OnnxRuntime::available(&reason)) { \
    if (std::getenv("LITHE_REQUIRE_ORT")) FAIL() << reason;            \
    GTEST_SKIP() << reason;                                            \
  }
