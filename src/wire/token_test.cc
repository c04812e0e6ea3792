#include "wire/token.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "wire/node_url.h"

namespace hecaton {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Token, IsTakenWithoutTheWhiteSpaceAroundIt) {
  EXPECT_EQ(parse_token("  abcdefghijklmnopqrst\r\n").value(), "abcdefghijklmnopqrst");
}

TEST(Token, IsRefusedIfItIsShortLongOrNotOneWord) {
  for (const std::string& bad : {std::string(), std::string(" \n"), std::string(19, 'a'), std::string(257, 'a'),
                                 std::string(20, 'a') + " " + std::string(20, 'b'), std::string(30, '@'),
                                 std::string(30, '/'), std::string(30, '\0'), std::string(30, '\xff')}) {
    EXPECT_FALSE(parse_token(bad).ok()) << bad;
  }
  EXPECT_TRUE(parse_token(std::string(20, 'a')).ok());
  EXPECT_TRUE(parse_token(std::string(256, 'a')).ok());
}

TEST(Token, NewOnesDifferAndCanBeWrittenIntoAUrl) {
  std::set<std::string> made;
  for (int i = 0; i < 100; ++i) {
    const std::string token = make_token();
    EXPECT_EQ(token.size(), 32u);
    EXPECT_EQ(parse_token(token).value(), token);
    EXPECT_EQ(parse_node_url("hecaton://" + token + "@10.0.0.7:1").value().token, token);
    made.insert(token);
  }
  EXPECT_EQ(made.size(), 100u);
}

TEST(Token, IsTakenOutOfMessages) {
  EXPECT_EQ(without_tokens("hecaton://s3cret@host:1"), "hecaton://***@host:1");
  EXPECT_EQ(without_tokens("s3cret@host"), "***@host");
  EXPECT_EQ(without_tokens("not expected: s3cret@a 'hecaton://more@s3cret@b' c"),
            "not expected: ***@a 'hecaton://***@b' c");
  EXPECT_EQ(without_tokens("--node=s3cret@host,x@y"), "***@y");
  EXPECT_EQ(without_tokens("no token here\n"), "no token here\n");
  EXPECT_EQ(without_tokens("@"), "***@");
  EXPECT_EQ(without_tokens("'hecaton://xoiidD0cSmmqHFa8dMVTjSG1 192.0.2.7:9999':"), "'hecaton://*** 192.0.2.7:9999':");
  EXPECT_EQ(without_tokens("xoiidD0cSmmqHFa8dMVTjSG1/donor.example"), "***/donor.example");
  EXPECT_EQ(without_tokens("--a-very-long-option-indeed"), "--a-very-long-option-indeed");
  EXPECT_EQ(without_tokens(""), "");
}

TEST(Token, IsNotInTheProblemsOfANodesFile) {
  std::vector<NodesFileProblem> problems;
  (void)parse_nodes_file("s3cret@host:0\nhecaton://s3cret@@\nhttp://s3cret@a\n", &problems);
  ASSERT_EQ(problems.size(), 3u);
  for (const NodesFileProblem& problem : problems) EXPECT_THAT(problem.text, Not(HasSubstr("s3cret")));
}

}  // namespace
}  // namespace hecaton
