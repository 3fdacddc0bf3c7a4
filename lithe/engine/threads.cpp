#include "lithe/engine/threads.h"

#include <ATen/Parallel.h>
#include <dlfcn.h>

#include <algorithm>

namespace lithe {
namespace {

/// OpenBLAS's controls, where the process runs on OpenBLAS: any BLAS may stand behind LibTorch.
struct OpenBlas {
  void (*set)(int) = nullptr;
  int (*get)() = nullptr;

  OpenBlas() {
    for (const char* library : {"libopenblas.so.0", "libblas.so.3"}) {
      void* handle = ::dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
      if (!handle) continue;
      set = reinterpret_cast<void (*)(int)>(::dlsym(handle, "openblas_set_num_threads"));
      get = reinterpret_cast<int (*)()>(::dlsym(handle, "openblas_get_num_threads"));
      if (set && get) return;
      ::dlclose(handle);
    }
    set = nullptr;
    get = nullptr;
  }
};

const OpenBlas& open_blas() {
  static const OpenBlas blas;
  return blas;
}

}  // namespace

void set_threads(int count) {
  count = std::max(1, count);
  at::set_num_threads(count);
  if (open_blas().set) open_blas().set(count);
}

SerialBlas::SerialBlas() {
  if (!open_blas().set) return;
  before_ = open_blas().get();
  if (before_ > 1) open_blas().set(1);
}

SerialBlas::~SerialBlas() {
  if (before_ > 1 && open_blas().set) open_blas().set(before_);
}

}  // namespace lithe
