// Plots as SVG, drawn by gnuplot.
#pragma once

#include <string>
#include <vector>

namespace lithe {

/// Runs gnuplot (the program named by LITHE_GNUPLOT, else "gnuplot" on the PATH) once and returns one <svg>
/// element a script. A script says what to plot; terminal, output and style are set here. Colours are
/// references to the page's CSS variables --ink, --grid and --series-0 to --series-5. Throws Error(System) if
/// gnuplot is missing or fails.
std::vector<std::string> draw_with_gnuplot(const std::vector<std::string>& scripts);

/// Throws as above unless plots can be drawn: to know before long work.
void require_gnuplot();

/// Text as a gnuplot string literal on one line, at most `longest` characters; the middle is left out of
/// longer ones.
std::string gnuplot_quote(const std::string& text, std::size_t longest = 80);

/// "rgb '#...'" of the i-th series.
std::string gnuplot_colour(std::size_t series);

}  // namespace lithe
