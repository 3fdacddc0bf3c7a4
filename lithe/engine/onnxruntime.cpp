#include "lithe/engine/onnxruntime.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "lithe/base/error.h"
#include "lithe/base/math.h"
#include "lithe/engine/onnxruntime_server.h"  // the child's program, made from onnxruntime_server.cjs
#include "lithe/ops/registry.h"

extern char** environ;

namespace lithe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kAdvice = "install it with scripts/install-ort.sh, or name its folder in LITHE_ORT";
constexpr int kChildSocket = 3;

fs::path package_folder() {
  if (const char* named = std::getenv("LITHE_ORT")) return named;
  if (const char* data = std::getenv("XDG_DATA_HOME")) return fs::path(data) / "lithe" / "onnxruntime";
  const char* home = std::getenv("HOME");
  return fs::path(home ? home : "/") / ".local" / "share" / "lithe" / "onnxruntime";
}

bool on_path(const std::string& program) {
  const char* path = std::getenv("PATH");
  std::string_view rest = path ? path : "";
  while (!rest.empty()) {
    const auto end = rest.find(':');
    const fs::path candidate = fs::path(std::string(rest.substr(0, end))) / program;
    if (::access(candidate.c_str(), X_OK) == 0) return true;
    rest = end == std::string_view::npos ? "" : rest.substr(end + 1);
  }
  return false;
}

struct WireType {
  at::ScalarType wire;  // how the bytes are read
  at::ScalarType ours;  // what they become
};

WireType wire_type(const std::string& name) {
  static const std::map<std::string, WireType> types = {
      {"float32", {at::kFloat, at::kFloat}}, {"float64", {at::kDouble, at::kDouble}},
      {"float16", {at::kHalf, at::kHalf}},   {"int8", {at::kChar, at::kChar}},
      {"uint8", {at::kByte, at::kByte}},     {"bool", {at::kBool, at::kBool}},
      {"int16", {at::kShort, at::kShort}},   {"int32", {at::kInt, at::kInt}},
      {"int64", {at::kLong, at::kLong}},     {"uint64", {at::kLong, at::kLong}},
      {"uint16", {at::kShort, at::kInt}},    {"uint32", {at::kInt, at::kLong}},
  };
  const auto found = types.find(name);
  if (found == types.end()) fail_system("ONNX Runtime returned a tensor of type {}", name);
  return found->second;
}

}  // namespace

struct OnnxRuntime::Impl {
  OnnxRuntimeOptions options;
  int socket = -1;
  pid_t child = -1;
  std::string model;
  std::vector<std::string> inputs, outputs;

  ~Impl() {
    if (socket >= 0) ::close(socket);
    if (child > 0) {
      ::kill(child, SIGTERM);
      ::waitpid(child, nullptr, 0);
    }
  }

  void spawn() {
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
      fail_system("cannot start ONNX Runtime: {}", std::strerror(errno));
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    // dup2 onto itself would keep close-on-exec, so the child's end must not be number 3 already.
    if (pair[1] == kChildSocket) pair[1] = ::fcntl(pair[1], F_DUPFD_CLOEXEC, kChildSocket + 1);
    posix_spawn_file_actions_adddup2(&actions, pair[1], kChildSocket);
    posix_spawn_file_actions_addchdir_np(&actions, package_folder().c_str());
    std::string node = "node", flag = "-e", script = kOnnxRuntimeServer;
    char* arguments[] = {node.data(), flag.data(), script.data(), nullptr};
    const int status = ::posix_spawnp(&child, "node", &actions, nullptr, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    ::close(pair[1]);
    socket = pair[0];
    if (status != 0) fail_system("cannot start ONNX Runtime: {}", std::strerror(status));
  }

  void send(const void* data, std::size_t size) {
    const char* cursor = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t sent = ::send(socket, cursor, size, MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent <= 0) fail_system("{}: the ONNX Runtime process ended unexpectedly", model);
      cursor += sent;
      size -= static_cast<std::size_t>(sent);
    }
  }

  void receive(void* data, std::size_t size) {
    char* cursor = static_cast<char*>(data);
    while (size > 0) {
      const ssize_t got = ::recv(socket, cursor, size, 0);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) fail_system("{}: the ONNX Runtime process ended unexpectedly", model);
      cursor += got;
      size -= static_cast<std::size_t>(got);
    }
  }

  void send_header(const json& header) {
    const std::string text = header.dump();
    const auto size = static_cast<std::uint32_t>(text.size());
    send(&size, sizeof size);
    send(text.data(), text.size());
  }

  json receive_header() {
    std::uint32_t size = 0;
    receive(&size, sizeof size);
    std::string text(size, '\0');
    receive(text.data(), text.size());
    json header = json::parse(text);
    if (header.contains("error")) {
      std::string reason = header["error"];
      fail("{}: ONNX Runtime: {}", model, reason.substr(0, reason.find('\n')));
    }
    return header;
  }

  std::vector<double> run(const Feeds& feeds, const std::vector<std::string>& fetch, int warmup, int repeats,
                          Feeds& results) {
    json tensors = json::array();
    std::vector<at::Tensor> kept;
    for (const auto& [name, tensor] : feeds) {
      kept.push_back(tensor.detach().to(at::kCPU).contiguous());
      const at::Tensor& one = kept.back();
      tensors.push_back({{"name", name},
                         {"dtype", dtype_name(dtype_of_scalar(one.scalar_type()))},
                         {"shape", one.sizes().vec()},
                         {"bytes", one.nbytes()}});
    }
    send_header({{"command", "run"},
                 {"tensors", tensors},
                 {"fetch", fetch},
                 {"warmup", warmup},
                 {"repeats", repeats}});
    for (const at::Tensor& tensor : kept) send(tensor.data_ptr(), tensor.nbytes());
    const json answer = receive_header();
    for (const json& one : answer.at("tensors")) {
      const WireType type = wire_type(one.at("dtype"));
      at::Tensor tensor = at::empty(one.at("shape").get<std::vector<std::int64_t>>(), type.wire);
      if (tensor.nbytes() != one.at("bytes").get<std::size_t>())
        fail_system("{}: ONNX Runtime returned a tensor whose size disagrees with its shape", model);
      receive(tensor.data_ptr(), tensor.nbytes());
      if (type.ours != type.wire) {  // unsigned, widened
        const std::int64_t mask = type.wire == at::kShort ? 0xFFFF : 0xFFFFFFFF;
        tensor = tensor.to(at::kLong).bitwise_and(mask).to(type.ours);
      }
      results.insert_or_assign(one.at("name").get<std::string>(), tensor);
    }
    return answer.at("seconds").get<std::vector<double>>();
  }
};

bool OnnxRuntime::available(std::string* reason) {
  std::string missing;
  if (!on_path("node")) missing = "the program 'node' is not on the PATH";
  const fs::path package = package_folder() / "node_modules" / "onnxruntime-node";
  std::error_code ignored;
  if (missing.empty() && !fs::is_directory(package, ignored))
    missing = fmt::format("{} is missing", package.string());
  if (reason && !missing.empty()) *reason = fmt::format("stock ONNX Runtime: {}; {}", missing, kAdvice);
  return missing.empty();
}

OnnxRuntime::OnnxRuntime(const fs::path& model, const OnnxRuntimeOptions& options)
    : impl_(std::make_unique<Impl>()) {
  std::string reason;
  if (!available(&reason)) fail_system("{}", reason);
  impl_->options = options;
  impl_->spawn();
  load(model);
}

void OnnxRuntime::load(const fs::path& model) {
  std::error_code ignored;
  if (!fs::is_regular_file(model, ignored)) fail("{}: cannot open", model.string());
  impl_->model = model.string();
  impl_->send_header({{"command", "load"},
                      {"model", fs::absolute(model).string()},
                      {"threads", impl_->options.threads},
                      {"optimization", impl_->options.optimization}});
  const json answer = impl_->receive_header();
  impl_->inputs = answer.at("inputs").get<std::vector<std::string>>();
  impl_->outputs = answer.at("outputs").get<std::vector<std::string>>();
}

OnnxRuntime::~OnnxRuntime() = default;
OnnxRuntime::OnnxRuntime(OnnxRuntime&&) noexcept = default;
OnnxRuntime& OnnxRuntime::operator=(OnnxRuntime&&) noexcept = default;

const std::vector<std::string>& OnnxRuntime::inputs() const {
  return impl_->inputs;
}
const std::vector<std::string>& OnnxRuntime::outputs() const {
  return impl_->outputs;
}

Feeds OnnxRuntime::run(const Feeds& feeds, const std::vector<std::string>& fetch) {
  Feeds results;
  impl_->run(feeds, fetch, 0, 1, results);
  return results;
}

std::vector<double> OnnxRuntime::time(const Feeds& feeds, int warmup, int repeats) {
  Feeds ignored;
  return impl_->run(feeds, {}, warmup, repeats, ignored);
}

}  // namespace lithe
