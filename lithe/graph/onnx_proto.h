// What reading and writing share of the protobuf side. Not installed.
#pragma once

#include <google/protobuf/message.h>
#include <onnx/onnx_pb.h>

#include <string>

namespace lithe {

// Newer than the message classes of the oldest supported ONNX package; met there as unknown fields.
inline constexpr int kNodeOverloadField = 8;
inline constexpr int kFunctionOverloadField = 13;

/// Bytes that a protobuf message may take.
inline constexpr std::uint64_t kMaxProtoBytes = 0x7fffffff;

}  // namespace lithe
