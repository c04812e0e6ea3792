#include "donor/requests.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/log.h"
#include "base/random.h"
#include "base/version.h"

namespace hecaton::donor {
namespace {

using wire::FrameHeader;
using wire::Operation;
using wire::Status;

Refusal malformed(const Error& error) {
  return {Status::kMalformed, error.context};
}

Refusal no_region(const FrameHeader& header) {
  return {Status::kNoRegion, fmt::format("this connection has no region {} open", header.region)};
}

Refusal out_of_range(PageNumber page, const Region& region) {
  return {Status::kOutOfRange,
          fmt::format("page {} is beyond the region's end: it has {} pages", page.value, region.pages())};
}

size_t longest_body(Operation operation) {
  switch (operation) {
    case Operation::kHello:
      return 18 + wire::kMaxNameBytes;
    case Operation::kOpenRegion:
      return 26 + wire::kSecretBytes + wire::kMaxNameBytes;
    case Operation::kReadPages:
      return wire::read_request_bytes(wire::kMaxPagesPerFrame);
    case Operation::kWritePages:
      return wire::kMaxBodyBytes;
    case Operation::kDiscard:
      return 8 + 16 * wire::kMaxDiscardRuns;
    case Operation::kStat:
      return 0;
    case Operation::kCloseRegion:
      return 0;
    case Operation::kMapExtent:
      return wire::kMapExtentBytes;
    case Operation::kReserve:
      return wire::kReserveBytes;
  }
  return 0;
}

iovec piece(const void* first, size_t bytes) {
  return {const_cast<void*>(first), bytes};
}

// The pieces of a read reply, none of them initialized before it is used, for most replies are of one page: headers,
// then the present pages from where they lie, neighbours as one piece.
class ReadReply {
 public:
  void add(const wire::PageEntry& entry, const std::byte* bytes) {
    wire::encode_page_set_entry(entry, count_++, head_.data() + wire::kHeaderBytes);
    if (entry.state != wire::PageState::kPresent) return;
    page_bytes_ += entry.stored_bytes;
    iovec& last = pieces_[used_ - 1];
    if (used_ > 1 && static_cast<std::byte*>(last.iov_base) + last.iov_len == bytes) {
      last.iov_len += entry.stored_bytes;
    } else {
      pieces_[used_++] = piece(bytes, entry.stored_bytes);
    }
  }

  void send(Outbox& out, const FrameHeader& request) {
    size_t head_bytes = wire::page_set_head_bytes(count_);
    FrameHeader header{request.operation, Status::kOk, static_cast<uint32_t>(head_bytes + page_bytes_), request.region,
                       request.request_id};
    wire::encode_header(header, head_.data());
    wire::encode_page_set_count(count_, head_.data() + wire::kHeaderBytes);
    pieces_[0] = piece(head_.data(), wire::kHeaderBytes + head_bytes);
    out.send(std::span(pieces_.data(), used_));
  }

 private:
  size_t count_ = 0;
  size_t used_ = 1;  // piece 0 is the head
  size_t page_bytes_ = 0;
  std::array<iovec, wire::kMaxPagesPerFrame + 1> pieces_;
  std::array<std::byte, wire::kHeaderBytes + wire::page_set_head_bytes(wire::kMaxPagesPerFrame)> head_;
};

// The first page that is named twice, if any.
std::optional<PageNumber> named_twice(const wire::PageSetView& set) {
  std::array<uint64_t, wire::kMaxPagesPerFrame> numbers;
  for (size_t i = 0; i < set.size(); ++i) numbers[i] = set.entry(i).page.value;
  auto end = numbers.begin() + static_cast<std::ptrdiff_t>(set.size());
  if (!std::is_sorted(numbers.begin(), end)) std::sort(numbers.begin(), end);
  auto twice = std::adjacent_find(numbers.begin(), end);
  if (twice == end) return std::nullopt;
  return PageNumber(*twice);
}

std::optional<Refusal> check_write(const wire::PageSetView& set, const Region& region) {
  if (set.present() != set.size()) {
    return Refusal{Status::kMalformed, "a write names a page as absent; that is what discard is for"};
  }
  for (size_t i = 0; i < set.size(); ++i) {
    if (!region.contains(set.entry(i).page)) return out_of_range(set.entry(i).page, region);
  }
  if (auto page = named_twice(set)) {
    return Refusal{Status::kMalformed, fmt::format("a write names page {} twice", page->value)};
  }
  return std::nullopt;
}

Refusal disk_failed(const Error& error) {
  event_log().error("the disk under --backing fails: {}", error.describe());
  return {Status::kResources, fmt::format("the donor's disk fails: {}", error.describe())};
}

// None if all was stored.
std::optional<Refusal> explain(Stored outcome, const RegionTable::Attachment& attached) {
  const Region& region = attached.region();
  switch (outcome) {
    case Stored::kAll:
      return std::nullopt;
    case Stored::kNoRoom:
      return Refusal{Status::kFull,
                     fmt::format("region '{}' reserved {} at this donor and holds {}: no room for the pages of "
                                 "this write; reserve more when opening it, or discard pages",
                                 attached.name(), format_size(region.limit() * kPageBytes),
                                 format_size(region.used_pages() * kPageBytes))};
    case Stored::kDiskFull:
      return Refusal{Status::kFull,
                     fmt::format("the disk of this donor (its --backing) is full, and region '{}' has {} there: make "
                                 "room on that disk, or start the donor with a smaller --size",
                                 attached.name(), format_size(region.used_pages() * kPageBytes))};
    case Stored::kDiskFailed:
      return Refusal{Status::kResources,
                     fmt::format("the disk of this donor (its --backing) fails: its log says how; region '{}' has {} "
                                 "there",
                                 attached.name(), format_size(region.used_pages() * kPageBytes))};
  }
  return std::nullopt;
}

}  // namespace

DonorState::DonorState(uint64_t lends_bytes, uint64_t most_connections, RegionTableOptions options)
    : instance(random_id()), max_connections(most_connections), regions(lends_bytes, std::move(options)) {}

void send_reply(Outbox& out, const FrameHeader& request, Status status, std::span<const std::byte> body,
                uint32_t region) {
  std::array<std::byte, wire::kHeaderBytes> head;
  FrameHeader header{request.operation, status, static_cast<uint32_t>(body.size()), region, request.request_id};
  wire::encode_header(header, head.data());
  std::array<iovec, 2> pieces{piece(head.data(), head.size()), piece(body.data(), body.size())};
  out.send(std::span(pieces.data(), body.empty() ? 1 : 2));
}

void send_refusal(Outbox& out, const FrameHeader& request, const Refusal& refusal) {
  std::string_view text = std::string_view(refusal.text).substr(0, wire::kMaxTextBytes);
  send_reply(out, request, refusal.status, std::as_bytes(std::span(text)), request.region);
}

std::optional<Refusal> Requests::check(const FrameHeader& header) const {
  if (header.status != Status::kRequest) return Refusal{Status::kMalformed, "a reply was sent to a donor"};
  if (!greeted() && header.operation != Operation::kHello) {
    return Refusal{Status::kRefused, "the first frame of a connection must be hello"};
  }
  if (greeted() && header.operation == Operation::kHello) {
    return Refusal{Status::kMalformed, "a second hello on one connection"};
  }
  if (header.body_bytes > longest_body(header.operation)) {
    return Refusal{Status::kMalformed, fmt::format("a body of {} bytes is too long for operation {}", header.body_bytes,
                                                   static_cast<unsigned>(header.operation))};
  }
  return std::nullopt;
}

bool Requests::handle(const FrameHeader& header, std::span<const std::byte> body, Outbox& out) {
  Outcome refused = answer(header, body, out);
  if (!refused) return true;
  send_refusal(out, header, *refused);
  return greeted() && refused->status != Status::kMalformed;
}

Requests::Outcome Requests::answer(const FrameHeader& header, std::span<const std::byte> body, Outbox& out) {
  switch (header.operation) {
    case Operation::kHello:
      return hello(header, body, out);
    case Operation::kOpenRegion:
      return open(header, body, out);
    case Operation::kReadPages:
      return read(header, body, out);
    case Operation::kWritePages:
      return write(header, body, out);
    case Operation::kDiscard:
      return discard(header, body, out);
    case Operation::kStat:
      return stat(header, out);
    case Operation::kCloseRegion:
      return close(header, out);
    case Operation::kMapExtent:
      return map_extent(header, body, out);
    case Operation::kReserve:
      return reserve(header, body, out);
  }
  return Refusal{Status::kMalformed, "unknown operation"};
}

Requests::Outcome Requests::hello(const FrameHeader& header, std::span<const std::byte> body, Outbox& out) {
  Result<wire::Hello> hello = wire::decode_hello(body);
  if (!hello.ok()) return malformed(hello.error());
  if (hello->min_version > wire::kProtocolVersion || hello->max_version < wire::kProtocolVersion) {
    return Refusal{
        Status::kVersion,
        fmt::format("this donor (hecatond {}) speaks protocol version {}, the host ({}) versions {} to {}; "
                    "install the same release of Hecaton on both",
                    kVersion, wire::kProtocolVersion, hello->software, hello->min_version, hello->max_version)};
  }
  if (donor_.connections > donor_.max_connections) {
    return Refusal{Status::kResources,
                   fmt::format("this donor serves {} connections already, and no more at once; name "
                               "another donor, or try again later",
                               donor_.max_connections)};
  }
  role_ = hello->role;
  client_instance_ = hello->client_instance;
  RegionTable::Usage usage = donor_.regions.usage();
  send_reply(out, header, Status::kOk,
             encode(wire::HelloReply{wire::kProtocolVersion, donor_.instance, usage.lends_bytes, usage.free_bytes(),
                                     fmt::format("hecatond {}", kVersion)}));
  return std::nullopt;
}

Requests::Outcome Requests::open(const FrameHeader& header, std::span<const std::byte> body, Outbox& out) {
  Result<wire::OpenRegion> wanted = wire::decode_open_region(body);
  if (!wanted.ok()) return malformed(wanted.error());
  if (open_.size() >= kMaxRegions || last_handle_ == UINT32_MAX) {
    return Refusal{Status::kResources,
                   fmt::format("this connection has {} regions open, and can have no more; use another", open_.size())};
  }
  auto opened = donor_.regions.open(*wanted, client_instance_);
  if (auto* refusal = std::get_if<Refusal>(&opened)) return std::move(*refusal);
  auto& attached = open_.emplace(++last_handle_, std::move(std::get<RegionTable::Attachment>(opened))).first->second;
  if (role() == wire::Role::kWriteBack) attached.become_writer();
  send_reply(out, header, Status::kOk, encode(wire::OpenReply{attached.region().id()}), last_handle_);
  return std::nullopt;
}

const RegionTable::Attachment* Requests::attachment(const FrameHeader& header) const {
  auto found = open_.find(header.region);
  return found == open_.end() ? nullptr : &found->second;
}

Requests::Outcome Requests::read(const FrameHeader& header, std::span<const std::byte> body, Outbox& out) {
  Result<wire::PageListView> list = wire::PageListView::decode(body);
  if (!list.ok()) return malformed(list.error());
  const RegionTable::Attachment* attached = attachment(header);
  if (!attached) return no_region(header);
  const Region& region = attached->region();
  StripeSet stripes;
  for (size_t i = 0; i < list->size(); ++i) {
    PageNumber page = list.value()[i];
    if (!region.contains(page)) return out_of_range(page, region);
    stripes.add(page);
  }
  // Held until the reply is sent or copied: no write tears the pages under it.
  Region::View view(region, stripes);
  std::unique_ptr<std::byte[]> copies;
  if (region.in_file()) {
    copies = std::make_unique_for_overwrite<std::byte[]>(list->size() * kPageBytes);
    if (Result<void> copied = view.copy(*list, copies.get()); !copied.ok()) return disk_failed(copied.error());
  }
  ReadReply reply;
  for (size_t i = 0; i < list->size(); ++i) {
    PageNumber page = list.value()[i];
    reply.add(view.entry(page), copies ? copies.get() + i * kPageBytes : view.bytes(page));
  }
  reply.send(out, header);
  return std::nullopt;
}

Requests::Outcome Requests::write(const FrameHeader& header, std::span<const std::byte> body, Outbox& out) {
  Result<wire::PageSetView> set = wire::PageSetView::decode(body);
  if (!set.ok()) return malformed(set.error());
  const RegionTable::Attachment* attached = attachment(header);
  if (!attached) return no_region(header);
  Region& region = attached->region();
  if (Outcome wrong = check_write(*set, region)) return wrong;

  std::array<PageWrite, wire::kMaxPagesPerFrame> good;
  std::array<PageNumber, wire::kMaxPagesPerFrame> rejected;
  size_t goods = 0, rejects = 0;
  wire::PageSetCursor pages(*set);
  while (auto page = pages.next()) {
    const wire::PageEntry& entry = page->entry;
    if (wire::page_checksum(page->stored, entry.page, entry.version) == entry.checksum) {
      good[goods++] = {entry, page->stored.data()};
    } else {
      rejected[rejects++] = entry.page;
    }
  }
  {
    auto changing = attached->begin_change();
    if (auto* refusal = std::get_if<Refusal>(&changing)) return std::move(*refusal);
    if (Outcome refused = explain(region.store(std::span(good.data(), goods)), *attached)) return refused;
  }
  // Without the fence: neither a pager that takes over nor whoever waits behind it is to wait for the disk.
  region.wait_for_disk();
  send_reply(out, header, Status::kOk, wire::encode_write_reply(std::span(rejected.data(), rejects)), header.region);
  return std::nullopt;
}

Requests::Outcome Requests::discard(const FrameHeader& header, std::span<const std::byte> body, Outbox& out) {
  Result<std::vector<PageRun>> runs = wire::decode_discard(body);
  if (!runs.ok()) return malformed(runs.error());
  const RegionTable::Attachment* attached = attachment(header);
  if (!attached) return no_region(header);
  for (const PageRun& run : *runs) {
    if (!attached->region().contains(run)) {
      return Refusal{Status::kOutOfRange,
                     fmt::format("a discard of {} pages from {} on passes the region's end: it has {} pages", run.count,
                                 run.first.value, attached->region().pages())};
    }
  }
  {
    auto changing = attached->begin_change();
    if (auto* refusal = std::get_if<Refusal>(&changing)) return std::move(*refusal);
    attached->region().discard(*runs);
  }
  send_reply(out, header, Status::kOk, {}, header.region);
  return std::nullopt;
}

Requests::Outcome Requests::stat(const FrameHeader& header, Outbox& out) {
  RegionTable::Usage usage = donor_.regions.usage();
  send_reply(
      out, header, Status::kOk,
      encode(wire::StatReply{donor_.instance, usage.lends_bytes, usage.used_bytes, usage.reserved_bytes, usage.regions,
                             donor_.connections, usage.lingering_regions, usage.lingering_bytes, usage.lingering_ms}));
  return std::nullopt;
}

Requests::Outcome Requests::reserve(const FrameHeader& header, std::span<const std::byte> body, Outbox& out) {
  Result<uint64_t> wanted = wire::decode_reserve(body);
  if (!wanted.ok()) return malformed(wanted.error());
  const RegionTable::Attachment* attached = attachment(header);
  if (!attached) return no_region(header);
  // Not held meanwhile: the table's lock is taken, under which others wait for this one. A reservation that an earlier
  // pager changes late costs the later one a refused write at most.
  {
    auto changing = attached->begin_change();
    if (auto* refusal = std::get_if<Refusal>(&changing)) return std::move(*refusal);
  }
  auto reserved = attached->reserve(*wanted);
  if (auto* refusal = std::get_if<Refusal>(&reserved)) return std::move(*refusal);
  send_reply(out, header, Status::kOk, wire::encode_reserve(std::get<uint64_t>(reserved)), header.region);
  return std::nullopt;
}

Requests::Outcome Requests::close(const FrameHeader& header, Outbox& out) {
  std::erase_if(mapped_, [&](const auto& mapped) { return mapped.first.first == header.region; });
  const RegionTable::Attachment* attached = attachment(header);
  if (!attached) return no_region(header);
  attached->close();
  open_.erase(header.region);
  send_reply(out, header, Status::kOk, {}, header.region);
  return std::nullopt;
}

Requests::Outcome Requests::map_extent(const FrameHeader& header, std::span<const std::byte> body, Outbox& out) {
  Result<ExtentNumber> extent = wire::decode_map_extent(body);
  if (!extent.ok()) return malformed(extent.error());
  const RegionTable::Attachment* attached = attachment(header);
  if (!attached) return no_region(header);
  if (!exposer_) return Refusal{Status::kRefused, "only a host that is connected over RDMA can read memory by itself"};
  if (extent->value >= extents_in(attached->region().pages())) {
    return Refusal{Status::kOutOfRange, fmt::format("extent {} is beyond the region's end", extent->value)};
  }
  auto mapped = mapped_.find({header.region, *extent});
  if (mapped == mapped_.end()) {
    auto exposed = expose(*attached, *extent);
    if (auto* refusal = std::get_if<Refusal>(&exposed)) return std::move(*refusal);
    mapped = mapped_.emplace(std::pair(header.region, *extent), std::get<Mapped>(std::move(exposed))).first;
  }
  const Mapped& keys = mapped->second;
  send_reply(out, header, Status::kOk, encode(wire::ExtentKeys{*extent, keys.pages->key(), keys.records->key()}),
             header.region);
  return std::nullopt;
}

std::variant<Requests::Mapped, Refusal> Requests::expose(const RegionTable::Attachment& attached, ExtentNumber extent) {
  std::optional<Region::Pin> pin = attached.region().pin(extent);
  if (!pin) {
    return Refusal{Status::kFull,
                   fmt::format("region '{}' reserved {} at this donor: no room to keep the whole of "
                               "extent {} in place",
                               attached.name(), format_size(attached.region().limit() * kPageBytes), extent.value)};
  }
  const PageNumber first(extent.value * kPagesPerExtent);
  auto pages = exposer_->expose(pin->bytes(), wire::page_address(first));
  auto records = exposer_->expose(pin->records(), wire::record_address(first));
  if (!pages.ok() || !records.ok()) {
    const std::string what = (pages.ok() ? records.error() : pages.error()).describe();
    if (!std::exchange(exposing_failed_, true)) {
      event_log().warn("'{}' must ask for pages that it could read over RDMA by itself: {}", attached.name(), what);
    }
    return Refusal{Status::kResources, what};
  }
  return Mapped{std::move(*pin), std::move(pages).value(), std::move(records).value()};
}

}  // namespace hecaton::donor
