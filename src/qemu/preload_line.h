// One line for the user on stderr, put together on the stack. Keeps errno.
#pragma once

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

namespace hecaton::preload {

class Line {
 public:
  Line() : error_(errno) { text("hecaton: "); }
  Line(const Line&) = delete;
  Line& operator=(const Line&) = delete;
  // Written in one piece, so that lines of several threads do not mix.
  ~Line() {
    buffer_[length_++] = '\n';
    [[maybe_unused]] ssize_t written = write(STDERR_FILENO, buffer_, length_);
    errno = error_;
  }

  Line& text(const char* more) {
    size_t bytes = strlen(more);
    if (bytes > kRoom - length_) bytes = kRoom - length_;
    memcpy(buffer_ + length_, more, bytes);
    length_ += bytes;
    return *this;
  }
  // Names come from others: nothing in them may break the line or steer a terminal.
  Line& name(const char* more) {
    for (; *more && length_ < kRoom; ++more) {
      buffer_[length_++] = static_cast<unsigned char>(*more) < ' ' || *more == 0x7f ? '?' : *more;
    }
    return *this;
  }
  Line& number(uint64_t value) {
    char digits[24];
    char* first = digits + sizeof digits;
    *--first = '\0';
    do {
      *--first = static_cast<char>('0' + value % 10);
    } while (value /= 10);
    return text(first);
  }
  Line& error(int number_of_it) {
    const char* words = strerrordesc_np(number_of_it);
    return text(words ? words : "unknown error");
  }

 private:
  static constexpr size_t kRoom = 1023;
  char buffer_[kRoom + 1];
  size_t length_ = 0;
  int error_;
};

}  // namespace hecaton::preload
