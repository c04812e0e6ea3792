// Host names to addresses, for every transport.
#pragma once

#include <netdb.h>

#include "base/result.h"
#include "wire/node_url.h"

namespace hecaton {

struct AddressList {
  addrinfo* first = nullptr;
  AddressList() = default;
  AddressList(AddressList&& other) noexcept : first(std::exchange(other.first, nullptr)) {}
  AddressList& operator=(AddressList&&) = delete;
  ~AddressList() {
    if (first) freeaddrinfo(first);
  }
};

// `passive`: to listen on. Error: kUnavailable.
Result<AddressList> resolve(const NodeUrl& url, bool passive);

}  // namespace hecaton
