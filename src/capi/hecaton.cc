#include "hecaton/hecaton.h"

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>

#include "capi/paged_region.h"
#include "wire/token.h"

struct hecaton_region {
  std::unique_ptr<hecaton::PagedRegion> region;
};

namespace {

using hecaton::ErrorCode;

thread_local int last_error = 0;
thread_local char last_problem[512];

int fail(int error, const std::string& problem) {
  last_error = error;
  snprintf(last_problem, sizeof last_problem, "%s", problem.c_str());
  return error;
}

int code_of(const hecaton::Error& error) {
  switch (error.code) {
    case ErrorCode::kPermission:
      return HECATON_EPERM;
    case ErrorCode::kUnsupported:
      return HECATON_EKERNEL;
    case ErrorCode::kNotFound:
    case ErrorCode::kUnavailable:
    case ErrorCode::kTimeout:
    case ErrorCode::kClosed:
    case ErrorCode::kBusy:
    case ErrorCode::kProtocol:
    case ErrorCode::kUntrusted:
      return HECATON_EUNREACHABLE;
    case ErrorCode::kFull:
      return HECATON_EFULL;
    case ErrorCode::kInvalidArgument:
      return HECATON_EINVAL;
    default:
      switch (error.os_error) {
        case ENOMEM:
        case EMFILE:
        case ENFILE:
          return HECATON_ENOMEM;
        default:
          return HECATON_ESYSTEM;
      }
  }
}

const char* meaning_of(int error) {
  switch (error) {
    case HECATON_OK:
      return "no error";
    case HECATON_EINVAL:
      return "a field of the configuration is wrong";
    case HECATON_EKERNEL:
      return "this kernel lacks the userfaultfd features that paging needs (Linux 5.19 has them)";
    case HECATON_EPERM:
      return "no right to use userfaultfd: be root, or get access to /dev/userfaultfd";
    case HECATON_EUNREACHABLE:
      return "a node cannot be reached";
    case HECATON_EFULL:
      return "the nodes have too little memory free";
    case HECATON_ENOMEM:
      return "this machine gave no memory, address space or descriptors";
    case HECATON_ESYSTEM:
      return "a system call failed";
    default:
      return "not an error number of hecaton";
  }
}

// Programs that were built before a field was added have a smaller struct: what they lack is 0.
int complete_config(const hecaton_config* given, hecaton_config* out) {
  constexpr size_t kFirstSize = offsetof(hecaton_config, shards), kSecondSize = offsetof(hecaton_config, flags);
  const size_t size = given->struct_size;
  if (size != sizeof *out && size != kFirstSize && size != kSecondSize) {
    return fail(HECATON_EINVAL, "struct_size is not sizeof(hecaton_config)");
  }
  *out = hecaton_config{};
  memcpy(out, given, size);
  return HECATON_OK;
}

int read_config(const hecaton_config& given, hecaton::PagedRegionConfig* out) {
  if (given.bytes == 0) return fail(HECATON_EINVAL, "bytes is zero");
  if (given.bytes > hecaton::wire::kMaxRegionBytes) return fail(HECATON_EINVAL, "bytes is more than 16 TiB");
  if (given.local_bytes < hecaton::PagerConfig::kMinimumLocalBytes) {
    return fail(HECATON_EINVAL, "local_bytes is less than 1 MiB");
  }
  if (given.shards > hecaton::Stripes::kMostShards) return fail(HECATON_EINVAL, "shards is more than 16");
  out->shards = given.shards;
  if ((given.flags & ~uint64_t{HECATON_SEAL}) != 0) return fail(HECATON_EINVAL, "flags has a bit that is not known");
  out->seal = (given.flags & HECATON_SEAL) != 0;
  out->compression = hecaton::default_compression(out->seal);
  const char* insecure = getenv("HECATON_INSECURE");
  out->insecure = insecure && std::string_view(insecure) == "1";
  out->bytes = given.bytes;
  out->local_bytes = given.local_bytes;
  for (const char* const* node = given.nodes; node && *node; ++node) {
    auto url = hecaton::parse_node_url(*node);
    if (!url.ok()) return fail(HECATON_EINVAL, "node '" + hecaton::without_tokens(*node) + "': " + url.error().context);
    out->nodes.push_back(std::move(url).value());
  }
  if (given.nodes && out->nodes.empty()) {
    return fail(HECATON_EINVAL, "nodes is an empty list; use NULL for an embedded donor");
  }
  return HECATON_OK;
}

// No exception crosses the C interface: the only ones our code can meet are those of allocation.
template <typename Call>
int guarded(Call call) noexcept {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return fail(HECATON_ENOMEM, meaning_of(HECATON_ENOMEM));
  } catch (const std::exception& error) {
    return fail(HECATON_ESYSTEM, error.what());
  }
}

}  // namespace

extern "C" {

int hecaton_open(const hecaton_config* config, hecaton_region** out, void** address) {
  return guarded([&] {
    if (!config || !out || !address) return fail(HECATON_EINVAL, "config, out and address must not be NULL");
    hecaton_config whole;
    if (int error = complete_config(config, &whole)) return error;
    hecaton::PagedRegionConfig wanted;
    if (int error = read_config(whole, &wanted)) return error;
    std::string problem;
    auto opened = hecaton::PagedRegion::open(std::move(wanted), &problem);
    if (!opened.ok()) return fail(code_of(opened.error()), problem);
    auto region = std::make_unique<hecaton_region>();
    region->region = std::move(opened).value();
    *address = region->region->data();
    *out = region.release();
    return int{HECATON_OK};
  });
}

int hecaton_stats_json(hecaton_region* region, char* buffer, size_t size) {
  return guarded([&] {
    if (!region || (!buffer && size > 0)) return fail(HECATON_EINVAL, "region or buffer is NULL");
    std::string text = hecaton::stats_json(region->region->stats(), "memory", "none");
    return snprintf(buffer, size, "%s", text.c_str());
  });
}

int hecaton_close(hecaton_region* region) {
  return guarded([&] {
    delete region;
    return int{HECATON_OK};
  });
}

const char* hecaton_strerror(int error) {
  return error != HECATON_OK && error == last_error ? last_problem : meaning_of(error);
}

}  // extern "C"
