// The page of `bench --html`: one file, no scripts, nothing fetched from anywhere.
#include <fmt/format.h>
#include <sys/utsname.h>

#include <ctime>
#include <thread>

#include "base/version.h"
#include "bench/svg.h"

namespace hecaton::bench {
namespace {

constexpr const char* kStyle = R"(
:root { color-scheme: light dark;
  --ground: #f6f7f9; --card: #ffffff; --ink: #17202c; --soft: #5c6a7c; --line: #dfe4ea;
  --c0: #1f6feb; --c1: #c2410c; --c2: #0f8a6c; --c3: #8250df; --mark: #c2410c; --bad: #c81e1e; }
@media (prefers-color-scheme: dark) { :root {
  --ground: #10151c; --card: #18202a; --ink: #e8edf3; --soft: #97a5b7; --line: #2b3644;
  --c0: #6cb0ff; --c1: #ff9d66; --c2: #55d6b3; --c3: #c4a4ff; --mark: #ff9d66; --bad: #ff8080; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 40px 20px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.02em; }
h2 { font-size: 20px; margin: 0; letter-spacing: -0.01em; }
h3 { font-size: 14px; font-weight: 600; margin: 22px 0 6px; }
p { margin: 4px 0; } .soft { color: var(--soft); font-size: 14px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 14px; margin: 28px 0; }
.tile, section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
.tile { padding: 16px 18px; text-decoration: none; color: inherit; display: block; }
.tile:hover { border-color: var(--c0); }
.tile b { display: block; font-size: 30px; line-height: 1.25; letter-spacing: -0.02em; font-variant-numeric: tabular-nums; }
.tile i { font-style: normal; font-weight: 600; font-size: 14px; }
section { padding: 24px 26px; margin: 18px 0; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 4px 40px; }
.figures > * { min-width: 0; } .figures .row { grid-column: 1 / -1; }
svg { width: 100%; height: auto; display: block; max-width: 620px; font: 13px system-ui, sans-serif; }
svg text { fill: var(--ink); } svg .tick, svg .name { fill: var(--soft); font-size: 12px; }
svg .end { text-anchor: end; } svg .middle { text-anchor: middle; }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--soft); }
svg .bar { fill: var(--c0); } svg .mark { stroke: var(--mark); stroke-width: 3; } svg .value { font-weight: 600; }
svg .curve { fill: none; stroke-width: 2.5; stroke-linejoin: round; } svg .curve.limit { stroke-dasharray: 7 4; }
svg .curve.limit.c2 { stroke-dasharray: 2 4; } svg .curve.limit.c3 { stroke-dasharray: 11 4 2 4; }
svg .dot { stroke: none; }
svg .curve.c0 { stroke: var(--c0); } svg .curve.c1 { stroke: var(--c1); }
svg .curve.c2 { stroke: var(--c2); } svg .curve.c3 { stroke: var(--c3); }
svg .dot.c0 { fill: var(--c0); } svg .dot.c1 { fill: var(--c1); } svg .dot.c2 { fill: var(--c2); } svg .dot.c3 { fill: var(--c3); }
.key { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; color: var(--soft); margin: 0 0 8px; }
.key svg { display: inline-block; width: 34px; height: 12px; margin-right: 7px; vertical-align: -1px; }
.key span.tick::before { content: ""; display: inline-block; width: 3px; height: 14px; margin-right: 7px;
  vertical-align: middle; background: var(--mark); }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; margin-top: 18px; }
.wide { overflow-x: auto; } th, td { padding: 5px 0 5px 18px; text-align: right; vertical-align: bottom; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; } th:first-child, td:first-child { text-align: left; padding-left: 0; }
td { white-space: pre; }
details { margin-top: 16px; font-size: 14px; color: var(--soft); } summary { cursor: pointer; }
@media (max-width: 560px) { main { padding: 24px 12px 40px; } section { padding: 18px 16px; }
  .tiles { grid-template-columns: 1fr 1fr; gap: 10px; } .tile { padding: 12px 14px; } .tile b { font-size: 24px; }
  th, td { padding-left: 10px; }
  svg { font-size: 17px; } svg .tick, svg .name { font-size: 16px; } }
.bad { color: var(--bad); font-weight: 600; }
)";

std::string today() {
  char text[32];
  const time_t now = time(nullptr);
  tm parts{};
  localtime_r(&now, &parts);
  strftime(text, sizeof text, "%Y-%m-%d %H:%M", &parts);
  return text;
}

std::string machine() {
  utsname system{};
  uname(&system);
  return fmt::format("{} processors, {} {}, {}", std::thread::hardware_concurrency(), system.sysname, system.release,
                     system.machine);
}

std::string tile_of(const Report& report) {
  return fmt::format("<a class=\"tile\" href=\"#{0}\"><i>{0}</i><b>{1}</b><span class=\"soft\">{2}</span></a>\n",
                     escaped(report.name), escaped(report.headline), escaped(report.meaning));
}

std::string cells_of(const std::vector<std::string>& cells, const char* element) {
  std::string html = "<tr>";
  for (const std::string& cell : cells) html += fmt::format("<{0}>{1}</{0}>", element, escaped(cell));
  return html + "</tr>\n";
}

// A table of many columns takes a row of its own, others stand beside a plot where there is room.
std::string table_of(const Table& table) {
  std::string html = fmt::format("<div class=\"wide{}\"><table>\n", table.columns.size() > 7 ? " row" : "");
  html += cells_of(table.columns, "th");
  for (const auto& row : table.rows) html += cells_of(row, "td");
  return html + "</table></div>\n";
}

std::string plots_of(const Report& report) {
  std::string html;
  for (const BarPlot& plot : report.bars) {
    html += fmt::format("<div>\n<h3>{}</h3>\n<div class=\"key\"><span class=\"tick\">{}</span></div>\n{}</div>\n",
                        escaped(plot.title), escaped(plot.limit_name), svg_of(plot));
  }
  for (const LinePlot& plot : report.lines) {
    html += fmt::format("<div>\n<h3>{}, {}</h3>\n{}{}</div>\n", escaped(plot.title), escaped(plot.y_name), key_of(plot),
                        svg_of(plot));
  }
  return html;
}

std::string section_of(const Report& report) {
  std::string html = fmt::format("<section id=\"{}\">\n<h2>{}</h2>\n<p class=\"soft\">{}</p>\n", escaped(report.name),
                                 escaped(report.name), escaped(report.title));
  html += fmt::format("<p><strong>{}</strong> {}</p>\n", escaped(report.headline), escaped(report.meaning));
  if (report.wrong != 0) html += fmt::format("<p class=\"bad\">{} results were wrong.</p>\n", report.wrong);
  html += "<div class=\"figures\">\n" + plots_of(report) + table_of(report.table) + "</div>\n";
  html += "<details><summary>How it was measured</summary>\n";
  for (const std::string& note : report.notes) html += fmt::format("<p>{}</p>\n", escaped(note));
  return html + "</details>\n</section>\n";
}

}  // namespace

std::string html_of(const std::vector<Report>& reports) {
  std::string html = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>hecaton bench</title>\n"
      "<style>{}</style>\n</head>\n<body>\n<main>\n<h1>What paging over the network costs</h1>\n"
      "<p class=\"soft\">hecaton {} on {}; {}</p>\n<div class=\"tiles\">\n",
      kStyle, escaped(kVersion), escaped(machine()), escaped(today()));
  for (const Report& report : reports) html += tile_of(report);
  html += "</div>\n";
  for (const Report& report : reports) html += section_of(report);
  return html + "</main>\n</body>\n</html>\n";
}

}  // namespace hecaton::bench
