// What a benchmark found, once, for all ways to show it: JSON, text, and the plots of an HTML page.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace hecaton::bench {

struct Table {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;  // the first cell names the row
};

// Bars from a common zero, each with a tick where the machine's own limit is.
struct BarPlot {
  struct Bar {
    std::string label;
    double value;
    double limit;      // 0: none
    std::string text;  // the value as a person reads it
  };
  std::string title, limit_name;
  std::vector<Bar> bars;
};

// Curves over a number. A limit's curve is dashed.
struct LinePlot {
  struct Line {
    std::string name;
    bool limit = false;
    std::vector<std::pair<double, double>> points;
  };
  std::string title, x_name, y_name;
  bool log_x = false, log_y = false;
  std::vector<Line> lines;
};

struct Report {
  std::string name;      // of the benchmark
  std::string title;     // one line
  std::string headline;  // the figure that matters most, "1.2×"
  std::string meaning;   // what that figure says
  nlohmann::ordered_json figures;
  Table table;
  std::vector<std::string> notes;  // how it was measured, and how the limit was taken
  std::vector<BarPlot> bars;
  std::vector<LinePlot> lines;
  uint64_t wrong = 0;  // results that were not right: anything but 0 is a bug
};

nlohmann::ordered_json json_of(const Report& report);
std::string text_of(const Report& report);
// A page that needs nothing else: styles, and plots as SVG, are in it.
std::string html_of(const std::vector<Report>& reports);

}  // namespace hecaton::bench
