// How many threads compute. LibTorch's own kernels follow OpenMP's count, but OpenBLAS has a pool of its own.
#pragma once

namespace lithe {

/// Sets the number of threads of LibTorch's kernels and of the BLAS beneath them; at least 1.
/// Programs that call this should also set OMP_WAIT_POLICY=passive in their environment before LibTorch is
/// loaded: on a machine with other work, spinning threads make parallel regions several times slower.
void set_threads(int count);

/// While it lives, every BLAS call runs on the thread that makes it: for kernels that split work themselves.
class SerialBlas {
 public:
  SerialBlas();
  ~SerialBlas();
  SerialBlas(const SerialBlas&) = delete;
  SerialBlas& operator=(const SerialBlas&) = delete;

 private:
  int before_ = 0;
};

}  // namespace lithe
