#include "bench/report.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/version.h"

namespace hecaton::bench {
namespace {

constexpr size_t kTextWidth = 100;

// Characters, not bytes: a figure may end in ×.
size_t width_of(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::vector<size_t> column_widths(const Table& table) {
  std::vector<size_t> widths;
  for (const std::string& column : table.columns) widths.push_back(width_of(column));
  for (const auto& row : table.rows) {
    for (size_t i = 0; i < row.size() && i < widths.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  return widths;
}

// Names to the left, figures to the right.
std::string line_of(const std::vector<std::string>& cells, const std::vector<size_t>& widths) {
  std::string line = " ";
  for (size_t i = 0; i < cells.size() && i < widths.size(); ++i) {
    const std::string padding(widths[i] - width_of(cells[i]), ' ');
    line += i == 0 ? " " + cells[i] + padding : "  " + padding + cells[i];
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

std::string wrapped(const std::string& text) {
  std::string lines, line = " ";
  for (size_t at = 0; at < text.size();) {
    size_t end = std::min(text.find(' ', at), text.size());
    if (width_of(line) + 1 + end - at > kTextWidth) {
      lines += line + "\n";
      line = "   ";
    }
    line += " " + text.substr(at, end - at);
    at = end + 1;
  }
  return lines + line + "\n";
}

}  // namespace

nlohmann::ordered_json json_of(const Report& report) {
  nlohmann::ordered_json json = {{"bench", report.name}};
  json.update(report.figures);
  json["wrong"] = report.wrong;
  json["how"] = report.notes;
  json["version"] = kVersion;
  return json;
}

std::string text_of(const Report& report) {
  const std::vector<size_t> widths = column_widths(report.table);
  std::string text = fmt::format("hecaton bench {}: {}\n", report.name, report.title);
  text += line_of(report.table.columns, widths);
  for (const auto& row : report.table.rows) text += line_of(row, widths);
  text += wrapped(report.headline + " " + report.meaning);
  for (const std::string& note : report.notes) text += wrapped(note);
  return text;
}

}  // namespace hecaton::bench
