#include "lying_donor.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace hecaton {
namespace {

Deadline soon() {
  return Deadline::after_ms(10'000);
}

}  // namespace

std::optional<LyingDonor::Lie> LyingDonor::lie_named(std::string_view name) {
  if (name == "none") return Lie::kNone;
  if (name == "older") return Lie::kOlderBytes;
  if (name == "flipped") return Lie::kBitFlipped;
  if (name == "another") return Lie::kAnotherPage;
  return std::nullopt;
}

Result<std::unique_ptr<LyingDonor>> LyingDonor::start(const NodeUrl& listen, const NodeUrl& honest) {
  std::unique_ptr<LyingDonor> donor(
      new LyingDonor(HEC_TRY(TcpListener::listen(listen)), honest, HEC_TRY(WakeFlag::create())));
  donor->thread_ = std::thread([&liar = *donor] { liar.run(); });
  return donor;
}

LyingDonor::~LyingDonor() {
  stop_.store(true);
  wake_.raise();
  thread_.join();
}

void LyingDonor::run() {
  while (!stop_.load()) {
    std::vector<pollfd> waiting{{wake_.fd(), POLLIN, 0}, {listener_.fd(), POLLIN, 0}};
    for (const Link& link : links_) {
      waiting.push_back({link.host->fd(), POLLIN, 0});
      waiting.push_back({link.donor->fd(), POLLIN, 0});
    }
    poll(waiting.data(), waiting.size(), -1);
    std::erase_if(links_, [&](Link& link) { return !relay(link); });
    if (waiting[1].revents != 0) accept();
  }
}

void LyingDonor::accept() {
  Result<std::unique_ptr<Stream>> host = listener_.accept();
  if (!host.ok() || !*host) return;
  Result<std::unique_ptr<Stream>> donor = connect_tcp(honest_, soon());
  if (donor.ok()) links_.push_back({std::move(host).value(), std::move(donor).value(), {}});
}

// False: the link has ended.
bool LyingDonor::relay(Link& link) {
  std::array<std::byte, 64 * 1024> piece;
  for (;;) {
    const IoResult got = link.host->receive(piece);
    if (got.kind == IoResult::Kind::kClosed) return false;
    if (got.kind == IoResult::Kind::kWouldBlock) break;
    if (!send_all(*link.donor, std::span(piece).first(got.bytes), soon()).ok()) return false;
  }
  for (;;) {
    const IoResult got = link.donor->receive(piece);
    if (got.kind == IoResult::Kind::kClosed) return false;
    if (got.kind == IoResult::Kind::kWouldBlock) break;
    link.from_donor.insert(link.from_donor.end(), piece.begin(), piece.begin() + static_cast<ptrdiff_t>(got.bytes));
  }
  return relay_frames(link);
}

bool LyingDonor::relay_frames(Link& link) {
  size_t done = 0;
  const std::span<const std::byte> waiting(link.from_donor);
  while (waiting.size() - done >= wire::kHeaderBytes) {
    const auto header = wire::decode_header(waiting.subspan(done).first<wire::kHeaderBytes>()).value();
    const size_t bytes = wire::kHeaderBytes + header.body_bytes;
    if (waiting.size() - done < bytes) break;
    const std::span<const std::byte> frame = waiting.subspan(done, bytes);
    const bool pages = header.operation == wire::Operation::kReadPages && header.status == wire::Status::kOk;
    const Bytes answer = pages ? told(header, frame.subspan(wire::kHeaderBytes)) : Bytes(frame.begin(), frame.end());
    if (!send_all(*link.host, answer, soon()).ok()) return false;
    done += bytes;
  }
  link.from_donor.erase(link.from_donor.begin(), link.from_donor.begin() + static_cast<ptrdiff_t>(done));
  return true;
}

// The read reply that the host gets.
LyingDonor::Bytes LyingDonor::told(const wire::FrameHeader& header, std::span<const std::byte> body) {
  const wire::PageSetView honest = wire::PageSetView::decode(body).value();
  std::vector<wire::PageEntry> entries;
  Bytes stored;
  wire::PageSetCursor pages(honest);
  while (auto page = pages.next()) {
    Bytes bytes(page->stored.begin(), page->stored.end());
    if (page->entry.state == wire::PageState::kPresent) change(page->entry, bytes);
    entries.push_back(page->entry);
    stored.insert(stored.end(), bytes.begin(), bytes.end());
  }
  Bytes answer(wire::kHeaderBytes + wire::page_set_head_bytes(entries.size()));
  wire::encode_page_set_head(entries, answer.data() + wire::kHeaderBytes);
  answer.insert(answer.end(), stored.begin(), stored.end());
  wire::FrameHeader told = header;
  told.body_bytes = static_cast<uint32_t>(answer.size() - wire::kHeaderBytes);
  wire::encode_header(told, answer.data());
  return answer;
}

void LyingDonor::change(wire::PageEntry& entry, Bytes& bytes) {
  const Bytes honest = bytes;
  const Bytes& first = first_.try_emplace(entry.page.value, honest).first->second;
  const Lie lie = lie_.load();
  if (lie != Lie::kNone && honest_pages_.load() > 0) {
    honest_pages_.fetch_sub(1);
  } else if (lie == Lie::kOlderBytes) {
    bytes = first;
  } else if (lie == Lie::kBitFlipped) {
    bytes[bytes.size() / 2] ^= std::byte{1};
  } else if (const Bytes* another = another_than(entry.page); lie == Lie::kAnotherPage && another) {
    bytes = *another;
  }
  remember(entry.page, honest);
  if (bytes == honest) return;
  entry.stored_bytes = static_cast<uint16_t>(bytes.size());
  entry.checksum = wire::page_checksum(bytes, entry.page, entry.version);
  lies_told_.fetch_add(1);
}

// Nothing: no other page has been read.
const LyingDonor::Bytes* LyingDonor::another_than(PageNumber page) const {
  const Read& read = last_.page == page ? before_ : last_;
  return read.bytes.empty() ? nullptr : &read.bytes;
}

void LyingDonor::remember(PageNumber page, Bytes bytes) {
  if (last_.page != page) before_ = std::move(last_);
  last_ = {page, std::move(bytes)};
}

}  // namespace hecaton
