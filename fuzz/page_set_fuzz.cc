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
  size_t present = 0;
  for (size_t i = 0; i < set->size(); ++i) {
    entries.push_back(set->entry(i));
    if (entries.back().state != wire::PageState::kPresent) continue;
    (void)wire::page_checksum(set->present_bytes(present++), entries.back().page, entries.back().version);
  }
  HEC_CHECK(present == set->present());
  std::vector<std::byte> head(wire::page_set_head_bytes(entries.size()));
  wire::encode_page_set_head(entries, head.data());
  fuzz::check_same(body.first(head.size()).subspan(8), std::span(head).subspan(8));
  return 0;
}
