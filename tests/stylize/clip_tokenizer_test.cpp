// Prompts to tokens, against published numbers where the vocabulary is at hand and by hand where it is not.
#include "lithe/stylize/clip_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>

#include "lithe/base/file.h"
#include "lithe/models/tiny_stable_diffusion.h"
#include "lithe/stylize/gzip.h"
#include "lithe/stylize/unicode_text.h"
#include "message_of.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;
using Tokens = std::vector<std::int64_t>;

/// The bytes, their forms at a word's end, four merges and the two specials: 'a' is 64, 'a</w>' 256 + 64.
class SmallVocabulary : public testing::Test {
 protected:
  SmallVocabulary() { write_file(file_, "#version: 0.2\nh e\nhe l\nl o</w>\nhel lo</w>\n"); }

  TemporaryFolder folder_;
  fs::path file_ = folder_.path() / "merges.txt";
};

TEST_F(SmallVocabulary, MergesByRankAndMarksTheEndOfWords) {
  const auto tokenizer = ClipTokenizer::from_merges(file_);
  EXPECT_EQ(tokenizer.size(), 512 + 4 + 2);
  EXPECT_EQ(tokenizer.start(), 516);
  EXPECT_EQ(tokenizer.end(), 517);
  const std::int64_t kHe = 512, kHel = 513, kLo = 514, kHello = 515;
  const auto inner = [](char c) { return static_cast<std::int64_t>(c - '!'); };
  const auto last = [&](char c) { return 256 + inner(c); };
  EXPECT_THAT(tokenizer.encode("hello"), ElementsAre(kHello));
  EXPECT_THAT(tokenizer.encode("  HeLLo \t hello\n"), ElementsAre(kHello, kHello));
  EXPECT_THAT(tokenizer.encode("helo"), ElementsAre(kHel, last('o')));  // "h e", "he l" rank above "l o</w>"
  EXPECT_THAT(tokenizer.encode("lo"), ElementsAre(kLo));
  EXPECT_THAT(tokenizer.encode("hehe"), ElementsAre(kHe, inner('h'), last('e')));
  EXPECT_THAT(tokenizer.encode("a1b"), ElementsAre(last('a'), last('1'), last('b')));
  EXPECT_THAT(tokenizer.encode("it's"), ElementsAre(inner('i'), last('t'), inner('\''), last('s')));
  EXPECT_THAT(tokenizer.encode("!?x"), ElementsAre(inner('!'), last('?'), last('x')));
  EXPECT_THAT(tokenizer.encode("a<|endoftext|>"), ElementsAre(last('a'), 517));
  EXPECT_TRUE(tokenizer.encode("").empty());
}

TEST_F(SmallVocabulary, LettersBeyondAsciiAreBytes) {
  const auto tokenizer = ClipTokenizer::from_merges(file_);
  // U+00E9 is bytes C3 A9: in order of the table 33..126, 161..172, 174.. they are 94 + 12 + 0x15 and 94 + 8.
  const Tokens small{94 + 12 + (0xC3 - 174), 256 + 94 + (0xA9 - 161)};
  EXPECT_EQ(tokenizer.encode("\xC3\xA9"), small);
  EXPECT_EQ(tokenizer.encode("\xC3\x89"), small) << "the capital";
  EXPECT_EQ(tokenizer.encode("e\xCC\x81"), small) << "letter and mark";
}

TEST_F(SmallVocabulary, RowsOfLongPrompts) {
  const auto tokenizer = ClipTokenizer::from_merges(file_);
  const auto one = tokenizer.rows("");
  ASSERT_EQ(one.size(), 1u);
  Tokens padded(77, 517);
  padded[0] = 516;
  EXPECT_EQ(one[0], padded);

  std::string text;
  for (int i = 0; i < 75; ++i) text += "hello ";
  EXPECT_EQ(tokenizer.rows(text).size(), 1u) << "75 tokens, start and end";
  EXPECT_EQ(tokenizer.rows(text)[0].back(), 517);
  text += "lo";
  const auto two = tokenizer.rows(text);
  ASSERT_EQ(two.size(), 2u);
  EXPECT_EQ(two[0].front(), 516);
  EXPECT_EQ(two[0].back(), 514) << "the last token, not an end";
  EXPECT_THAT(two[1], ElementsAreArray(Tokens(77, 517)));
  const auto cut = tokenizer.rows(text, true);
  ASSERT_EQ(cut.size(), 1u);
  EXPECT_EQ(cut[0][75], 515);
  EXPECT_EQ(cut[0][76], 517);
}

TEST_F(SmallVocabulary, RefusesHostileFiles) {
  const auto message = [&](const std::string& text) {
    write_file(file_, text);
    return test::message_of([&] { ClipTokenizer::from_merges(file_); });
  };
  EXPECT_THAT(message("#version\nab\n"), HasSubstr("merge 1 is 'ab'"));
  EXPECT_THAT(message("#version\na b c\n"), HasSubstr("merge 1 is 'a b c'"));
  EXPECT_THAT(message("#version\nxx yy\n"), HasSubstr("merge 1, 'xx yy'"));
  EXPECT_THAT(message("#version\na b\na b\n"), HasSubstr("there already"));
  EXPECT_THAT(message(std::string("\x1f\x8b\x08") + "rest"), HasSubstr("gzip"));
  EXPECT_THAT(test::message_of([&] { ClipTokenizer::from_merges(folder_.path() / "none"); }),
              HasSubstr("no such file"));

  write_file(file_, std::string(1000, 'x'));
  EXPECT_THAT(test::message_of([&] { read_maybe_gzip(file_, 999); }), HasSubstr("more than 999 bytes"));
  EXPECT_EQ(read_maybe_gzip(file_, 1000).size(), 1000u);
}

TEST_F(SmallVocabulary, RefusesHostileFolders) {
  const fs::path vocabulary = folder_.path() / "vocab.json";
  const auto message = [&](const std::string& text) {
    write_file(vocabulary, text);
    return test::message_of([&] { ClipTokenizer::open(folder_.path()); });
  };
  EXPECT_THAT(message("[]"), HasSubstr("an object"));
  EXPECT_THAT(message("{"), HasSubstr("not valid JSON"));
  EXPECT_THAT(message(R"({"a": -1})"), HasSubstr("'a' has no number"));
  EXPECT_THAT(message(R"({"a": 1e99})"), HasSubstr("'a' has no number"));
  EXPECT_THAT(message(R"({"a": 99999999999})"), HasSubstr("'a' has no number"));
  EXPECT_THAT(message(R"({"a": 1})"), HasSubstr("<|startoftext|>"));
  EXPECT_THAT(message(R"({"<|startoftext|>": 0, "<|endoftext|>": 1})"), HasSubstr("do not go together"));
  write_file(file_, "");
  write_file(folder_.path() / "special_tokens_map.json", R"({"pad_token": {"content": "!"}})");
  EXPECT_THAT(message(R"({"<|startoftext|>": 0, "<|endoftext|>": 1})"), HasSubstr("padding token '!'"));
  EXPECT_EQ(message(R"({"<|startoftext|>": 1, "<|endoftext|>": 2, "!": 0})"), "");
  EXPECT_EQ(ClipTokenizer::open(folder_.path()).padding(), 0) << "Stable Diffusion 2 pads so";
  EXPECT_THAT(ClipTokenizer::open(folder_.path()).encode("x"), ElementsAre(2))
      << "an unknown byte is the end";
}

TEST_F(SmallVocabulary, LongWordsTakeNoLongTime) {
  const auto tokenizer = ClipTokenizer::from_merges(file_);
  std::string text;
  while (text.size() < (16 << 10)) text += "hello";
  text.resize(16 << 10);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_GT(tokenizer.encode(text).size(), 3000u);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
  EXPECT_THAT(test::message_of([&] { tokenizer.encode(text + "x"); }), HasSubstr("shorten"));
}

TEST(UnicodeText, DecodesAndComposes) {
  EXPECT_EQ(decode_utf8("a\xC3\xA9\xE6\x97\xA5\xF0\x9F\x98\x80"), U"a\u00E9\u65E5\U0001F600");
  EXPECT_EQ(decode_utf8("\xC0\x80|\xED\xA0\x80|\xF5|\xE6\x97"),
            U"\uFFFD\uFFFD|\uFFFD\uFFFD\uFFFD|\uFFFD|\uFFFD\uFFFD");
  EXPECT_EQ(compose(U"e\u0323\u0302"), U"\u1EC7");
  EXPECT_EQ(compose(U"\u1112\u1161\u11AB"), U"\uD55C");
  EXPECT_EQ(compose(U"x\u0301"), U"x\u0301");
  EXPECT_EQ(to_lower(U"\u00C9\u0416\u0130\u1E9E\u00DF"), U"\u00E9\u0436i\u0307\u00DF\u00DF");
  EXPECT_TRUE(is_unicode_letter(U'\u65E5'));
  EXPECT_FALSE(is_unicode_letter(U'5'));
  EXPECT_TRUE(is_unicode_number(U'\u00BD'));
  EXPECT_TRUE(is_unicode_space(U'\u3000'));
  EXPECT_FALSE(is_unicode_space(U'\u200B'));
}

/// Section 10.8 of the specification, CLIP's own vocabulary.
class PublishedVocabulary : public testing::Test {
 protected:
  void SetUp() override {
    const char* data = std::getenv("LITHE_DATA");
    if (!data) GTEST_SKIP() << "LITHE_DATA is not set";
    file_ = fs::path(data) / "text" / "clip_bpe_simple_vocab_16e6.txt.gz";
    if (!fs::exists(file_)) GTEST_SKIP() << file_ << " is not there";
  }
  fs::path file_;
};

TEST_F(PublishedVocabulary, GivesThePublishedTokens) {
  const auto tokenizer = ClipTokenizer::from_merges(file_);
  EXPECT_EQ(tokenizer.size(), 49408);
  EXPECT_EQ(tokenizer.start(), 49406);
  EXPECT_EQ(tokenizer.end(), 49407);
  const std::vector<std::pair<std::string, Tokens>> cases{
      {"", {}},
      {"a photo of an astronaut riding a horse on mars",
       {320, 1125, 539, 550, 18376, 6765, 320, 4558, 525, 7496}},
      {"winter, snow, fishing rod, white, grass", {2541, 267, 2583, 267, 4935, 8291, 267, 1579, 267, 5922}},
      {"A woman. Fashion clothes.", {320, 2308, 269, 2444, 7080, 269}},
      {"masterpiece, best quality, anime, 1girl, <3",
       {12066, 267, 949, 3027, 267, 6469, 267, 272, 1611, 267, 283, 274}},
      {"high resolution. real. photo. 4k. 8k. hdr.",
       {1400, 9977, 269, 1532, 269, 1125, 269, 275, 330, 269, 279, 330, 269, 28065, 269}},
      {"it's  don't WE'LL", {585, 568, 847, 713, 649, 1342}},
      {"日本語 café naïve", {39121, 44353, 34002, 508, 15304, 1097, 35689, 563}},
      {"2023", {273, 271, 273, 274}},
  };
  for (const auto& [text, tokens] : cases) EXPECT_EQ(tokenizer.encode(text), tokens) << text;
}

TEST_F(PublishedVocabulary, EncodesFast) {
  const auto tokenizer = ClipTokenizer::from_merges(file_);
  std::string text;
  while (text.size() < 8000) text += "a photo of an astronaut riding a horse on mars, ";
  const auto start = std::chrono::steady_clock::now();
  std::size_t tokens = 0;
  for (int i = 0; i < 50; ++i) tokens += tokenizer.encode(text).size();
  EXPECT_GT(tokens, 50 * 1500u);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST(TinyModelTokenizer, OpensItsFolder) {
  const TemporaryFolder folder;
  write_tiny_stable_diffusion(folder.path() / "tiny");
  const auto tokenizer = ClipTokenizer::open(folder.path() / "tiny" / "tokenizer");
  EXPECT_EQ(tokenizer.rows("a photo").size(), 1u);
  EXPECT_EQ(tokenizer.padding(), tokenizer.end());
}

}  // namespace
}  // namespace lithe
