#include "qemu/preload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "qemu/preload_line.h"
#include "wire/handover.h"

namespace hecaton::preload {
namespace {

enum class Stage : int { kUnread, kReading, kOff, kOn };

constinit std::atomic<Stage> stage{Stage::kUnread};
constinit Config configured;  // written at kReading by one thread, constant from kOn on

bool skip_word(const char*& at, const char* word) {
  size_t length = strlen(word);
  if (strncmp(at, word, length) != 0) return false;
  at += length;
  return true;
}

bool take_number(const char*& at, uint64_t& number) {
  if (*at < '0' || *at > '9') return false;
  number = 0;
  for (; *at >= '0' && *at <= '9'; ++at) {
    if (__builtin_mul_overflow(number, uint64_t{10}, &number)) return false;
    if (__builtin_add_overflow(number, static_cast<uint64_t>(*at - '0'), &number)) return false;
  }
  return true;
}

bool parse(const char* text, Config& out) {
  uint64_t socket, device, inode, shards, stripe, first_kept, kept;
  bool good = skip_word(text, "socket=") && take_number(text, socket) && skip_word(text, " inode=") &&
              take_number(text, device) && skip_word(text, ":") && take_number(text, inode) &&
              skip_word(text, " shards=") && take_number(text, shards) && skip_word(text, " stripe=") &&
              take_number(text, stripe) && skip_word(text, " keep=") && take_number(text, first_kept) &&
              skip_word(text, ":") && take_number(text, kept) && *text == '\0';
  if (!good || socket > INT32_MAX || shards == 0 || shards > wire::kHandoverMostShards) return false;
  if (stripe == 0 || stripe % kPage != 0 || first_kept > INT32_MAX || kept > 64) return false;
  out = Config{static_cast<int>(socket),
               static_cast<dev_t>(device),
               static_cast<ino_t>(inode),
               static_cast<unsigned>(shards),
               stripe,
               static_cast<int>(first_kept),
               static_cast<int>(kept)};
  return true;
}

Stage read_configuration() {
  const char* text = getenv("HECATON_PRELOAD");
  if (!text) return Stage::kOff;
  // Passing through would run the guest unpaged.
  if (!parse(text, configured))
    die("HECATON_PRELOAD is not \"socket=FD inode=DEV:INO shards=N stripe=BYTES keep=FD:N\" but ", text);
  return Stage::kOn;
}

}  // namespace

void die(const char* problem, const char* detail) {
  Line().text("libhecaton-qemu.so: ").text(problem).name(detail);
  _exit(3);
}

const Config* config() {
  Stage now = stage.load(std::memory_order_acquire);
  if (now == Stage::kUnread && stage.compare_exchange_strong(now, Stage::kReading)) {
    now = read_configuration();
    stage.store(now, std::memory_order_release);
  }
  while (now == Stage::kReading || now == Stage::kUnread) now = stage.load(std::memory_order_acquire);
  return now == Stage::kOn ? &configured : nullptr;
}

bool is_guest_ram(const Config& wanted, int fd) {
  if (fd < 0) return false;
  int error = errno;
  struct stat found;
  bool same = fstat(fd, &found) == 0 && found.st_dev == wanted.device && found.st_ino == wanted.inode;
  errno = error;
  return same;
}

__attribute__((constructor)) static void set_up() {
  if (config()) clear_direct_of_inherited_files();
}

}  // namespace hecaton::preload
