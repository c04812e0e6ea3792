// The donor of the model, and the network to it.
#include <algorithm>
#include <cstring>

#include "pager/paging_model.h"

namespace hecaton {

bool PagingModel::start_read(PageNumber page, uint32_t slot, bool) {
  may_die();
  shard_of(page).demand.push_back({Message::Kind::kDemandReply, slot, {page}, {}, {}});
  may_die();
  return true;
}

bool PagingModel::send_read(uint64_t request, size_t, std::span<const PageNumber> pages) {
  may_die();
  prefetch_.push_back({Message::Kind::kPrefetchReply, request, {pages.begin(), pages.end()}, {}, {}});
  may_die();
  return true;
}

void PagingModel::send_write(uint64_t batch, ExtentNumber, std::span<const wire::PageEntry> entries,
                             std::span<const iovec> pages) {
  may_die();
  preempt();  // the guest may write between the checksum and the sending
  Message message{Message::Kind::kWriteReply, batch, {}, {}, {}};
  take_writes(entries, pages, &message);
  write_back_.push_back(std::move(message));
  may_die();
}

void PagingModel::take_writes(std::span<const wire::PageEntry> entries, std::span<const iovec> pages, Message* reply) {
  size_t piece = 0, offset = 0;
  for (const wire::PageEntry& entry : entries) {
    const auto* source = static_cast<const std::byte*>(pages[piece].iov_base) + offset;
    offset += entry.stored_bytes;
    if (offset == pages[piece].iov_len) {
      ++piece;
      offset = 0;
    }
    look_for_words({source, entry.stored_bytes});
    const bool damaged = options_.damage > 0 && static_cast<double>(random(1000)) < options_.damage * 1000;
    if (damaged || wire::page_checksum({source, entry.stored_bytes}, entry.page, entry.version) != entry.checksum) {
      reply->rejected.push_back(entry.page);
      continue;
    }
    reply->stores.emplace_back(entry.page,
                               StoredPage{entry.version, entry.checksum, {source, source + entry.stored_bytes}});
  }
}

// The donor gets to it.
void PagingModel::apply(const Message& message) {
  for (const auto& [page, written] : message.stores) {
    StoredPage& stored = donor_[page.value];
    if (stored.version != 0) donor_before_[page.value] = stored;
    stored = written;
  }
  if (message.kind != Message::Kind::kDiscard) return;
  for (PageNumber page : message.pages) donor_.erase(page.value);
}

void PagingModel::send_discard(ExtentNumber, std::span<const PageRun> runs) {
  may_die();
  Message message{Message::Kind::kDiscard, 0, {}, {}, {}};
  for (const PageRun& run : runs) {
    for (PageNumber page = run.first; page < run.end(); ++page) message.pages.push_back(page);
  }
  write_back_.push_back(std::move(message));
  may_die();
}

std::vector<std::byte> PagingModel::answer(const std::vector<PageNumber>& pages) {
  std::vector<wire::PageEntry> entries;
  std::vector<std::byte> data;
  for (PageNumber page : pages) {
    auto stored = donor_.find(page.value);
    if (stored == donor_.end()) {
      entries.push_back({page, 0, 0, wire::PageState::kAbsent});
      continue;
    }
    entries.push_back({page, stored->second.checksum, stored->second.version, wire::PageState::kPresent,
                       static_cast<uint16_t>(stored->second.bytes.size())});
    data.insert(data.end(), stored->second.bytes.begin(), stored->second.bytes.end());
  }
  std::vector<std::byte> body(wire::page_set_head_bytes(entries.size()));
  wire::encode_page_set_head(entries, body.data());
  body.insert(body.end(), data.begin(), data.end());
  return body;
}

void PagingModel::deliver(std::deque<Message>& queue) {
  if (queue.empty()) return;
  Message message = std::move(queue.front());
  queue.pop_front();
  Result<void> taken;
  apply(message);
  if (message.kind == Message::Kind::kDiscard) return;
  if (message.kind == Message::Kind::kWriteReply) {
    Running running(in_evictor_);
    taken = logic_->evictor.on_written(message.id, message.rejected);
  } else if (message.kind == Message::Kind::kPrefetchReply) {
    Running running(in_prefetcher_);
    taken = logic_->prefetcher.on_read_reply(message.id, wire::Status::kOk, answer(message.pages));
  } else {
    Shard& shard = shard_of(message.pages.front());
    Running running(shard.running);
    shard.asleep = false;
    std::vector<std::byte> body = answer(message.pages);
    if (options_.damage > 0 && static_cast<double>(random(1000)) < options_.damage * 1000) body.back() ^= std::byte{1};
    taken = shard.server->on_read_reply(message.id, wire::Status::kOk, body);
  }
  if (!taken.ok()) breach(std::string("a good answer was refused: ") + taken.error().context, PageNumber(0));
}

// Every word that the guest writes is small, so a page of it has long stretches of zeros.
void PagingModel::look_for_words(std::span<const std::byte> stored) {
  const std::array<std::byte, 8> zeros{};
  if (std::search(stored.begin(), stored.end(), zeros.begin(), zeros.end()) != stored.end()) donor_saw_words_ = true;
}

bool PagingModel::forget_a_remote_page() {
  for (auto stored = donor_.begin(); stored != donor_.end(); ++stored) {
    if (state().table.get(PageNumber(stored->first)).state != PageState::kRemote) continue;
    donor_.erase(stored);
    return true;
  }
  return false;
}

bool PagingModel::roll_back_a_remote_page() {
  for (auto& [page, before] : donor_before_) {
    if (state().table.get(PageNumber(page)).state != PageState::kRemote || !donor_.contains(page)) continue;
    donor_[page] = before;
    return true;
  }
  return false;
}

// The bytes for a lie about `page`; none if the donor has none that differ.
std::optional<std::vector<std::byte>> PagingModel::lie_for(uint64_t page, Lie lie) {
  std::vector<std::byte> bytes = donor_.at(page).bytes;
  if (lie == Lie::kBitFlipped) {
    bytes[random(bytes.size())] ^= std::byte{1} << random(8);
    return bytes;
  }
  if (lie == Lie::kOlderBytes) {
    auto before = donor_before_.find(page);
    if (before == donor_before_.end() || before->second.bytes == bytes) return std::nullopt;
    return before->second.bytes;
  }
  auto other = std::find_if(donor_.begin(), donor_.end(),
                            [&](const auto& stored) { return stored.first != page && stored.second.bytes != bytes; });
  return other == donor_.end() ? std::nullopt : std::optional(other->second.bytes);
}

uint64_t PagingModel::lie_about_remote_pages(Lie lie) {
  uint64_t lies = 0;
  for (auto& [number, stored] : donor_) {
    const PageNumber page(number);
    const PageStatus status = state().table.get(page);
    if (status.state != PageState::kRemote || number % 32 < 16) continue;
    std::optional<std::vector<std::byte>> bytes = lie_for(number, lie);
    if (!bytes) continue;
    stored.bytes = std::move(*bytes);
    stored.checksum = wire::page_checksum(stored.bytes, page, stored.version);
    ++lies;
  }
  return lies;
}

}  // namespace hecaton
