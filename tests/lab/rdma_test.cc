// What no fake device can show: real connections, keys that are refused, what happens to those who try. Needs an RDMA
// device, so tests/lab/rdma runs it; HECATON_RDMA_ADDRESS is the address of its interface.
#include "transport/rdma.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "donor/host_for_tests.h"
#include "donor/server.h"
#include "transport/rdma_stream.h"

namespace hecaton::donor {
namespace {

using testing::HasSubstr;
using wire::Operation;
using wire::Status;

class RdmaTest : public testing::Test {
 protected:
  static NodeUrl address(uint16_t port) { return {.token = {}, .host = getenv("HECATON_RDMA_ADDRESS"), .port = port}; }
  RdmaTest() {
    DonorConfig config;
    config.lends_bytes = 64_MiB;
    config.listen = address(0);
    config.rdma = RdmaUse::kRequired;
    config.threads = 1;
    Result<std::unique_ptr<DonorServer>> server = DonorServer::start(config);
    EXPECT_TRUE(server.ok()) << server.error().describe();
    donor = std::move(server).value();
  }
  std::unique_ptr<Stream> connect() {
    return connect_rdma(address(donor->address().port), Deadline::after_ms(kPatienceMs)).value();
  }

  std::unique_ptr<DonorServer> donor;
};

// A host whose stream the test can get at, with a region of its own, and memory to read into.
struct Reader {
  Reader(std::unique_ptr<Stream> connected, const std::string& vm, uint64_t instance)
      : stream(static_cast<RdmaStream*>(connected.get())), host(std::move(connected)) {
    host.open(vm, instance);
    local = stream->local_memory(2 * kPageBytes).value();
  }
  wire::ExtentKeys map(uint64_t extent) {
    Reply reply = host.ask(frame(Operation::kMapExtent, wire::encode_map_extent(ExtentNumber(extent)), 1));
    EXPECT_EQ(reply.status(), Status::kOk) << reply.text();
    return wire::decode_extent_keys(reply.body).value();
  }
  // Whether the page came; false: the connection broke over it.
  bool read(PageNumber page, const wire::ExtentKeys& keys) {
    const DirectReader::Piece piece{wire::page_address(page), keys.pages_key, local.data(), kPageBytes};
    EXPECT_TRUE(stream->read(1, std::span(&piece, 1)));
    return ends([&] { return stream->next_done().has_value(); });
  }
  // Looks at the stream until `good` or until it is closed.
  template <typename Good>
  bool ends(Good good) {
    std::byte none[1];
    Deadline by = Deadline::after_ms(kPatienceMs);
    while (!by.passed()) {
      if (stream->receive(none).kind == IoResult::Kind::kClosed) return false;
      if (good()) return true;
    }
    ADD_FAILURE() << "neither done nor closed";
    return false;
  }
  bool holds(PageNumber page, uint32_t version) const {
    return std::memcmp(local.data(), content_of(page, version).data(), kPageBytes) == 0;
  }

  RdmaStream* stream;
  Host host;
  std::span<std::byte> local;
};

TEST_F(RdmaTest, APageIsReadWithoutTheDonorAsItWasWritten) {
  Reader reader(connect(), "vm", 7);
  reader.host.ask(write_frame(1, pages_from(300, 2), 5));
  wire::ExtentKeys keys = reader.map(1);
  EXPECT_TRUE(reader.read(PageNumber(301), keys));
  EXPECT_TRUE(reader.holds(PageNumber(301), 5));
  reader.host.ask(write_frame(1, pages_from(301, 1), 6));
  EXPECT_TRUE(reader.read(PageNumber(301), keys));
  EXPECT_TRUE(reader.holds(PageNumber(301), 6));
}

TEST_F(RdmaTest, AnotherVmsKeysBreakTheConnectionOfWhoTriesThemAndNobodyElses) {
  Reader owner(connect(), "vm", 7), thief(connect(), "other", 8);
  owner.host.ask(write_frame(1, pages_from(0, 1), 1));
  wire::ExtentKeys keys = owner.map(0);
  thief.map(0);
  EXPECT_FALSE(thief.read(PageNumber(0), keys));
  EXPECT_FALSE(thief.holds(PageNumber(0), 1));
  EXPECT_TRUE(owner.read(PageNumber(0), keys));
  EXPECT_TRUE(owner.holds(PageNumber(0), 1));
}

TEST_F(RdmaTest, AKeyIsGoodForItsOwnExtentOnly) {
  Reader reader(connect(), "vm", 7);
  wire::ExtentKeys keys = reader.map(0);
  reader.map(1);
  EXPECT_FALSE(reader.read(PageNumber(kPagesPerExtent), keys));
}

TEST_F(RdmaTest, AKeyIsNotGoodForWriting) {
  Reader writer(connect(), "vm", 7), other(connect(), "vm", 7);
  writer.host.ask(write_frame(1, pages_from(0, 1), 1));
  wire::ExtentKeys keys = writer.map(0);
  std::memset(writer.local.data(), 0x5a, kPageBytes);
  // A registration of the test's own, in the stream's domain: the stream has no write of this kind.
  ibv_qp* queue_pair = writer.stream->id()->qp;
  RdmaMemory source = RdmaMemory::create(queue_pair->pd, kPageBytes, 0).value();
  ibv_sge bytes{reinterpret_cast<uint64_t>(source.data()), kPageBytes, source.registration->lkey};
  ibv_send_wr request{}, *refused = nullptr;
  request.wr_id = uint64_t{2} << 32;  // as a note's, which nobody waits for
  request.sg_list = &bytes;
  request.num_sge = 1;
  request.opcode = IBV_WR_RDMA_WRITE;
  request.send_flags = IBV_SEND_SIGNALED;
  request.wr.rdma = {0, keys.pages_key};
  ASSERT_EQ(ibv_post_send(queue_pair, &request, &refused), 0);
  EXPECT_FALSE(writer.ends([] { return false; }));
  EXPECT_TRUE(holds_true_pages(other.host.ask(read_frame(1, pages_from(0, 1)))));
}

TEST_F(RdmaTest, RepliesThatNobodyTakesYetWaitAndComeWhole) {
  Reader reader(connect(), "vm", 7);
  reader.host.ask(write_frame(1, pages_from(0, 256), 1));
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(reader.host.say(read_frame(1, pages_from(0, 256))).ok());
  for (int i = 0; i < 40; ++i) {
    Result<Reply> reply = reader.host.reply();
    ASSERT_TRUE(reply.ok()) << i;
    EXPECT_TRUE(holds_true_pages(*reply)) << i;
  }
}

TEST_F(RdmaTest, TheLastWordsOfADonorArriveBeforeItHangsUp) {
  for (int i = 0; i < 20; ++i) {
    Host host(connect());
    Reply reply = host.ask(Bytes(200, std::byte{'x'}));
    EXPECT_EQ(reply.status(), Status::kMalformed);
    EXPECT_THAT(reply.text(), HasSubstr("this is a hecaton donor"));
    EXPECT_TRUE(host.is_closed());
  }
}

TEST_F(RdmaTest, WhoGoesLeavesNothingBehind) {
  {
    Reader reader(connect(), "vm", 7);
    reader.map(0);
    EXPECT_EQ(donor->stats().used_bytes, kExtentBytes);
  }
  eventually([&] { return donor->stats().regions == 0 && donor->stats().connections == 0; });
  EXPECT_EQ(donor->stats().used_bytes, 0u);
}

TEST_F(RdmaTest, ADonorThatStopsEndsItsConnections) {
  Reader reader(connect(), "vm", 7);
  reader.map(0);
  donor->stop();
  EXPECT_FALSE(reader.ends([] { return false; }));
}

}  // namespace
}  // namespace hecaton::donor
