#include "bench/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/svg.h"

namespace hecaton::bench {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

Report sample() {
  Report report;
  report.name = "sample";
  report.title = "a <b> & \"c\"";
  report.headline = "1.20×";
  report.meaning = "the limit";
  report.figures = {{"p50_us", 12.5}, {"limit", {{"uffd_us", 5}}}};
  report.table = {{"", "p50", "p99"}, {{"remote fault", "12.5", "30.0"}, {"limit", "5.0", "9.0"}}};
  report.notes = {"medians"};
  report.bars = {{"Bars <1>", "limit", {{"forward", 2, 4, "2 GB/s"}, {"backward", 1, 4, "1 GB/s"}}}};
  report.lines = {{"Lines", "donors", "µs", true, false, {{"p50", false, {{1, 20}, {10, 21}, {100, 25}}}}}};
  return report;
}

size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(ReportJson, HasTheFiguresAtTheTopAndSaysHowTheyWereTaken) {
  nlohmann::ordered_json json = json_of(sample());
  EXPECT_EQ(json["bench"], "sample");
  EXPECT_EQ(json["p50_us"], 12.5);
  EXPECT_EQ(json["limit"]["uffd_us"], 5);
  EXPECT_EQ(json["wrong"], 0);
  EXPECT_EQ(json["how"][0], "medians");
  EXPECT_TRUE(json.contains("version"));
}

TEST(ReportText, AlignsFiguresUnderTheirColumns) {
  const std::string text = text_of(sample());
  EXPECT_THAT(text, HasSubstr("                 p50   p99\n"
                              "  remote fault  12.5  30.0\n"
                              "  limit          5.0   9.0\n"));
  EXPECT_THAT(text, HasSubstr("1.20× the limit"));
}

TEST(ReportHtml, EscapesEveryText) {
  const std::string page = html_of({sample()});
  EXPECT_THAT(page, HasSubstr("a &lt;b&gt; &amp; &quot;c&quot;"));
  EXPECT_THAT(page, HasSubstr("Bars &lt;1&gt;"));
  EXPECT_THAT(page, Not(HasSubstr("<b> &")));
  EXPECT_EQ(escaped("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
}

TEST(ReportHtml, IsWholeAndNeedsNothingElse) {
  const std::string page = html_of({sample(), sample()});
  EXPECT_THAT(page, testing::StartsWith("<!DOCTYPE html>"));
  EXPECT_THAT(page, testing::EndsWith("</html>\n"));
  EXPECT_EQ(count_of(page, "<section"), 2u);
  EXPECT_EQ(count_of(page, "<svg"), 6u) << "two plots each, and the key of one";
  EXPECT_EQ(count_of(page, "</svg>"), 6u);
  for (const char* outside : {"http:", "https:", "src=", "@import", "url(", "<script", "<link"}) {
    EXPECT_THAT(page, Not(HasSubstr(outside)));
  }
}

TEST(ReportHtml, ShoutsAboutWrongResults) {
  Report report = sample();
  EXPECT_THAT(html_of({report}), Not(HasSubstr("results were wrong")));
  report.wrong = 3;
  EXPECT_THAT(html_of({report}), HasSubstr("3 results were wrong"));
}

TEST(Svg, TellsCurvesApartWithoutColour) {
  LinePlot plot{"x", "", "", false, false, {}};
  for (const char* name : {"a", "b", "c", "d"}) plot.lines.push_back({name, false, {{0, 0}, {1, 1}}});
  for (const std::string& drawn : {svg_of(plot), key_of(plot)}) {
    EXPECT_THAT(drawn, HasSubstr("<circle"));
    EXPECT_THAT(drawn, HasSubstr("<rect"));
    EXPECT_NE(count_of(drawn, "l5 8h-10z"), 0u) << "a triangle";
    EXPECT_NE(count_of(drawn, "l5 5l-5 5l-5-5z"), 0u) << "a diamond";
  }
}

TEST(Svg, NamesEachCurveInItsKey) {
  const std::string key = key_of(LinePlot{"x", "", "", false, false, {{"a & b", true, {}}}});
  EXPECT_THAT(key, HasSubstr("a &amp; b</span>"));
  EXPECT_THAT(key, HasSubstr("limit"));
}

TEST(Svg, DrawsEachBarWithItsFigureAndItsLimit) {
  const std::string svg = svg_of(sample().bars[0]);
  EXPECT_EQ(count_of(svg, "class=\"bar\""), 2u);
  EXPECT_EQ(count_of(svg, "class=\"mark\""), 2u);
  EXPECT_THAT(svg, HasSubstr(">2 GB/s</text>"));
}

TEST(Svg, DrawsAPlotOfNothing) {
  EXPECT_THAT(svg_of(LinePlot{}), HasSubstr("</svg>"));
  EXPECT_THAT(svg_of(BarPlot{}), HasSubstr("</svg>"));
  EXPECT_THAT(svg_of(LinePlot{"x", "", "", true, true, {{"p", false, {{0, 0}}}}}), Not(HasSubstr("nan")));
}

TEST(Ticks, AreRoundNumbersWithinTheRange) {
  EXPECT_THAT(ticks_of(0, 9, 5, false), ElementsAre(0, 2, 4, 6, 8));
  EXPECT_THAT(ticks_of(1, 10'000, 5, true), ElementsAre(1, 10, 100, 1000, 10'000));
  EXPECT_THAT(ticks_of(4, 60, 5, true), ElementsAre(5, 10, 20, 50));
  EXPECT_THAT(ticks_of(3, 3, 5, false), ElementsAre(3));
}

TEST(ShortNumber, FitsBesideAnAxis) {
  EXPECT_EQ(short_number(0.25), "0.25");
  EXPECT_EQ(short_number(2000), "2000");
  EXPECT_EQ(short_number(10'000), "10k");
  EXPECT_EQ(short_number(1'234'567), "1.23M");
}

}  // namespace
}  // namespace hecaton::bench
