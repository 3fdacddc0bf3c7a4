// Included first where clang checks sources against LibTorch 1.13 (the lint preset). Its headers hold vectors
// of types that are not complete yet, which the constexpr vector of libstdc++ 12 does not forgive with clang
// 14: here the vector is made an ordinary one, as before C++20. Nothing that is compiled so is ever run.
#pragma once

#include <memory>
#include <string>

#if defined(__clang__) && defined(_GLIBCXX20_CONSTEXPR)
#pragma push_macro("_GLIBCXX20_CONSTEXPR")
#undef _GLIBCXX20_CONSTEXPR
#define _GLIBCXX20_CONSTEXPR
#define __fill_a1 __fill_a1_of_bits  // declared constexpr before
#include <vector>
#undef __fill_a1
#pragma pop_macro("_GLIBCXX20_CONSTEXPR")
#endif
