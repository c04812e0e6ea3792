// PageListView, of read requests and write replies: all of its pages can be read and encode to the same list.
#include <vector>

#include "fuzz.h"
#include "wire/frame.h"

using namespace hecaton;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto body = fuzz::bytes_of(data, size);
  auto list = wire::PageListView::decode(body);
  if (!list.ok()) return 0;
  HEC_CHECK(list->size() <= wire::kMaxPagesPerFrame);
  std::vector<PageNumber> pages;
  for (size_t i = 0; i < list->size(); ++i) pages.push_back((*list)[i]);
  auto again = wire::encode_write_reply(pages);
  fuzz::check_same(body.subspan(8), std::span(again).subspan(8));
  return 0;
}
