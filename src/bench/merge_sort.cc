#include "bench/merge_sort.h"

#include <algorithm>
#include <utility>

namespace hecaton::bench {
namespace {

constexpr size_t kFirstRun = 64 * 1024;

std::span<uint64_t> part(std::span<uint64_t> keys, size_t from, size_t length) {
  from = std::min(from, keys.size());
  return keys.subspan(from, std::min(length, keys.size() - from));
}

uint64_t scrambled(uint64_t key) {
  key = (key ^ key >> 32) * 0xd6e8feb86659fd93ull;
  key = (key ^ key >> 32) * 0xd6e8feb86659fd93ull;
  return key ^ key >> 32;
}

}  // namespace

std::span<uint64_t> merge_sort(std::span<uint64_t> keys, std::span<uint64_t> spare) {
  for (size_t at = 0; at < keys.size(); at += kFirstRun) {
    std::span<uint64_t> run = part(keys, at, kFirstRun);
    std::sort(run.begin(), run.end());
  }
  for (size_t length = kFirstRun; length < keys.size(); length *= 2) {
    for (size_t at = 0; at < keys.size(); at += 2 * length) {
      std::span<uint64_t> left = part(keys, at, length), right = part(keys, at + length, length);
      std::merge(left.begin(), left.end(), right.begin(), right.end(), spare.begin() + static_cast<std::ptrdiff_t>(at));
    }
    std::swap(keys, spare);
  }
  return keys;
}

uint64_t multiset_checksum(std::span<const uint64_t> keys) {
  uint64_t sum = keys.size();
  for (uint64_t key : keys) sum += scrambled(key);
  return sum;
}

}  // namespace hecaton::bench
