#include "bench/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace hecaton::bench {
namespace {

constexpr double kWidth = 480;
constexpr size_t kColours = 4;

// From numbers to places in the picture.
class Scale {
 public:
  Scale(double low, double high, double from, double to, bool logarithmic)
      : low_(bent(low, logarithmic)),
        span_(std::max(bent(high, logarithmic) - low_, 1e-9)),
        from_(from),
        to_(to),
        log_(logarithmic) {}
  double operator()(double value) const { return from_ + (bent(value, log_) - low_) / span_ * (to_ - from_); }

 private:
  static double bent(double value, bool logarithmic) { return logarithmic ? std::log10(std::max(value, 1e-9)) : value; }
  double low_, span_, from_, to_;
  bool log_;
};

struct Range {
  double low = std::numeric_limits<double>::max(), high = std::numeric_limits<double>::lowest();
  void include(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

std::string text_at(double x, double y, const char* css, const std::string& text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\">{}</text>\n", x, y, css, escaped(text));
}

std::string line_between(double x1, double y1, double x2, double y2, const char* css) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"/>\n", x1, y1, x2, y2,
                     css);
}

std::string svg_open(double height, const std::string& title) {
  return fmt::format("<svg viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\">\n", kWidth, height,
                     escaped(title));
}

// The frame of a line plot: where its area is, and the scales of its axes.
struct Frame {
  static constexpr double kLeft = 48, kRight = kWidth - 14, kTop = 12, kBottom = 232, kHeight = 276;
  Range x_range, y_range;
  Scale x, y;

  static Frame around(const LinePlot& plot) {
    Range xs, ys;
    for (const auto& line : plot.lines) {
      for (auto [px, py] : line.points) {
        if (plot.log_x && px <= 0) continue;
        xs.include(px);
        ys.include(py);
      }
    }
    if (xs.low > xs.high) xs = ys = Range{plot.log_x ? 1.0 : 0.0, 1};
    // A linear axis that hides its zero exaggerates.
    if (!plot.log_y) ys.include(0);
    // No curve lies on the frame.
    if (plot.log_y) ys.low /= 1.15;
    ys.high = plot.log_y ? ys.high * 1.15 : ys.high + (ys.high - ys.low) * 0.06;
    return Frame{xs, ys, Scale(xs.low, xs.high, kLeft, kRight, plot.log_x),
                 Scale(ys.low, ys.high, kBottom, kTop, plot.log_y)};
  }
};

std::string axes_of(const LinePlot& plot, const Frame& frame) {
  std::string svg;
  for (double tick : ticks_of(frame.y_range.low, frame.y_range.high, 5, plot.log_y)) {
    svg += line_between(Frame::kLeft, frame.y(tick), Frame::kRight, frame.y(tick), "grid");
    svg += text_at(Frame::kLeft - 8, frame.y(tick) + 4, "tick end", short_number(tick));
  }
  for (double tick : ticks_of(frame.x_range.low, frame.x_range.high, 8, plot.log_x)) {
    svg += line_between(frame.x(tick), Frame::kBottom, frame.x(tick), Frame::kBottom + 4, "axis");
    svg += text_at(frame.x(tick), Frame::kBottom + 18, "tick middle", short_number(tick));
  }
  svg += line_between(Frame::kLeft, Frame::kBottom, Frame::kRight, Frame::kBottom, "axis");
  return svg + text_at(Frame::kRight, Frame::kHeight - 10, "name end", plot.x_name);
}

// A shape for each colour: curves are told apart without it.
std::string dot_at(double x, double y, size_t colour) {
  const std::string css = fmt::format("class=\"dot c{}\"", colour);
  switch (colour) {
    case 0:
      return fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" {}", x, y, css);
    case 1:
      return fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"7\" height=\"7\" {}", x - 3.5, y - 3.5, css);
    case 2:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l5 8h-10z\" {}", x, y - 5, css);
    default:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l5 5l-5 5l-5-5z\" {}", x, y - 5, css);
  }
}

bool has_dots(const LinePlot::Line& line) {
  return line.points.size() <= 12;
}

std::string curve_of(const LinePlot& plot, const LinePlot::Line& line, const Frame& frame, size_t colour) {
  std::string places, dots;
  for (auto [px, py] : line.points) {
    if (plot.log_x && px <= 0) continue;
    places += fmt::format("{:.1f},{:.1f} ", frame.x(px), frame.y(py));
    if (!has_dots(line)) continue;
    dots += fmt::format("{}><title>{}: {} at {}</title></{}>\n", dot_at(frame.x(px), frame.y(py), colour),
                        escaped(line.name), short_number(py), short_number(px),
                        colour == 0   ? "circle"
                        : colour == 1 ? "rect"
                                      : "path");
  }
  return fmt::format("<polyline points=\"{}\" class=\"curve c{}{}\"><title>{}</title></polyline>\n{}", places, colour,
                     line.limit ? " limit" : "", escaped(line.name), dots);
}

}  // namespace

std::string escaped(const std::string& text) {
  std::string safe;
  for (char c : text) {
    switch (c) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '"':
        safe += "&quot;";
        break;
      case '\'':
        safe += "&#39;";
        break;
      default:
        safe += c;
    }
  }
  return safe;
}

std::string short_number(double value) {
  const double size = std::fabs(value);
  if (size >= 1e9) return fmt::format("{:.3g}G", value / 1e9);
  if (size >= 1e6) return fmt::format("{:.3g}M", value / 1e6);
  if (size >= 1e4) return fmt::format("{:.3g}k", value / 1e3);
  return size >= 1000 ? fmt::format("{:.0f}", value) : fmt::format("{:.3g}", value);
}

std::vector<double> ticks_of(double low, double high, size_t wanted, bool logarithmic) {
  std::vector<double> ticks;
  if (logarithmic) {
    const bool fine = high / std::max(low, 1e-9) < 1000;
    for (double power = std::pow(10, std::floor(std::log10(std::max(low, 1e-9)))); power <= high; power *= 10) {
      for (double factor : {1.0, 2.0, 5.0}) {
        const double tick = power * factor;
        if (tick >= low * 0.999 && tick <= high * 1.001 && (fine || factor == 1)) ticks.push_back(tick);
      }
    }
    return ticks;
  }
  const double rough = (high - low) / static_cast<double>(std::max<size_t>(wanted, 1));
  if (!(rough > 0)) return {low};
  const double power = std::pow(10, std::floor(std::log10(rough)));
  const double step = rough / power <= 1   ? power
                      : rough / power <= 2 ? 2 * power
                      : rough / power <= 5 ? 5 * power
                                           : 10 * power;
  for (double tick = std::ceil(low / step) * step; tick <= high + step * 1e-6; tick += step) ticks.push_back(tick);
  return ticks;
}

std::string svg_of(const BarPlot& plot) {
  constexpr double kLeft = 136, kRight = kWidth - 108, kRow = 34, kBar = 18;
  double most = 1e-9;
  for (const auto& bar : plot.bars) most = std::max({most, bar.value, bar.limit});
  const Scale place(0, most, kLeft, kRight, false);
  const double height = kRow * static_cast<double>(plot.bars.size()) + 12;
  std::string svg = svg_open(height, plot.title);
  double y = 8;
  for (const auto& bar : plot.bars) {
    svg += text_at(kLeft - 10, y + kBar - 4, "label end", bar.label);
    svg += fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{}\" rx=\"3\" class=\"bar\"><title>{}: "
        "{}</title></rect>\n",
        kLeft, y, std::max(place(bar.value) - kLeft, 1.0), kBar, escaped(bar.label), escaped(bar.text));
    double end = place(bar.value);
    if (bar.limit > 0) {
      svg += line_between(place(bar.limit), y - 4, place(bar.limit), y + kBar + 4, "mark");
      // The figure stands clear of the limit's mark.
      if (place(bar.limit) > end - 2 && place(bar.limit) < end + 90) end = place(bar.limit);
    }
    svg += text_at(end + 8, y + kBar - 4, "value", bar.text);
    y += kRow;
  }
  return svg + line_between(kLeft, 2, kLeft, height - 4, "axis") + "</svg>\n";
}

std::string svg_of(const LinePlot& plot) {
  const Frame frame = Frame::around(plot);
  std::string svg = svg_open(Frame::kHeight, plot.title) + axes_of(plot, frame);
  for (size_t i = 0; i < plot.lines.size(); ++i) svg += curve_of(plot, plot.lines[i], frame, i % kColours);
  return svg + "</svg>\n";
}

std::string key_of(const LinePlot& plot) {
  std::string key = "<div class=\"key\">";
  for (size_t i = 0; i < plot.lines.size(); ++i) {
    const LinePlot::Line& line = plot.lines[i];
    key += fmt::format(
        "<span><svg viewBox=\"0 0 34 12\" aria-hidden=\"true\"><path d=\"M0 6h34\" class=\"curve "
        "c{}{}\"/>{}</svg>{}</span>",
        i % kColours, line.limit ? " limit" : "", has_dots(line) ? dot_at(17, 6, i % kColours) + "/>" : "",
        escaped(line.name));
  }
  return key + "</div>\n";
}

}  // namespace hecaton::bench
