// parse_node_url and parse_listen_address: what they take is parsed from its printed form as the same address.
#include "fuzz.h"
#include "wire/node_url.h"

using namespace hecaton;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text = fuzz::text_of(data, size);
  if (auto url = parse_node_url(text); url.ok()) {
    HEC_CHECK(!url->host.empty() && url->port != 0);
    auto again = parse_node_url(url->printable());
    HEC_CHECK(again.ok() && again->host == url->host && again->port == url->port && again->rdma == url->rdma);
    (void)url->is_loopback();
  }
  if (auto url = parse_listen_address(text); url.ok()) {
    auto again = parse_listen_address(url->printable());
    HEC_CHECK(again.ok() && *again == *url);
  }
  return 0;
}
