// What gnuplot is told for each kind of plot.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "lithe/report/report.h"

namespace lithe {

/// Names short enough for a tick label of `longest` characters that still tell the categories apart, as far
/// as that is possible: what all paths share, folders that the next one repeats ("layer1/layer1.0") and a
/// common last part are left out first, then the beginning or the middle.
std::vector<std::string> short_labels(const std::vector<std::string>& names, std::size_t longest);

// Throw Error(Input) naming the plot if its numbers do not fit together.
std::string gnuplot_script(const LinePlot& plot);
std::string gnuplot_script(const BarPlot& plot);
std::string gnuplot_script(const RangePlot& plot);
std::string gnuplot_script(const HeatMap& plot);

}  // namespace lithe
