// What gnuplot is told for each kind of plot.
#pragma once

#include <string>

#include "lithe/report/report.h"

namespace lithe {

// Throw Error(Input) naming the plot if its numbers do not fit together.
std::string gnuplot_script(const LinePlot& plot);
std::string gnuplot_script(const BarPlot& plot);
std::string gnuplot_script(const RangePlot& plot);
std::string gnuplot_script(const HeatMap& plot);

}  // namespace lithe
