// What the tokens of a sentence say of the object that it means.
#pragma once

#include <ATen/ATen.h>

namespace lithe {

/// One row a target, one column a token; 0 where a token does not play the part. A span of words shares 1
/// among its tokens, and spans are summed (Wu et al., "EDA: Explicit Text-Decoupling and Dense Alignment for
/// 3D Visual Grounding", CVPR 2023, section 3.1).
struct TokenRoles {
  at::Tensor main;      // the object itself
  at::Tensor modify;    // what it is like
  at::Tensor pronoun;   // words that stand for it
  at::Tensor relation;  // how it stands to others
  at::Tensor other;     // these others
};

}  // namespace lithe
