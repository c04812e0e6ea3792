// The pager's end of a connection, with a donor that says anything: nothing asserts, a frame is handed over whole or
// not at all, and never one that is longer than what was asked for.
//
// The input is what the donor sends, in parts: one byte for how much comes at once, then so many bytes.
#include <algorithm>
#include <cstring>

#include "fuzz.h"
#include "store/donor_client.h"

using namespace hecaton;

namespace {

constexpr size_t kFrameBytes = wire::kHeaderBytes + wire::page_set_head_bytes(1) + kPageBytes;

class SayingStream final : public Stream {
 public:
  explicit SayingStream(std::span<const std::byte> says) : says_(says) {}
  IoResult receive(std::span<std::byte> into) override {
    HEC_CHECK(!into.empty());
    if (part_ == 0 && !says_.empty()) {
      part_ = 16 * (1 + std::to_integer<size_t>(says_.front()));
      says_ = says_.subspan(1);
    }
    const size_t bytes = std::min({part_, says_.size(), into.size()});
    if (bytes == 0) return {IoResult::Kind::kClosed, 0};
    std::memcpy(into.data(), says_.data(), bytes);
    says_ = says_.subspan(bytes);
    part_ -= bytes;
    return {IoResult::Kind::kBytes, bytes};
  }
  IoResult send(std::span<const iovec> pieces) override {
    size_t bytes = 0;
    for (const iovec& piece : pieces) bytes += piece.iov_len;
    return {IoResult::Kind::kBytes, bytes};
  }
  int fd() const override { return -1; }
  bool finish_sending() override { return true; }

 private:
  std::span<const std::byte> says_;
  size_t part_ = 0;
};

// As the threads of the pager read answers.
Result<void> take(const wire::FrameHeader& header, std::span<const std::byte> body) {
  HEC_CHECK(header.status != wire::Status::kRequest && body.size() == header.body_bytes);
  HEC_CHECK(wire::kHeaderBytes + body.size() <= kFrameBytes);
  if (header.status != wire::Status::kOk) {
    (void)wire::decode_text(body);
    return {};
  }
  if (header.operation == wire::Operation::kWritePages) HEC_TRY(wire::decode_write_reply(body));
  if (header.operation != wire::Operation::kReadPages) return {};
  wire::PageSetView pages = HEC_TRY(wire::PageSetView::decode(body));
  wire::PageSetCursor cursor(pages);
  while (auto page = cursor.next()) {
    if (page->entry.state != wire::PageState::kPresent) continue;
    (void)wire::page_checksum(page->stored, page->entry.page, page->entry.version);
  }
  return {};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static LinkBuffers buffers(kFrameBytes);
  const Deadline by = Deadline::after_ms(1000);
  std::string detail;
  Result<DonorClient> client = DonorClient::handshake(std::make_unique<SayingStream>(fuzz::bytes_of(data, size)),
                                                      wire::Role::kDemand, 1, buffers, by, &detail);
  if (!client.ok()) return 0;
  if (!client->open_region({kExtentBytes, kExtentBytes, {}, "vm"}, by, &detail).ok()) return 0;
  const PageNumber page(1);
  HEC_CHECK(client->send_read(1, std::span(&page, 1)).ok());
  while (client->receive(take).ok()) {
  }
  return 0;
}
