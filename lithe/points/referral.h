// A sentence that means one object of a scene.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lithe {

/// The part that words play towards the object that is meant (Wu et al., "EDA: Explicit Text-Decoupling and
/// Dense Alignment for 3D Visual Grounding", CVPR 2023, section 3.1).
enum class WordRole : std::uint8_t { Main, Attribute, Pronoun, Relation, Other };

/// Words that are one part together, such as "coffee table".
struct WordSpan {
  WordRole role{};
  std::int32_t first = 0, count = 1;  // of the words
};

/// What a sentence needs to be understood. Free: a person wrote it.
enum class ReferralKind : std::uint8_t { Free, Class, Colour, Size, Superlative, Relation };

struct Referral {
  std::string scene;
  std::int64_t object = 0;            // the id of what is meant
  std::vector<std::string> words;     // lower case, full stops and commas are words of their own
  std::vector<WordSpan> spans;        // by first word, without overlap; words of none play no part
  std::vector<std::int64_t> anchors;  // the ids of other objects that it mentions
  ReferralKind kind = ReferralKind::Free;
  bool unique = false;          // no other object of the scene is of its class
  bool hard = false;            // more than one other is
  bool view_dependent = false;  // says left, behind and the like
  bool needs_relation = false;  // class, colour and size alone do not tell which
};

}  // namespace lithe
