#include "lithe/report/gnuplot.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "lithe/base/error.h"
#include "lithe/base/file.h"

extern char** environ;

namespace lithe {
namespace {

// gnuplot knows no CSS, so every role has a colour that occurs nowhere else and is replaced afterwards.
constexpr std::array<std::pair<const char*, const char*>, 8> kRoles{{{"rgb(1,2,3)", "var(--ink)"},
                                                                     {"rgb(1,2,4)", "var(--grid)"},
                                                                     {"rgb(1,3,0)", "var(--series-0)"},
                                                                     {"rgb(1,3,1)", "var(--series-1)"},
                                                                     {"rgb(1,3,2)", "var(--series-2)"},
                                                                     {"rgb(1,3,3)", "var(--series-3)"},
                                                                     {"rgb(1,3,4)", "var(--series-4)"},
                                                                     {"rgb(1,3,5)", "var(--series-5)"}}};

constexpr const char* kStyle = R"(
set encoding utf8
set border 3 lc rgb '#010203' lw 1
set tics nomirror out scale 0.5 textcolor rgb '#010203'
set grid ytics lc rgb '#010204' lw 1 dt solid
set key outside top left horizontal Left reverse samplen 2 textcolor rgb '#010203'
set xlabel textcolor rgb '#010203'
set ylabel textcolor rgb '#010203'
set style fill solid 1.0 noborder
)";

/// "rgb(  1,   2,   3)" -> "rgb(1,2,3)" -> the variable of the role.
std::string with_variables(std::string svg) {
  std::string out;
  out.reserve(svg.size());
  for (std::size_t at = 0; at < svg.size();) {
    if (svg.compare(at, 4, "rgb(") != 0) {
      out += svg[at++];
      continue;
    }
    std::string colour;
    for (; at < svg.size() && svg[at] != ')'; ++at)
      if (svg[at] != ' ') colour += svg[at];
    colour += ')';
    ++at;
    for (const auto& [from, to] : kRoles)
      if (colour == from) colour = to;
    out += colour;
  }
  const std::string black = "color=\"black\"";
  for (std::size_t at = out.find(black); at != std::string::npos; at = out.find(black, at))
    out.replace(at, black.size(), "color=\"var(--ink)\"");
  return out;
}

std::string only_element(const std::string& svg) {
  const std::size_t start = svg.find("<svg"), end = svg.rfind("</svg>");
  if (start == std::string::npos || end == std::string::npos) fail_system("gnuplot wrote no SVG picture");
  return svg.substr(start, end + 6 - start);
}

int run_in_folder(const std::string& program, const std::filesystem::path& folder) {
  std::array<std::string, 3> words{program, "-d", "script.gp"};
  std::array<char*, 4> arguments{words[0].data(), words[1].data(), words[2].data(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 2, "errors.txt", O_WRONLY | O_CREAT | O_TRUNC, 0600);
  pid_t child = 0;
  const int code = ::posix_spawnp(&child, program.c_str(), &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (code != 0)
    fail_system("{}: cannot run it to draw the report's plots: {}; install gnuplot (Debian: gnuplot-nox)",
                program, std::strerror(code));
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

std::string first_complaint(const std::filesystem::path& file) {
  const std::string text = read_text_file(file);
  std::size_t start = 0;
  while (start < text.size()) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    std::string line = text.substr(start, end - start);
    if (line.find_first_not_of(" \t^") != std::string::npos && line.find("line ") != std::string::npos)
      return line;
    start = end + 1;
  }
  return "no reason given";
}

}  // namespace

void require_gnuplot() {
  draw_with_gnuplot({"plot [0:1] 0 notitle\n"});
}

std::string gnuplot_quote(const std::string& text, std::size_t longest) {
  std::string plain;
  for (const char c : text)
    // Backquotes run commands in some contexts, and line breaks end a string.
    plain += static_cast<unsigned char>(c) < 0x20 || c == 0x7F || c == '`' ? ' ' : c;
  if (plain.size() > longest && longest > 3) {
    // Whole UTF-8 characters only.
    const auto inside = [&](std::size_t at) {
      return (static_cast<unsigned char>(plain[at]) & 0xC0) == 0x80;
    };
    std::size_t head = (longest - 3) / 2, tail = plain.size() - (longest - 3 - head);
    while (head > 0 && inside(head)) --head;
    while (tail < plain.size() && inside(tail)) ++tail;
    plain = plain.substr(0, head) + "..." + plain.substr(tail);
  }
  std::string out = "'";
  for (const char c : plain) {
    out += c;
    if (c == '\'') out += c;
  }
  return out + "'";
}

std::string gnuplot_colour(std::size_t series) {
  return fmt::format("rgb '#01030{}'", series % 6);
}

std::vector<std::string> draw_with_gnuplot(const std::vector<std::string>& scripts) {
  if (scripts.empty()) return {};
  const TemporaryFolder folder;
  std::string all;
  for (std::size_t i = 0; i < scripts.size(); ++i) {
    const std::size_t height = scripts[i].starts_with("#tall") ? 480 : 340;
    all += fmt::format(
        "reset\nset terminal svg size 800,{} dynamic noenhanced font 'sans-serif,13'\nset output "
        "'plot{}.svg'\n{}\n{}\n"
        "set output\n",
        height, i, kStyle, scripts[i]);
  }
  write_file(folder.path() / "script.gp", all);
  const char* chosen = std::getenv("LITHE_GNUPLOT");
  const int status = run_in_folder(chosen && *chosen ? chosen : "gnuplot", folder.path());
  if (status == 127)
    fail_system("gnuplot is not installed; install it (Debian: gnuplot-nox) to write reports");
  if (status != 0)
    fail_system("gnuplot failed on the report's plots: {}", first_complaint(folder.path() / "errors.txt"));
  std::vector<std::string> out;
  for (std::size_t i = 0; i < scripts.size(); ++i)
    out.push_back(with_variables(only_element(read_text_file(folder.path() / fmt::format("plot{}.svg", i)))));
  return out;
}

}  // namespace lithe
