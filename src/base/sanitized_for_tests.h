// For tests: whether a sanitizer is at work. Its own memory and descriptors get in the way of counting ours, and what
// runs one thread and no bytes of others gains little from being slowed by it: a share of the seeds is enough there.
#pragma once

namespace hecaton {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#elif defined(__has_feature)
inline constexpr bool kSanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace hecaton
