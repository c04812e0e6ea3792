#include "donor/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "donor/host_for_tests.h"

namespace hecaton {
namespace {

using namespace donor;
using wire::Operation;
using wire::Status;

std::unique_ptr<DonorServer> start_server(DonorConfig config = {}) {
  if (config.lends_bytes == 0) config.lends_bytes = 64_MiB;
  if (config.threads == 0) config.threads = 2;
  return DonorServer::start(config).value();
}

constexpr const char* kToken = "a-token-for-the-tests-of-the-donor";

Result<std::unique_ptr<Stream>> try_tls_to(const DonorServer& server) {
  NodeUrl url = server.address();
  url.token = kToken;
  return connect_to(url, Credentials(), Deadline::after_ms(kPatienceMs));
}

std::unique_ptr<Stream> tls_to(const DonorServer& server) {
  return try_tls_to(server).value();
}

// A host that has said hello before its time was up, which is short in these tests: on a busy machine not the first.
template <typename Connect>
Host known_host(Connect connect) {
  for (;;) {
    Result<std::unique_ptr<Stream>> stream = connect();
    if (!stream.ok()) continue;
    Host host(std::move(stream).value());
    if (!host.say(hello_frame()).ok() || !host.reply().ok()) continue;
    EXPECT_EQ(host.ask(open_frame(region_named("vm", 64_MiB, 8_MiB))).status(), Status::kOk);
    return host;
  }
}

TEST(DonorServer, ServesSeveralConnectionsOfOneVm) {
  auto server = start_server();
  Host writer(server->address()), reader(server->address());
  writer.open("vm");
  reader.open("vm");
  EXPECT_EQ(writer.ask(write_frame(1, pages_from(0, 256), 1)).status(), Status::kOk);
  Reply read = reader.ask(read_frame(1, pages_from(0, 256)));
  EXPECT_EQ(wire::PageSetView::decode(read.body)->present(), 256u);
  EXPECT_TRUE(holds_true_pages(read));
  EXPECT_EQ(server->stats().used_bytes, 1_MiB);
  EXPECT_EQ(server->stats().threads, 2u);
}

TEST(DonorServer, ServesAConnectionMadeInProcess) {
  auto server = start_server();
  auto [ours, theirs] = in_process_pair().value();
  server->serve(std::move(theirs));
  Host host(std::move(ours));
  host.open("vm");
  EXPECT_EQ(server->stats().regions, 1u);
}

TEST(DonorServer, ARegionIsGoneWithItsLastConnection) {
  auto server = start_server();
  {
    Host host(server->address());
    host.open("vm");
    host.ask(write_frame(1, pages_from(0, 10), 1));
  }
  eventually([&] { return server->stats().connections == 0; });
  EXPECT_EQ(server->stats().regions, 0u);
  EXPECT_EQ(server->stats().reserved_bytes, 0u);
}

TEST(DonorServer, AMalformedFrameIsAnsweredEvenWithMuchInputUnread) {
  auto server = start_server();
  Host host(server->address());
  Bytes garbage(3'000'000, std::byte{0x41});
  ASSERT_TRUE(host.say(Bytes(garbage.begin(), garbage.begin() + 100)).ok());
  (void)host.say(garbage).ok();  // may find the donor gone
  Result<Reply> reply = host.reply();
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply->status(), Status::kMalformed);
}

TEST(DonorServer, APeerThatOwesBytesIsClosedWhenItsTimeIsUp) {
  auto server = start_server({.frame_limit_ms = 40});
  Host silent(server->address()), partial(server->address());
  auto connect = [&] { return connect_tcp(server->address(), Deadline::after_ms(kPatienceMs)); };
  Host good = known_host(connect), stopped = known_host(connect);
  Bytes frame = read_frame(1, {PageNumber(0)});
  ASSERT_TRUE(stopped.say(Bytes(frame.begin(), frame.end() - 1)).ok());
  ASSERT_TRUE(partial.say(Bytes(frame.begin(), frame.begin() + 5)).ok());
  EXPECT_TRUE(silent.is_closed());
  EXPECT_TRUE(partial.is_closed());
  // The pager of a running VM may have been stopped in the middle of a frame: it goes on where it was.
  ASSERT_TRUE(stopped.say(Bytes(frame.end() - 1, frame.end())).ok());
  Result<Reply> late = stopped.reply();
  ASSERT_TRUE(late.ok());
  EXPECT_EQ(late->status(), Status::kOk);
  EXPECT_EQ(good.ask(read_frame(1, {PageNumber(0)})).status(), Status::kOk);  // idle between frames is no offence
}

TEST(DonorServer, WhoDoesNotFinishTheTlsHandshakeInTimeIsClosed) {
  auto server = start_server({.frame_limit_ms = 40, .tls = TlsContext::donor_with_token(kToken).value()});
  Host silent(server->address()), partial(server->address());
  Host good = known_host([&] { return try_tls_to(*server); });
  ASSERT_TRUE(partial.say(Bytes{std::byte{22}, std::byte{3}, std::byte{1}, std::byte{1}}).ok());
  EXPECT_TRUE(silent.is_closed());
  EXPECT_TRUE(partial.is_closed());
  EXPECT_EQ(good.ask(read_frame(1, {PageNumber(0)})).status(), Status::kOk);
}

TEST(DonorServer, OfThoseWhoNeverSaidHelloTheOldestGoesForTheNext) {
  for (bool tls : {false, true}) {
    DonorConfig config{.threads = 1, .max_strangers = 3};
    if (tls) config.tls = TlsContext::donor_with_token(kToken).value();
    auto server = start_server(config);
    auto known = tls ? Host(tls_to(*server)) : Host(server->address());
    known.open("vm");
    std::vector<std::unique_ptr<Host>> strangers;
    for (int i = 0; i < 5; ++i) strangers.push_back(std::make_unique<Host>(server->address()));
    EXPECT_TRUE(strangers[0]->is_closed());
    EXPECT_TRUE(strangers[1]->is_closed());
    eventually([&] { return server->stats().connections == 4; });
    auto next = tls ? Host(tls_to(*server)) : Host(server->address());
    next.open("other");
    EXPECT_EQ(known.ask(read_frame(1, {PageNumber(0)})).status(), Status::kOk);
  }
}

// A donor that waits for its replies to be taken reads nothing. What came meanwhile is then read in one piece of 64 KiB
// and a bit, of which the bit is decrypted and left: no event tells of it.
TEST(DonorServer, RequestsThatCameTogetherAreAllAnsweredOverTls) {
  auto server = start_server({.threads = 1, .tls = TlsContext::donor_with_token(kToken).value()});
  Host host(tls_to(*server));
  host.open("vm");
  EXPECT_EQ(host.ask(write_frame(1, pages_from(0, 256), 1)).status(), Status::kOk);
  for (uint64_t id = 1; id <= 24; ++id) ASSERT_TRUE(host.say(read_frame(1, pages_from(0, 256), id)).ok());
  Bytes all;
  uint64_t last = 24;
  while (all.size() <= 65536) all = std::move(all) + read_frame(1, pages_from(0, 50), ++last);
  ASSERT_TRUE(host.say(all).ok());
  for (uint64_t id = 1; id <= last; ++id) {
    Result<Reply> reply = host.reply();
    ASSERT_TRUE(reply.ok()) << id;
    ASSERT_EQ(reply->header.request_id, id);
    ASSERT_TRUE(holds_true_pages(*reply));
  }
}

TEST(DonorServer, AHostThatDoesNotReadIsNotReadFromAndOthersAreServed) {
  auto server = start_server({.threads = 1});
  Host slow(server->address()), other(server->address());
  slow.open("vm");
  other.open("vm");
  other.ask(write_frame(1, pages_from(0, 256), 1));
  Bytes request = read_frame(1, pages_from(0, 256));
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(slow.say(request).ok());  // 40 MiB of replies, more than sockets hold
  for (uint32_t version = 2; version < 6; ++version) {
    EXPECT_EQ(other.ask(write_frame(1, pages_from(0, 256), version)).status(), Status::kOk);
  }
  for (int i = 0; i < 40; ++i) {
    Result<Reply> reply = slow.reply();
    ASSERT_TRUE(reply.ok());
    EXPECT_TRUE(holds_true_pages(*reply));
  }
}

TEST(DonorServer, StopSendsTheRepliesInFlightAndFreesRegions) {
  auto server = start_server();
  Host host(server->address()), idle(server->address());
  host.open("vm");
  idle.open("other");
  host.ask(write_frame(1, pages_from(0, 256), 1));
  for (int i = 0; i < 16; ++i) ASSERT_TRUE(host.say(read_frame(1, pages_from(0, 256))).ok());
  Reply first = host.reply().value();  // some are on their way now
  std::thread stopper([&] { server->stop(); });
  int more = 0;
  for (Result<Reply> reply = host.reply(); reply.ok(); reply = host.reply()) {
    EXPECT_TRUE(holds_true_pages(*reply));  // those that come are whole
    ++more;
  }
  EXPECT_TRUE(idle.is_closed());
  stopper.join();
  EXPECT_EQ(server->stats().regions, 0u);
  EXPECT_EQ(server->stats().connections, 0u);
  EXPECT_FALSE(connect_tcp(server->address(), Deadline::after_ms(kPatienceMs)).ok());
}

TEST(DonorServer, StopDoesNotWaitForAHostThatNeverReads) {
  auto server = start_server({.stop_limit_ms = 20});
  Host host(server->address());
  host.open("vm");
  host.ask(write_frame(1, pages_from(0, 256), 1));
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(host.say(read_frame(1, pages_from(0, 256))).ok());
  server->stop();
  EXPECT_EQ(server->stats().regions, 0u);
}

TEST(DonorServer, SeveralDonorsKeepTheirIdentitiesAndRegionsApart) {
  auto server = start_server({.donors = 3});
  Host first(server->address(0)), second(server->address(1)), stranger(server->address(1)), third(server->address(2));
  first.open("vm");
  second.open("vm");
  first.ask(write_frame(1, pages_from(0, 10), 1));
  Reply other = second.ask(read_frame(1, {PageNumber(0)}));
  EXPECT_EQ(wire::PageSetView::decode(other.body)->present(), 0u);
  const auto identity = [](Host& host) {
    return wire::decode_hello_reply(host.ask(hello_frame(7)).body)->donor_instance;
  };
  EXPECT_NE(identity(stranger), identity(third));
  EXPECT_EQ(server->stats().lends_bytes, 3 * 64_MiB);
  EXPECT_EQ(server->stats().regions, 2u);
  EXPECT_EQ(server->stats().used_bytes, 10 * kPageBytes);
  EXPECT_EQ(server->stats().connections, 4u);
}

TEST(DonorServer, SeveralDonorsCannotListenOnOnePort) {
  auto taken = start_server();
  EXPECT_FALSE(DonorServer::start({.lends_bytes = 1_MiB, .donors = 2, .listen = taken->address()}).ok());
  EXPECT_FALSE(DonorServer::start({.lends_bytes = 1_MiB, .donors = 0}).ok());
}

TEST(DonorServer, NothingToLendIsAnError) {
  auto server = DonorServer::start({.lends_bytes = 4095});
  ASSERT_FALSE(server.ok());
  EXPECT_EQ(server.error().code, ErrorCode::kInvalidArgument);
}

TEST(DonorServer, ATakenPortIsAnErrorWithItsErrno) {
  auto server = start_server();
  auto second = DonorServer::start({.lends_bytes = 1_MiB, .listen = server->address()});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().os_error, EADDRINUSE);
}

// Many connections hammer one region; every page read is whole and of a version that was written.
TEST(DonorServer, ParallelConnectionsOnOneRegionNeverSeeATornPage) {
  auto server = start_server({.threads = 3});
  std::atomic<int> wrong{0};
  auto work = [&](unsigned seed) {
    std::mt19937 random(seed);
    Host host(server->address());
    host.open("vm");
    for (uint32_t round = 1; round <= 150; ++round) {
      uint64_t first = random() % 500;
      std::vector<PageNumber> pages = pages_from(first, 1 + random() % 64);
      if (host.ask(write_frame(1, pages, round * 8 + seed)).status() != Status::kOk) ++wrong;
      if (!holds_true_pages(host.ask(read_frame(1, pages_from(random() % 500, 64))))) ++wrong;
      if (round % 10 == 0) host.ask(discard_frame(1, {{PageNumber(first), 30}}));
    }
  };
  std::vector<std::thread> threads;
  for (unsigned seed = 1; seed <= 4; ++seed) threads.emplace_back(work, seed);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(DonorServer, ALingeringRegionIsTakenUpAgainByItsClient) {
  auto server = start_server({.grace_ms = kPatienceMs});
  {
    Host host(server->address());
    host.open("vm");
    host.ask(write_frame(1, pages_from(0, 10), 1));
  }
  eventually([&] { return server->stats().lingering_regions == 1; });
  Host next(server->address());
  next.open("vm");
  EXPECT_EQ(server->stats().lingering_regions, 0u);
  EXPECT_TRUE(holds_true_pages(next.ask(read_frame(1, pages_from(0, 10)))));
  EXPECT_EQ(server->stats().used_bytes, 10 * kPageBytes);
}

TEST(DonorServer, ALingeringRegionIsFreedByItselfWhenItsGraceIsOver) {
  auto server = start_server({.donors = 3, .grace_ms = 20});
  for (size_t donor : {0u, 2u}) Host(server->address(donor)).open("vm");
  eventually([&] { return server->stats().regions == 0; });
  EXPECT_EQ(server->stats().reserved_bytes, 0u);
}

TEST(DonorServer, StopFreesWhatLingers) {
  auto server = start_server({.grace_ms = kPatienceMs});
  Host(server->address()).open("vm");
  eventually([&] { return server->stats().lingering_regions == 1; });
  server->stop();
  EXPECT_EQ(server->stats().regions, 0u);
}

}  // namespace
}  // namespace hecaton
