#include "base/units.h"

#include <gtest/gtest.h>

namespace hecaton {
namespace {

TEST(ParseSize, TakesBytesAndBinarySuffixes) {
  EXPECT_EQ(parse_size("4096").value(), 4096u);
  EXPECT_EQ(parse_size("1K").value(), 1024u);
  EXPECT_EQ(parse_size("512M").value(), 512u << 20);
  EXPECT_EQ(parse_size("2g").value(), 2ull << 30);
  EXPECT_EQ(parse_size("3T").value(), 3ull << 40);
  EXPECT_EQ(parse_size("5MiB").value(), 5u << 20);
}

TEST(ParseSize, SaysWhatIsWrong) {
  for (const char* bad : {"", "M", "-1", "+5", "1.5G", "1X", "1MM", "1 M", "12Q", "0x10", "0", "0G"}) {
    EXPECT_FALSE(parse_size(bad).ok()) << bad;
  }
  EXPECT_STREQ(parse_size("99999999999999999999").error().context, "the size is too large");
  EXPECT_STREQ(parse_size("99999999999T").error().context, "the size is too large");
  EXPECT_STREQ(parse_size("0").error().context, "the size is zero");
}

TEST(FormatSize, KeepsAtMostOneDecimal) {
  EXPECT_EQ(format_size(0), "0 B");
  EXPECT_EQ(format_size(512_MiB), "512 MiB");
  EXPECT_EQ(format_size(1536_MiB), "1.5 GiB");
}

}  // namespace
}  // namespace hecaton
