#include "wire/node_url.h"

#include <gtest/gtest.h>

namespace hecaton {
namespace {

TEST(NodeUrl, ATokenIsOneWordOfTheCharactersOfTokens) {
  for (std::string_view token : {"a b", "a\rb", "a\nb", "a/b", "a@b", "caf\xc3\xa9", "a*"}) {
    EXPECT_FALSE(parse_node_url("hecaton://" + std::string(token) + "@host").ok()) << token;
  }
  EXPECT_FALSE(parse_node_url(std::string("hecaton://a\0b@host", 18)).ok());
}

TEST(NodeUrl, FillsInSchemePortAndToken) {
  NodeUrl plain = parse_node_url("donor1").value();
  EXPECT_EQ(plain.host, "donor1");
  EXPECT_EQ(plain.port, 9999);
  NodeUrl full = parse_node_url("hecaton://s3cret@10.0.0.2:1234").value();
  EXPECT_EQ(full.token, "s3cret");
  EXPECT_EQ(full.host, "10.0.0.2");
  EXPECT_EQ(full.port, 1234);
  EXPECT_EQ(full.printable(), "10.0.0.2:1234");
  EXPECT_EQ(full.with_token(), "hecaton://s3cret@10.0.0.2:1234");
  EXPECT_EQ(parse_node_url(full.with_token()).value(), full);
  EXPECT_EQ(plain.with_token(), "donor1:9999");
  NodeUrl v6 = parse_node_url("[::1]:7").value();
  EXPECT_EQ(v6.host, "::1");
  EXPECT_EQ(v6.printable(), "[::1]:7");
}

TEST(NodeUrl, ChoosesRdmaByItsScheme) {
  NodeUrl url = parse_node_url("rdma://t0ken@10.0.0.2").value();
  EXPECT_TRUE(url.rdma);
  EXPECT_EQ(url.host, "10.0.0.2");
  EXPECT_EQ(url.port, 9999);
  EXPECT_EQ(url.token, "t0ken");
  EXPECT_EQ(url.printable(), "rdma://10.0.0.2:9999");
  EXPECT_EQ(parse_node_url("rdma://[::1]:7").value().printable(), "rdma://[::1]:7");
  EXPECT_TRUE(parse_node_url(url.printable()).value().rdma);
  EXPECT_FALSE(parse_node_url("hecaton://10.0.0.2").value().rdma);
  EXPECT_FALSE(parse_node_url("10.0.0.2").value().rdma);
  for (const char* with_scheme : {"rdma://10.0.0.2:9999", "hecaton://127.0.0.1:9999"}) {
    Result<NodeUrl> listen = parse_listen_address(with_scheme);
    ASSERT_FALSE(listen.ok());
    EXPECT_NE(std::string(listen.error().context).find("no scheme"), std::string::npos) << listen.error().context;
  }
}

TEST(NodeUrl, RefusesWhatIsNotOne) {
  for (const char* bad : {"",
                          ":9999",
                          "host:",
                          "host:0",
                          "host:65536",
                          "host:12x",
                          "http://host",
                          "@host",
                          "a b",
                          "::1",
                          "[::1",
                          "[::1]x",
                          "[zz]:1",
                          "300.1.1.1",
                          "1.2.3",
                          "host/path",
                          "-host",
                          "tok en@host",
                          "rdma://",
                          "rdma://hecaton://host",
                          "RDMA://host",
                          "rdma:host"}) {
    EXPECT_FALSE(parse_node_url(bad).ok()) << bad;
  }
}

TEST(NodeUrl, KnowsLoopback) {
  for (const char* here : {"127.0.0.1", "127.8.9.1:5", "localhost", "[::1]"}) {
    EXPECT_TRUE(parse_node_url(here).value().is_loopback()) << here;
  }
  for (const char* away : {"10.0.0.1", "donor", "[fe80::1]", "128.0.0.1"}) {
    EXPECT_FALSE(parse_node_url(away).value().is_loopback()) << away;
  }
}

TEST(NodesFile, SkipsCommentsAndNamesEachBadLine) {
  std::vector<NodesFileProblem> problems;
  auto nodes = parse_nodes_file("# two donors\n\n 127.0.0.1:1  # first\r\nb:0\n127.0.0.1:2\n127.0.0.1:1\n", &problems);
  ASSERT_EQ(nodes.size(), 2u);
  EXPECT_EQ(nodes[1].port, 2);
  ASSERT_EQ(problems.size(), 2u);
  EXPECT_EQ(problems[0].line, 4u);
  EXPECT_EQ(problems[0].text, "b:0");
  EXPECT_EQ(problems[1].line, 6u);
}

TEST(NodesFile, TakesAByteOrderMarkAndForeignLineEnds) {
  std::vector<NodesFileProblem> problems;
  auto nodes = parse_nodes_file(
      "\xef\xbb\xbf"
      "127.0.0.1:1\r\n127.0.0.1:2\r\n",
      &problems);
  EXPECT_EQ(nodes.size(), 2u);
  EXPECT_TRUE(problems.empty());
}

}  // namespace
}  // namespace hecaton
