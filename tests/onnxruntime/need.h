// Tests against stock ONNX Runtime are skipped, with the reason, where it is not installed.
#pragma once

#include <gtest/gtest.h>

#include "lithe/engine/onnxruntime.h"

#define LITHE_NEED_ONNX_RUNTIME() \
  if (std::string reason; !::lithe::OnnxRuntime::available(&reason)) GTEST_SKIP() << reason
