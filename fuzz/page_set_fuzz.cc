// PageSetView, of read replies and writes: all of its entries and all bytes of its present pages can be read.
#include <vector>

#include "fuzz.h"
#include "wire/frame.h"

using namespace hecaton;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto body = fuzz::bytes_of(data, size);
  auto set = wire::PageSetView::decode(body);
  if (!set.ok()) return 0;
  HEC_CHECK(set->size() <= wire::kMaxPagesPerFrame && set->present() <= set->size());
  std::vector<wire::PageEntry> entries;
  size_t present = 0, stored = 0;
  wire::PageSetCursor pages(*set);
  while (auto page = pages.next()) {
    entries.push_back(page->entry);
    HEC_CHECK(page->stored.size() == page->entry.stored_bytes && page->stored.size() <= kPageBytes);
    stored += page->stored.size();
    if (page->entry.state != wire::PageState::kPresent) continue;
    ++present;
    (void)wire::page_checksum(page->stored, page->entry.page, page->entry.version);
  }
  HEC_CHECK(entries.size() == set->size() && present == set->present());
  HEC_CHECK(wire::page_set_head_bytes(entries.size()) + stored == body.size());
  std::vector<std::byte> head(wire::page_set_head_bytes(entries.size()));
  wire::encode_page_set_head(entries, head.data());
  fuzz::check_same(body.first(head.size()).subspan(8), std::span(head).subspan(8));
  return 0;
}
