#include "pager/state_memory.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "base/random.h"
#include "store/page_seal.h"

namespace hecaton {
namespace {

constexpr uint64_t kMagic = 0x3165746174536548;  // "HeState1"
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 4096;

enum SectionNumber : size_t { kConfiguration, kPageWords, kPlacement, kMembers, kCounters, kSeal, kSections };

using Sizes = std::array<uint64_t, kSections>;

Sizes sizes_for(uint64_t region_bytes, bool sealed) {
  const uint64_t pages = pages_in(region_bytes);
  Sizes sizes{};
  sizes[kConfiguration] = sizeof(uint64_t) + StateMemory::kMostConfiguration;
  sizes[kPageWords] = pages * PageTable::kBytesPerPage;
  sizes[kPlacement] = extents_in(pages) * PlacementTable::kBytesPerExtent;
  sizes[kMembers] = StateMemory::kMostMembers * sizeof(MemberRecord);
  sizes[kCounters] = sizeof(PagerCounters);
  sizes[kSeal] = sealed ? SealState::bytes_for(pages) : 0;
  return sizes;
}

uint64_t offset_of(const Sizes& sizes, size_t wanted) {
  uint64_t offset = kHeaderBytes;
  for (size_t i = 0; i < wanted; ++i) offset += pages_in(sizes[i]) * kPageBytes;
  return offset;
}

}  // namespace

struct StateMemory::Header {
  uint64_t magic;
  uint32_t version;
  uint32_t sealed;
  uint64_t region_bytes;
  Sizes sizes;
  uint64_t instance;
  std::array<std::byte, wire::kSecretBytes> secret;
  std::atomic<uint64_t> epoch;
  // The layout; valid once layout_set is 1.
  std::atomic<uint32_t> layout_set;
  uint32_t shards;
  uint64_t base, stripe_bytes;
  int32_t pid;
  std::array<int32_t, Stripes::kMostShards> descriptors;
};

Result<OwnedFd> StateMemory::create_file(uint64_t region_bytes, bool sealed) {
  static_assert(sizeof(Header) <= kHeaderBytes);
  const Sizes sizes = sizes_for(region_bytes, sealed);
  OwnedFd fd = HEC_TRY(create_memfd("hecaton-state", offset_of(sizes, kSections)));
  Mapping map = HEC_TRY(Mapping::shared(fd.get(), kHeaderBytes));
  Header& header = *new (map.data()) Header{};
  header.magic = kMagic;
  header.version = kVersion;
  header.sealed = sealed;
  header.region_bytes = region_bytes;
  header.sizes = sizes;
  header.instance = random_id();
  fill_random(header.secret);
  if (sealed) {
    const StateMemory whole = HEC_TRY(open(fd.get()));
    const SealState seal = SealState::at(whole.seal().data(), pages_in(region_bytes));
    HEC_TRY(seal.lock());
    seal.make_key();
  }
  return fd;
}

Result<StateMemory> StateMemory::open(int fd) {
  struct stat info {};
  if (fstat(fd, &info) != 0) return system_error("the state memory");
  const auto bytes = static_cast<uint64_t>(info.st_size);
  if (bytes < kHeaderBytes) return Error{ErrorCode::kCorrupt, 0, "the state memory is no state memory"};
  Mapping map = HEC_TRY(Mapping::shared(fd, bytes));
  const Header& header = *reinterpret_cast<const Header*>(map.data());
  if (header.magic != kMagic) return Error{ErrorCode::kCorrupt, 0, "the state memory is no state memory"};
  if (header.version != kVersion || header.sealed > 1 ||
      header.sizes != sizes_for(header.region_bytes, header.sealed == 1) ||
      bytes != offset_of(header.sizes, kSections)) {
    return Error{ErrorCode::kUnsupported, 0, "the state memory is of another version of Hecaton"};
  }
  return StateMemory(std::move(map));
}

template <typename T>
std::span<T> StateMemory::section(size_t i) const {
  const Header& head = header();
  return {reinterpret_cast<T*>(map_.data() + offset_of(head.sizes, i)), head.sizes[i] / sizeof(T)};
}

uint64_t StateMemory::region_bytes() const {
  return header().region_bytes;
}

uint64_t StateMemory::begin_epoch() {
  return header().epoch.fetch_add(1) + 1;
}

PoolIdentity StateMemory::identity() const {
  return {header().instance, header().secret, header().epoch.load()};
}

std::string StateMemory::configuration() const {
  const std::span<char> bytes = section<char>(kConfiguration);
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  return std::string(bytes.data() + sizeof length, std::min<uint64_t>(length, kMostConfiguration));
}

void StateMemory::set_configuration(std::string_view text) {
  HEC_CHECK(text.size() <= kMostConfiguration);
  const std::span<char> bytes = section<char>(kConfiguration);
  const uint64_t length = text.size();
  std::memcpy(bytes.data() + sizeof length, text.data(), text.size());
  std::memcpy(bytes.data(), &length, sizeof length);
}

std::optional<GuestLayout> StateMemory::layout() const {
  const Header& head = header();
  if (head.layout_set.load() != 1) return std::nullopt;
  return GuestLayout{RemoteAddress{head.base}, head.stripe_bytes, head.shards, head.pid, head.descriptors};
}

void StateMemory::set_layout(const GuestLayout& layout) {
  Header& head = header();
  head.base = layout.base.value;
  head.stripe_bytes = layout.stripe_bytes;
  head.shards = layout.shards;
  head.pid = layout.pid;
  head.descriptors = layout.descriptors;
  head.layout_set.store(1);
}

std::span<PageTable::Word> StateMemory::page_words() const {
  return section<PageTable::Word>(kPageWords);
}

std::span<PlacementTable::Word> StateMemory::placement_words() const {
  return section<PlacementTable::Word>(kPlacement);
}

std::span<MemberRecord> StateMemory::members() const {
  return section<MemberRecord>(kMembers);
}

PagerCounters& StateMemory::counters() const {
  return section<PagerCounters>(kCounters).front();
}

std::span<std::byte> StateMemory::seal() const {
  return section<std::byte>(kSeal);
}

}  // namespace hecaton
