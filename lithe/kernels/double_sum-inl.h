// For kernels that Highway compiles once for each instruction set: included again for each, hence the odd
// guard.
#if defined(LITHE_KERNELS_DOUBLE_SUM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LITHE_KERNELS_DOUBLE_SUM_INL_H_
#undef LITHE_KERNELS_DOUBLE_SUM_INL_H_
#else
#define LITHE_KERNELS_DOUBLE_SUM_INL_H_
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lithe {
namespace HWY_NAMESPACE {

/// Adds up vectors of floats, lane by lane in double precision.
template <class Floats>
class DoubleSum {
 public:
  HWY_INLINE DoubleSum()
      : lower_(hwy::HWY_NAMESPACE::Zero(Doubles())), upper_(hwy::HWY_NAMESPACE::Zero(Doubles())) {}
  HWY_INLINE void add(hwy::HWY_NAMESPACE::Vec<Floats> terms) {
    namespace hn = hwy::HWY_NAMESPACE;
#if HWY_TARGET == HWY_SCALAR  // vectors of one lane have no halves
    lower_ = hn::Add(lower_, hn::PromoteTo(Doubles(), terms));
#else
    lower_ = hn::Add(lower_, hn::PromoteTo(Doubles(), hn::LowerHalf(Half(), terms)));
    upper_ = hn::Add(upper_, hn::PromoteTo(Doubles(), hn::UpperHalf(Half(), terms)));
#endif
  }
  HWY_INLINE double total() const {
    namespace hn = hwy::HWY_NAMESPACE;
    return hn::GetLane(hn::SumOfLanes(Doubles(), hn::Add(lower_, upper_)));
  }

 private:
#if HWY_TARGET == HWY_SCALAR
  using Half = Floats;
#else
  using Half = hwy::HWY_NAMESPACE::Half<Floats>;
#endif
  using Doubles = hwy::HWY_NAMESPACE::Rebind<double, Half>;
  hwy::HWY_NAMESPACE::Vec<Doubles> lower_, upper_;
};

}  // namespace HWY_NAMESPACE
}  // namespace lithe
HWY_AFTER_NAMESPACE();

#endif
