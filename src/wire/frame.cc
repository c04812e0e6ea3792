#include "wire/frame.h"

#include <algorithm>
#include <utility>

#include "wire/codec.h"

namespace hecaton::wire {
namespace {

Error malformed(const char* what) {
  return Error{ErrorCode::kProtocol, 0, what};
}

bool known(Operation operation) {
  return operation >= Operation::kHello && operation <= Operation::kReserve;
}

bool known(Status status) {
  return status >= Status::kRequest && status <= Status::kResources;
}

}  // namespace

const char* name_of(Status status) {
  switch (status) {
    case Status::kRequest:
      return "request";
    case Status::kOk:
      return "ok";
    case Status::kMalformed:
      return "malformed frame";
    case Status::kVersion:
      return "no protocol version in common";
    case Status::kRefused:
      return "refused";
    case Status::kFull:
      return "full";
    case Status::kBusy:
      return "busy";
    case Status::kNoRegion:
      return "no such region";
    case Status::kOutOfRange:
      return "page out of range";
    case Status::kResources:
      return "out of memory";
  }
  return "unknown status";
}

void encode_header(const FrameHeader& header, std::byte* out) {
  Writer writer(std::span(out, kHeaderBytes));
  writer.put<uint32_t>(kMagic);
  writer.put<uint8_t>(kProtocolVersion);
  writer.put<uint8_t>(static_cast<uint8_t>(header.operation));
  writer.put<uint16_t>(static_cast<uint16_t>(header.status));
  writer.put<uint32_t>(header.body_bytes);
  writer.put<uint32_t>(header.region);
  writer.put<uint64_t>(header.request_id);
}

Result<FrameHeader> decode_header(std::span<const std::byte, kHeaderBytes> bytes) {
  Reader reader(bytes);
  if (reader.get<uint32_t>() != kMagic) return malformed("not a hecaton frame (wrong magic)");
  if (reader.get<uint8_t>() != kProtocolVersion)
    return Error{ErrorCode::kUnsupported, 0, "it speaks another version of the protocol"};
  FrameHeader header;
  header.operation = static_cast<Operation>(reader.get<uint8_t>());
  header.status = static_cast<Status>(reader.get<uint16_t>());
  header.body_bytes = reader.get<uint32_t>();
  header.region = reader.get<uint32_t>();
  header.request_id = reader.get<uint64_t>();
  if (!known(header.operation)) return malformed("unknown operation");
  if (!known(header.status)) return malformed("unknown status");
  if (header.body_bytes > kMaxBodyBytes) return malformed("impossible frame length");
  return header;
}

std::vector<std::byte> encode(const Hello& hello) {
  Growing out;
  out.put<uint16_t>(hello.min_version);
  out.put<uint16_t>(hello.max_version);
  out.put<uint32_t>(static_cast<uint32_t>(hello.role));
  out.put<uint64_t>(hello.client_instance);
  out.text(hello.software, kMaxNameBytes);
  return out.take();
}

Result<Hello> decode_hello(std::span<const std::byte> body) {
  Reader reader(body);
  Hello hello;
  hello.min_version = reader.get<uint16_t>();
  hello.max_version = reader.get<uint16_t>();
  hello.role = static_cast<Role>(reader.get<uint32_t>());
  hello.client_instance = reader.get<uint64_t>();
  hello.software = reader.text(kMaxNameBytes);
  if (!reader.finished()) return malformed("hello has the wrong length");
  if (hello.role < Role::kDemand || hello.role > Role::kControl) return malformed("hello names an unknown role");
  if (hello.client_instance == 0) return malformed("hello without an instance");
  return hello;
}

std::vector<std::byte> encode(const HelloReply& reply) {
  Growing out;
  out.put<uint16_t>(reply.version);
  out.put<uint16_t>(0);
  out.put<uint32_t>(0);
  out.put<uint64_t>(reply.donor_instance);
  out.put<uint64_t>(reply.lends_bytes);
  out.put<uint64_t>(reply.free_bytes);
  out.text(reply.software, kMaxNameBytes);
  return out.take();
}

Result<HelloReply> decode_hello_reply(std::span<const std::byte> body) {
  Reader reader(body);
  HelloReply reply;
  reply.version = reader.get<uint16_t>();
  reader.get<uint16_t>();
  reader.get<uint32_t>();
  reply.donor_instance = reader.get<uint64_t>();
  reply.lends_bytes = reader.get<uint64_t>();
  reply.free_bytes = reader.get<uint64_t>();
  reply.software = reader.text(kMaxNameBytes);
  if (!reader.finished()) return malformed("hello reply has the wrong length");
  if (reply.donor_instance == 0) return malformed("hello reply without an instance");
  return reply;
}

std::vector<std::byte> encode(const OpenRegion& open) {
  Growing out;
  out.put<uint64_t>(open.region_bytes);
  out.put<uint64_t>(open.reserve_bytes);
  out.put<uint64_t>(open.epoch);
  out.bytes(open.secret);
  out.text(open.name, kMaxNameBytes);
  return out.take();
}

Result<OpenRegion> decode_open_region(std::span<const std::byte> body) {
  Reader reader(body);
  OpenRegion open;
  open.region_bytes = reader.get<uint64_t>();
  open.reserve_bytes = reader.get<uint64_t>();
  open.epoch = reader.get<uint64_t>();
  reader.bytes(open.secret);
  open.name = reader.text(kMaxNameBytes);
  if (!reader.finished()) return malformed("open region has the wrong length");
  if (open.region_bytes == 0 || open.region_bytes % kPageBytes != 0 || open.region_bytes > kMaxRegionBytes) {
    return malformed("open region names an impossible size");
  }
  if (open.epoch == 0) return malformed("open region without an epoch");
  if (open.name.empty()) return malformed("open region without a name");
  return open;
}

std::vector<std::byte> encode(const OpenReply& reply) {
  Growing out;
  out.put<uint64_t>(reply.region_id);
  return out.take();
}

Result<OpenReply> decode_open_reply(std::span<const std::byte> body) {
  Reader reader(body);
  OpenReply reply;
  reply.region_id = reader.get<uint64_t>();
  if (!reader.finished()) return malformed("open reply has the wrong length");
  return reply;
}

std::vector<std::byte> encode(const StatReply& reply) {
  Growing out;
  for (uint64_t value : {reply.donor_instance, reply.lends_bytes, reply.used_bytes, reply.reserved_bytes, reply.regions,
                         reply.connections, reply.lingering_regions, reply.lingering_bytes, reply.lingering_ms}) {
    out.put<uint64_t>(value);
  }
  return out.take();
}

Result<StatReply> decode_stat_reply(std::span<const std::byte> body) {
  Reader reader(body);
  StatReply reply;
  for (uint64_t* value :
       {&reply.donor_instance, &reply.lends_bytes, &reply.used_bytes, &reply.reserved_bytes, &reply.regions,
        &reply.connections, &reply.lingering_regions, &reply.lingering_bytes, &reply.lingering_ms}) {
    *value = reader.get<uint64_t>();
  }
  if (!reader.finished()) return malformed("stat reply has the wrong length");
  return reply;
}

void encode_read_request(std::span<const PageNumber> pages, std::byte* out) {
  Writer writer(std::span(out, read_request_bytes(pages.size())));
  writer.put<uint32_t>(static_cast<uint32_t>(pages.size()));
  writer.put<uint32_t>(0);
  for (PageNumber page : pages) writer.put<uint64_t>(page.value);
}

Result<PageListView> PageListView::decode(std::span<const std::byte> body) {
  Reader reader(body);
  uint32_t count = reader.get<uint32_t>();
  reader.get<uint32_t>();
  if (count > kMaxPagesPerFrame || body.size() != read_request_bytes(count)) {
    return malformed("page list has the wrong length");
  }
  return PageListView(body.data() + 8, count);
}

PageNumber PageListView::operator[](size_t i) const {
  return PageNumber(Reader(std::span(first_ + 8 * i, 8)).get<uint64_t>());
}

void encode_page_set_count(size_t pages, std::byte* head) {
  Writer writer(std::span(head, page_set_head_bytes(0)));
  writer.put<uint32_t>(static_cast<uint32_t>(pages));
  writer.put<uint32_t>(0);
}

void encode_page_set_entry(const PageEntry& entry, size_t i, std::byte* head) {
  Writer writer(std::span(head + page_set_head_bytes(i), kPageEntryBytes));
  writer.put<uint64_t>(entry.page.value);
  writer.put<uint64_t>(entry.checksum);
  writer.put<uint32_t>(entry.version);
  writer.put<uint16_t>(static_cast<uint16_t>(entry.state));
  writer.put<uint16_t>(entry.state == PageState::kPresent ? entry.stored_bytes : 0);
}

void encode_page_set_head(std::span<const PageEntry> entries, std::byte* out) {
  encode_page_set_count(entries.size(), out);
  for (size_t i = 0; i < entries.size(); ++i) encode_page_set_entry(entries[i], i, out);
}

Result<PageSetView> PageSetView::decode(std::span<const std::byte> body) {
  Reader reader(body);
  uint32_t count = reader.get<uint32_t>();
  reader.get<uint32_t>();
  if (count > kMaxPagesPerFrame || body.size() < page_set_head_bytes(count)) {
    return malformed("page set has the wrong length");
  }
  const std::byte* pages = body.data() + page_set_head_bytes(count);
  PageSetView view(body.data() + 8, count, pages);
  for (size_t i = 0; i < count; ++i) {
    const PageEntry entry = view.entry(i);
    const bool present = entry.state == PageState::kPresent;
    if (!present && entry.state != PageState::kAbsent) return malformed("page in an unknown state");
    if ((entry.stored_bytes > 0) != present || entry.stored_bytes > kPageBytes) {
      return malformed("page of an impossible length");
    }
    view.present_ += present;
    view.bytes_ += entry.stored_bytes;
  }
  if (body.size() != page_set_head_bytes(count) + view.bytes_) {
    return malformed("page set has the wrong length");
  }
  return view;
}

PageEntry PageSetView::entry(size_t i) const {
  Reader reader(std::span(head_ + kPageEntryBytes * i, kPageEntryBytes));
  PageEntry entry;
  entry.page = PageNumber(reader.get<uint64_t>());
  entry.checksum = reader.get<uint64_t>();
  entry.version = reader.get<uint32_t>();
  entry.state = static_cast<PageState>(reader.get<uint16_t>());
  entry.stored_bytes = reader.get<uint16_t>();
  return entry;
}

std::span<const std::byte> PageSetView::stored(size_t i) const {
  const std::byte* bytes = pages_;
  for (size_t before = 0; before < i; ++before) bytes += entry(before).stored_bytes;
  return {bytes, entry(i).stored_bytes};
}

std::optional<PageSetCursor::Page> PageSetCursor::next() {
  if (next_ == set_.size()) return std::nullopt;
  const PageEntry entry = set_.entry(next_++);
  const std::byte* bytes = std::exchange(bytes_, bytes_ + entry.stored_bytes);
  return Page{entry, {bytes, entry.stored_bytes}};
}

std::vector<std::byte> encode_write_reply(std::span<const PageNumber> rejected) {
  std::vector<std::byte> body(read_request_bytes(rejected.size()));
  encode_read_request(rejected, body.data());
  return body;
}

std::array<std::byte, kReserveBytes> encode_reserve(uint64_t reserve_bytes) {
  std::array<std::byte, kReserveBytes> body;
  Writer(body).put<uint64_t>(reserve_bytes);
  return body;
}

Result<uint64_t> decode_reserve(std::span<const std::byte> body) {
  Reader reader(body);
  uint64_t reserve_bytes = reader.get<uint64_t>();
  if (!reader.finished()) return malformed("reserve has the wrong length");
  return reserve_bytes;
}

std::vector<std::byte> encode_discard(std::span<const PageRun> runs) {
  Growing out;
  out.put<uint32_t>(static_cast<uint32_t>(runs.size()));
  out.put<uint32_t>(0);
  for (const PageRun& run : runs) {
    out.put<uint64_t>(run.first.value);
    out.put<uint64_t>(run.count);
  }
  return out.take();
}

Result<std::vector<PageRun>> decode_discard(std::span<const std::byte> body) {
  Reader reader(body);
  uint32_t count = reader.get<uint32_t>();
  reader.get<uint32_t>();
  if (count > kMaxDiscardRuns || body.size() != 8 + size_t{16} * count)
    return malformed("discard has the wrong length");
  std::vector<PageRun> runs;
  for (uint32_t i = 0; i < count; ++i) {
    uint64_t first = reader.get<uint64_t>();
    uint64_t pages = reader.get<uint64_t>();
    if (pages == 0 || first > UINT64_MAX - pages) return malformed("discard of an impossible range");
    runs.push_back(PageRun{PageNumber(first), pages});
  }
  return runs;
}

std::string decode_text(std::span<const std::byte> body) {
  std::string text;
  for (std::byte b : body.first(std::min(body.size(), kMaxTextBytes))) {
    char c = static_cast<char>(b);
    text += c >= 0x20 && c < 0x7f ? c : '?';
  }
  return text;
}

}  // namespace hecaton::wire
