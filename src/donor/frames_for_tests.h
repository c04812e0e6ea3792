// For tests: frames as a pager would send them, and replies taken apart.
#pragma once

#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "wire/frame.h"

namespace hecaton::donor {

using Bytes = std::vector<std::byte>;

inline Bytes frame(wire::Operation operation, std::span<const std::byte> body, uint32_t region = 0, uint64_t id = 1) {
  Bytes bytes(wire::kHeaderBytes + body.size());
  wire::FrameHeader header{operation, wire::Status::kRequest, static_cast<uint32_t>(body.size()), region, id};
  wire::encode_header(header, bytes.data());
  if (!body.empty()) std::memcpy(bytes.data() + wire::kHeaderBytes, body.data(), body.size());
  return bytes;
}

inline Bytes hello_frame(uint64_t client_instance = 7, wire::Role role = wire::Role::kDemand) {
  return frame(wire::Operation::kHello,
               encode(wire::Hello{wire::kProtocolVersion, wire::kProtocolVersion, role, client_instance, "a test"}));
}

inline wire::OpenRegion region_named(std::string name, uint64_t bytes, uint64_t reserve, uint8_t secret = 1) {
  wire::OpenRegion open{bytes, reserve, {}, std::move(name)};
  open.secret.fill(static_cast<std::byte>(secret));
  return open;
}

inline Bytes open_frame(const wire::OpenRegion& open) {
  return frame(wire::Operation::kOpenRegion, encode(open));
}

inline Bytes read_frame(uint32_t region, std::vector<PageNumber> pages, uint64_t id = 1) {
  Bytes body(wire::read_request_bytes(pages.size()));
  wire::encode_read_request(pages, body.data());
  return frame(wire::Operation::kReadPages, body, region, id);
}

inline Bytes reserve_frame(uint32_t region, uint64_t bytes) {
  return frame(wire::Operation::kReserve, wire::encode_reserve(bytes), region);
}

// A page whose every 8 bytes tell which page, and which version of it, they are.
inline Bytes content_of(PageNumber page, uint32_t version) {
  Bytes bytes(kPageBytes);
  for (size_t at = 0; at < kPageBytes; at += 8) {
    uint64_t word = (page.value << 32 | version) * 0x9e3779b97f4a7c15ull + at;
    std::memcpy(bytes.data() + at, &word, sizeof word);
  }
  return bytes;
}

inline Bytes write_body(std::span<const PageNumber> pages, uint32_t version) {
  Bytes body(wire::page_set_head_bytes(pages.size()));
  std::vector<wire::PageEntry> entries;
  for (PageNumber page : pages) {
    Bytes content = content_of(page, version);
    entries.push_back({page, wire::page_checksum(content, page, version), version, wire::PageState::kPresent});
    body.insert(body.end(), content.begin(), content.end());
  }
  wire::encode_page_set_head(entries, body.data());
  return body;
}

inline Bytes write_frame(uint32_t region, std::vector<PageNumber> pages, uint32_t version, uint64_t id = 1) {
  return frame(wire::Operation::kWritePages, write_body(pages, version), region, id);
}

inline Bytes discard_frame(uint32_t region, std::vector<PageRun> runs) {
  return frame(wire::Operation::kDiscard, wire::encode_discard(runs), region);
}

inline std::vector<PageNumber> pages_from(uint64_t first, uint64_t count) {
  std::vector<PageNumber> pages;
  for (uint64_t i = 0; i < count; ++i) pages.push_back(PageNumber(first + i));
  return pages;
}

inline Bytes operator+(Bytes left, const Bytes& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

struct Reply {
  wire::FrameHeader header;
  Bytes body;
  wire::Status status() const { return header.status; }
  std::string text() const { return wire::decode_text(body); }
};

// The whole replies at the start of `bytes`, taken out of it.
inline std::vector<Reply> take_replies(Bytes& bytes) {
  std::vector<Reply> replies;
  size_t at = 0;
  while (bytes.size() - at >= wire::kHeaderBytes) {
    std::span<const std::byte> rest = std::span(bytes).subspan(at);
    wire::FrameHeader header = wire::decode_header(rest.first<wire::kHeaderBytes>()).value();
    if (rest.size() < wire::kHeaderBytes + header.body_bytes) break;
    std::span<const std::byte> body = rest.subspan(wire::kHeaderBytes, header.body_bytes);
    replies.push_back({header, Bytes(body.begin(), body.end())});
    at += wire::kHeaderBytes + header.body_bytes;
  }
  bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(at));
  return replies;
}

// Whether every page of a read reply is one that content_of() made: whole, in its place, of the version it names.
inline bool holds_true_pages(const Reply& reply) {
  Result<wire::PageSetView> set = wire::PageSetView::decode(reply.body);
  if (!set.ok()) return false;
  wire::PageSetCursor pages(*set);
  while (auto page = pages.next()) {
    const wire::PageEntry& entry = page->entry;
    if (entry.state == wire::PageState::kAbsent) continue;
    if (wire::page_checksum(page->stored, entry.page, entry.version) != entry.checksum) return false;
    if (page->stored.size() != kPageBytes) return false;
    if (std::memcmp(page->stored.data(), content_of(entry.page, entry.version).data(), kPageBytes) != 0) return false;
  }
  return true;
}

}  // namespace hecaton::donor
