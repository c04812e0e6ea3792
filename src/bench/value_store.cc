#include "bench/value_store.h"

#include <algorithm>
#include <numeric>
#include <random>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace hecaton::bench {

ValueStore::ValueStore(std::byte* memory, uint64_t bytes)
    : memory_(memory), slots_(bytes / kValueBytes), versions_(slots_.size()) {
  std::iota(slots_.begin(), slots_.end(), 0);
  std::mt19937_64 random(1);  // the same places in every store
  std::shuffle(slots_.begin(), slots_.end(), random);
  std::vector<uint64_t> by_place(slots_.size());
  for (uint64_t key = 0; key < slots_.size(); ++key) by_place[slots_[key]] = key;
  for (uint64_t key : by_place) write(key);
}

uint64_t ValueStore::checksum_of(const Value& value) {
  return XXH3_64bits(&value.key, sizeof value - sizeof value.checksum);
}

void ValueStore::read(uint64_t key) {
  const Value& value = value_of(key);
  if (value.checksum != checksum_of(value) || value.key != key || value.version != versions_[key]) ++wrong_;
}

void ValueStore::write(uint64_t key) {
  Value& value = value_of(key);
  value.key = key;
  value.version = ++versions_[key];
  uint64_t word = (key << 32 | value.version) * 0x9e3779b97f4a7c15ull;
  for (uint64_t& place : value.words) place = word += 0xd1342543de82ef95ull;
  value.checksum = checksum_of(value);
}

}  // namespace hecaton::bench
