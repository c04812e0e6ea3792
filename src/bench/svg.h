// Plots as SVG text. Colours are CSS classes and variables of the page around it, so that light and dark are its
// matter. Pure.
#pragma once

#include <string>
#include <vector>

#include "bench/report.h"

namespace hecaton::bench {

// Text that is safe inside an element or an attribute.
std::string escaped(const std::string& text);

std::string svg_of(const BarPlot& plot);
std::string svg_of(const LinePlot& plot);
// Which curve is which: an element of HTML.
std::string key_of(const LinePlot& plot);

// Round numbers that divide [low, high]: about `wanted` of them; powers of ten and their 2 and 5 if `logarithmic`.
std::vector<double> ticks_of(double low, double high, size_t wanted, bool logarithmic);
// 1234567 -> "1.2M", 0.25 -> "0.25"
std::string short_number(double value);

}  // namespace hecaton::bench
