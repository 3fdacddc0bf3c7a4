#include "lithe/report/report.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <limits>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/report/base64.h"
#include "lithe/report/gnuplot.h"
#include "lithe/report/plots.h"

namespace lithe {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Report full_report() {
  Report report{
      .title = "Net <1> & \"friends\"", .subtitle = "a test", .facts = {{"top-1", "97.2 %"}}, .items = {}};
  report.add(Heading{"Section"})
      .add(Text{"Some <b>text</b>."})
      .add(Table{
          .title = "Layers", .columns = {{"name", false}, {"bits"}}, .rows = {{"conv_1", "8"}}, .note = "n"})
      .add(LinePlot{
          .title = "Accuracy",
          .x_label = "bits",
          .y_label = "top-1",
          .series = {{"min-max", {2, 4, 8}, {0.3, kNaN, 0.99}}, {"it's `rm`", {2, 8}, {0.5, INFINITY}}},
          .log_x = true,
          .note = "a note"})
      .add(BarPlot{.title = "SQNR",
                   .y_label = "dB",
                   .categories = {"a_1", "b"},
                   .bars = {{"w", {10, kNaN}}, {"x", {-1, 3}}}})
      .add(RangePlot{.title = "Ranges",
                     .y_label = "weight",
                     .categories = {"a", "b"},
                     .spans = {{"w", {-1, -2}, {1, 3}}}})
      .add(HeatMap{
          .title = "Confusion", .rows = {"0", "1"}, .columns = {"0", "1"}, .values = {{1, 2}, {kNaN, 4}}})
      .add(Picture{.title = "dot", .png = std::string("\x89PNG\0\xff", 6)});
  return report;
}

int count(const std::string& text, const std::string& what) {
  int found = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++found;
  return found;
}

TEST(Base64, KnownVectors) {
  // RFC 4648, section 10.
  for (const auto& [plain, coded] :
       {std::pair{"", ""}, std::pair{"f", "Zg=="}, std::pair{"fo", "Zm8="}, std::pair{"foo", "Zm9v"},
        std::pair{"foob", "Zm9vYg=="}, std::pair{"fooba", "Zm9vYmE="}}) {
    EXPECT_EQ(encode_base64(plain), coded);
    EXPECT_EQ(decode_base64(coded, "x"), plain);
  }
  EXPECT_THROW(decode_base64("a*b", "x"), Error);
}

TEST(Report, JsonRoundTrip) {
  const json first = to_json(full_report());
  EXPECT_EQ(to_json(report_from_json(first, "r.json")), first);
  EXPECT_EQ(first["items"].size(), 8u);
  EXPECT_TRUE(first["items"][3]["series"][0]["y"][1].is_null());
  EXPECT_EQ(first["items"][3]["series"][1]["y"][1], "inf");
  for (const char* broken :
       {"[]", "{}", R"({"title": 3, "subtitle": "", "facts": [], "items": []})",
        R"({"title": "", "subtitle": "", "facts": [], "items": [{"kind": "pie"}]})",
        R"({"title": "", "subtitle": "", "facts": [], "items": [{"kind": "table", "title": ""}]})"})
    EXPECT_THROW(report_from_json(json::parse(broken), "r.json"), Error) << broken;
}

TEST(Report, HtmlIsOneSelfContainedPage) {
  const std::string html = to_html(full_report());
  EXPECT_THAT(html, HasSubstr("Net &lt;1&gt; &amp; &quot;friends&quot;"));
  EXPECT_THAT(html, HasSubstr("Some &lt;b&gt;text&lt;/b&gt;."));
  EXPECT_THAT(html, HasSubstr("<td>conv_1</td><td class=\"number\">8</td>"));
  EXPECT_THAT(html, HasSubstr("data:image/png;base64,iVBORwD/"));
  EXPECT_EQ(count(html, "<svg"), 4);
  EXPECT_EQ(count(html, "</svg>"), 4);
  EXPECT_THAT(html, HasSubstr("var(--series-1)"));
  EXPECT_THAT(html, Not(HasSubstr("rgb(1,")));
  EXPECT_THAT(html, HasSubstr("it's  rm"));  // quoted, and the backquotes are gone
  for (const char* outside : {"<script", "<link", "src=\"http", "@import"})
    EXPECT_THAT(html, Not(HasSubstr(outside)));
}

TEST(Report, RefusesWhatDoesNotFit) {
  const auto refused = [](ReportItem item) {
    Report report{.title = "t", .subtitle = "", .facts = {}, .items = {std::move(item)}};
    try {
      to_html(report);
    } catch (const Error& error) {
      return error.kind() == ErrorKind::Input;
    }
    return false;
  };
  EXPECT_TRUE(refused(Table{.title = "t", .columns = {{"a"}}, .rows = {{"1", "2"}}, .note = ""}));
  EXPECT_TRUE(refused(LinePlot{.title = "t", .series = {{"s", {1, 2}, {1}}}}));
  EXPECT_TRUE(refused(LinePlot{.title = "t", .series = {{"s", {-1}, {1}}}, .log_x = true}));
  EXPECT_TRUE(refused(BarPlot{.title = "t", .categories = {"a"}, .bars = {{"s", {1, 2}}}}));
  EXPECT_TRUE(refused(RangePlot{.title = "t", .categories = {"a"}, .spans = {{"s", {1}, {}}}}));
  EXPECT_TRUE(refused(HeatMap{.title = "t", .rows = {"a"}, .columns = {"b", "c"}, .values = {{1}}}));
}

TEST(Report, WritesBothFilesOrNone) {
  const TemporaryFolder folder;
  const auto where = folder.path() / "new" / "report";
  const json envelope{{"schema", 1}, {"verb", "quantize"}, {"result", {{"x", 1}}}};
  const auto files = write_report(full_report(), envelope, where);
  ASSERT_EQ(files.size(), 2u);
  const json read = json::parse(read_text_file(where / "report.json"));
  EXPECT_EQ(read["verb"], "quantize");
  EXPECT_EQ(read["result"]["x"], 1);
  EXPECT_EQ(read["report"]["title"], "Net <1> & \"friends\"");
  EXPECT_THAT(read_text_file(where / "report.html"), HasSubstr("</html>"));
}

TEST(Report, AFullDiskLeavesNoFolder) {
  const TemporaryFolder folder;
  const auto write_to = [&](const std::filesystem::path& where) {
    // A file size limit makes the kernel refuse further bytes, as a full disk does.
    rlimit before{};
    ::getrlimit(RLIMIT_FSIZE, &before);
    const rlimit tight{.rlim_cur = 64, .rlim_max = before.rlim_max};
    const auto handler = ::signal(SIGXFSZ, SIG_IGN);
    ::setrlimit(RLIMIT_FSIZE, &tight);
    std::string complaint;
    try {
      write_report({.title = "t", .subtitle = "", .facts = {}, .items = {}}, json::object(), where);
    } catch (const Error& error) {
      complaint = error.what();
      EXPECT_EQ(error.kind(), ErrorKind::System);
    }
    ::setrlimit(RLIMIT_FSIZE, &before);
    ::signal(SIGXFSZ, handler);
    EXPECT_THAT(complaint, HasSubstr("cannot write"));
  };
  write_to(folder.path() / "deep" / "report");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  std::filesystem::create_directory(folder.path() / "mine");
  write_to(folder.path() / "mine");
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "mine"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path() / "mine"));
}

TEST(Report, MissingGnuplotIsOneClearLine) {
  const TemporaryFolder folder;
  ::setenv("LITHE_GNUPLOT", "/nonexistent/gnuplot", 1);
  std::string complaint;
  try {
    write_report(full_report(), json::object(), folder.path());
  } catch (const Error& error) {
    complaint = error.what();
    EXPECT_EQ(error.kind(), ErrorKind::System);
  }
  ::unsetenv("LITHE_GNUPLOT");
  EXPECT_THAT(complaint, HasSubstr("gnuplot-nox"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  // A report without plots needs no gnuplot.
  EXPECT_THAT(to_html({.title = "t", .subtitle = "", .facts = {}, .items = {}}), HasSubstr("<h1>t</h1>"));
}

TEST(Plots, ShortLabelsTellLayersApart) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(short_labels({"conv1", "fc"}, 24), (Names{"conv1", "fc"}));
  EXPECT_EQ(short_labels({"/model/layer1/layer1.0/conv1/Conv", "/model/layer1/layer1.1/conv1/Conv",
                          "/model/layer3/layer3.0/downsample/downsample.0/Conv", "/model/fc/Gemm"},
                         24),
            (Names{"layer1.0/conv1", "layer1.1/conv1", "layer3.0/downsample.0", "fc"}));
  EXPECT_EQ(short_labels({"/layer1/layer1.0/Relu_output_0", "/layer1/layer1.0/Relu_1_output_0", "input"}, 16),
            (Names{"layer1.0/Relu", "layer1.0/Relu_1", "input"}));
  // Numbers at the end, behind a long common beginning.
  const Names tails =
      short_labels({"backbone_of_the_whole_network_block_11", "backbone_of_the_whole_network_block_12"}, 16);
  EXPECT_EQ(tails, (Names{"...work_block_11", "...work_block_12"}));
  // Tails are equal here: the caller leaves out the middle.
  const Names heads{"first_of_the_layers_in_the_long_network", "second_of_the_layers_in_the_long_network"};
  EXPECT_EQ(short_labels(heads, 16), heads);
  EXPECT_EQ(short_labels({}, 16), Names{});
  EXPECT_EQ(short_labels({"a/very/long/path/of/one/category"}, 8).size(), 1u);
}

TEST(Gnuplot, QuotesHostileNames) {
  EXPECT_EQ(gnuplot_quote("a'b\nc`d`"), "'a''b c d '");
  EXPECT_EQ(gnuplot_quote("abcdefghij", 7), "'ab...ij'");
  EXPECT_EQ(gnuplot_quote("\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4", 8), "'\xC3\xA4...\xC3\xA4'");
}

}  // namespace
}  // namespace lithe
