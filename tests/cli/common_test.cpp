// What holds for every verb.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <chrono>
#include <sstream>

#include "cli/lithe.h"
#include "cli/verbs.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

TEST(Tool, HelpNamesEveryVerb) {
  const Outcome help = run_lithe("--help");
  EXPECT_EQ(help.status, 0);
  for (const cli::VerbInfo& verb : cli::kVerbs) {
    EXPECT_THAT(help.out, HasSubstr(verb.name));
    const Outcome own = run_lithe(std::string(verb.name) + " --help");
    EXPECT_EQ(own.status, 0) << verb.name << ": " << own.err;
    const auto parts = own.out.find("\nSubcommands:\n");
    if (parts == std::string::npos) {
      EXPECT_THAT(own.out, HasSubstr("--json")) << verb.name;
      continue;
    }
    std::istringstream lines(own.out.substr(parts + 14));
    int count = 0;
    for (std::string line, part; std::getline(lines, line); ++count)
      if (std::istringstream(line) >> part) {
        const Outcome inner = run_lithe(fmt::format("{} {} --help", verb.name, part));
        EXPECT_EQ(inner.status, 0) << inner.err;
        EXPECT_THAT(inner.out, HasSubstr("--json")) << verb.name << ' ' << part;
      }
    EXPECT_GE(count, 2) << verb.name;
  }
}

TEST(Tool, HelpIsAVerbToo) {
  EXPECT_EQ(run_lithe("help").out, run_lithe("--help").out);
  for (const char* verb : {"inspect", "quantize"}) {
    const Outcome help = run_lithe(std::string("help ") + verb);
    EXPECT_EQ(help.status, 0) << help.err;
    EXPECT_EQ(help.out, run_lithe(std::string(verb) + " --help").out);
  }
  expect_user_error(run_lithe("help conquer"), "unknown verb 'conquer'");
}

TEST(Tool, NumbersOutOfRangeAreOneShortLine) {
  for (const auto& [flags, said] : std::vector<std::pair<std::string, std::string>>{
           {"verify m.onnx --tolerance -1", "--tolerance: -1 is not allowed; give 0 or more"},
           {"verify m.onnx --tolerance nan", "--tolerance: nan is not allowed; give 0 or more"},
           {"verify m.onnx --batch 0", "--batch: 0 is not allowed; give 1 or more"},
           {"eval m.onnx --batch 0", "--batch: 0 is not allowed; give 1 to 1048576"},
           {"eval m.onnx --threads many", "--threads: 'many' is no number; give 0 to 1024"},
           {"quantize m.onnx --percentile 101", "--percentile: 101 is not allowed; give 50 to 100"},
           {"train resnet20 --lr 0", "--lr: 0 is not allowed; give more than 0"},
           {"sparsify m.onnx --decay -1", "--decay: -1 is not allowed; give 0 or more"}}) {
    const Outcome outcome = run_lithe(flags);
    expect_user_error(outcome, said);
    EXPECT_LT(outcome.err.size(), 120u) << outcome.err;
  }
  for (const cli::VerbInfo& verb : cli::kVerbs) {
    const std::string help = run_lithe(std::string(verb.name) + " --help").out;
    for (const char* trace : {"POSITIVE", "NONNEGATIVE", "INT in [", "FLOAT in ["})  // checks of CLI11's own
      EXPECT_EQ(help.find(trace), std::string::npos) << verb.name << ": check numbers with cli/validators.h";
  }
}

TEST(Tool, PlacesThatCannotBeWrittenAreForTheUserToMend) {
  const TemporaryFolder folder;
  const std::string quantize = "quantize " + kDigits + " --activation-bits off";
  for (const std::string& place : {(folder.path() / "missing/out.onnx").string(), folder.path().string(),
                                   std::string("/proc/out.onnx"), kDigits + "/out.onnx"})
    expect_user_error(run_lithe(quantize + " -o " + place), place);
  for (const std::string& report : {kDigits, std::string("/proc/report")}) {
    expect_user_error(run_lithe("inspect " + kDigits + " --report " + report), report);
    expect_user_error(run_lithe(quantize + " --dry-run --report " + report), report);
  }
  expect_user_error(run_lithe("eval " + kDigits + " --inputs in.npz --outputs /proc/out.npz"),
                    "/proc/out.npz");
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(Tool, ADryRunOfSparsifyHasAReport) {
  const TemporaryFolder folder;
  const fs::path report = folder.path() / "report";
  const Outcome outcome = run_lithe("sparsify " + kDigits + " --dry-run --json --report " + report.string());
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto written = nlohmann::json::parse(read_text_file(report / "report.json"));
  EXPECT_EQ(written.at("result"), outcome.result());
  EXPECT_EQ(written.at("report").at("items").at(0).at("rows").size(), outcome.result().at("layers").size());
  EXPECT_EQ(outcome.json().at("files").size(), 2u);
}

/// The bytes of the digit classifier with one text replaced by another of the same length, as often as it
/// occurs.
std::string digits_with(const std::string& from, const std::string& to) {
  std::string bytes = read_text_file(kDigits);
  for (std::size_t at = bytes.find(from); at != std::string::npos; at = bytes.find(from, at + 1))
    bytes.replace(at, from.size(), to);
  return bytes;
}

TEST(Tool, DamagedAttributeNamesAreRefusedInEveryVerb) {
  const TemporaryFolder folder;
  const std::string model = (folder.path() / "flipped.onnx").string(),
                    out = (folder.path() / "out.onnx").string();
  write_file(model, digits_with("strides", "stridls"));
  const std::string data = " sheet:" + (kExamples / "digits/digits.png").string() + ",cell=20x20";
  for (const std::string& call : {"inspect " + model, "verify " + model, "eval " + model + " --data" + data,
                                  "quantize " + model + " --calib" + data + " -o " + out,
                                  "train " + model + " --data" + data + " -o " + out,
                                  "sparsify " + model + " --method magnitude -o " + out}) {
    const Outcome outcome = run_lithe(call);
    expect_user_error(outcome, "flipped.onnx: Conv node '");
    EXPECT_THAT(outcome.err, HasSubstr("the operator Conv has no attribute 'stridls'"));
  }
  EXPECT_FALSE(fs::exists(out));
}

TEST(Tool, BadCommandLinesAreOneLine) {
  expect_user_error(run_lithe(""), "subcommand");
  expect_user_error(run_lithe("conquer"), "unknown verb 'conquer'; verbs: inspect, eval");
  expect_user_error(run_lithe("conquer --json"), "see 'lithe --help'");
  expect_user_error(run_lithe("inspect"), "model");
  expect_user_error(run_lithe("verify " + kDigits + " --threads many"), "see 'lithe verify --help'");
  expect_user_error(run_lithe("verify " + kDigits + " --nonsense"), "--nonsense");
}

TEST(Tool, UnreadableModelsAreOneLineInEveryVerb) {
  const TemporaryFolder folder;
  const fs::path empty = folder.path() / "empty.onnx", text = folder.path() / "text.onnx",
                 truncated = folder.path() / "truncated.onnx", missing = folder.path() / "missing.onnx";
  write_file(empty, "");
  write_file(text, "not a model at all");
  const std::string whole = read_text_file(kDigits);
  write_file(truncated, whole.substr(0, whole.size() / 2));
  const std::string data = " --data sheet:" + (kExamples / "digits/digits.png").string() + ",cell=20x20";
  const std::string calib = " --calib sheet:" + (kExamples / "digits/digits.png").string() +
                            ",cell=20x20 -o " + (folder.path() / "out.onnx").string();
  for (const auto& [verb, rest] : std::vector<std::pair<std::string, std::string>>{
           {"inspect", ""}, {"verify", ""}, {"eval", data}, {"quantize", calib}}) {
    expect_user_error(run_lithe(verb + " " + missing.string() + rest), "missing.onnx");
    expect_user_error(run_lithe(verb + " " + empty.string() + rest), "empty.onnx: the file is empty");
    expect_user_error(run_lithe(verb + " " + text.string() + rest), "text.onnx: not an ONNX model");
    expect_user_error(run_lithe(verb + " " + truncated.string() + rest), "truncated.onnx");
  }
  EXPECT_FALSE(fs::exists(folder.path() / "out.onnx"));
}

TEST(Tool, MissingGnuplotIsFoundBeforeTheWork) {
  const TemporaryFolder folder;
  ::setenv("LITHE_GNUPLOT", "/nonexistent/gnuplot", 1);
  const fs::path model = folder.path() / "out.onnx";
  const Outcome quantize = run_lithe("quantize " + kDigits + " --activation-bits off -o " + model.string() +
                                     " --report " + (folder.path() / "report").string());
  const Outcome list = run_lithe("inspect --list-operators --report " + (folder.path() / "list").string());
  ::unsetenv("LITHE_GNUPLOT");
  EXPECT_EQ(quantize.status, 1);
  EXPECT_THAT(quantize.err, HasSubstr("gnuplot-nox"));
  const std::string said = without_progress(quantize.err);
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  EXPECT_FALSE(fs::exists(model));
  EXPECT_FALSE(fs::exists(folder.path() / "report"));
  EXPECT_EQ(list.status, 0) << "a table needs no plots: " << list.err;
}

TEST(Tool, InspectsTheBundledModel) {
  const Outcome inspect = run_lithe("inspect " + kDigits + " --json");
  ASSERT_EQ(inspect.status, 0) << inspect.err;
  const auto envelope = inspect.json();
  EXPECT_EQ(envelope.at("schema"), 1);
  EXPECT_EQ(envelope.at("verb"), "inspect");
  EXPECT_EQ(envelope.at("model"), kDigits);
  for (const char* key : {"seed", "threads", "files", "seconds"}) EXPECT_TRUE(envelope.contains(key)) << key;
  for (const char* key :
       {"inputs", "outputs", "operators", "parameters", "macs", "activation_bytes", "blocks"})
    EXPECT_TRUE(envelope.at("result").contains(key)) << key;
  EXPECT_GT(envelope.at("result").at("macs").get<std::int64_t>(), 100000);
}

TEST(Tool, ListsItsOperators) {
  const Outcome list = run_lithe("inspect --list-operators --json");
  ASSERT_EQ(list.status, 0) << list.err;
  const auto operators = list.result().at("operators");
  EXPECT_GT(operators.size(), 100u);
  for (const auto& one : operators)
    for (const char* key : {"op", "domain", "since", "until"}) EXPECT_TRUE(one.contains(key)) << one;
}

}  // namespace
}  // namespace lithe
