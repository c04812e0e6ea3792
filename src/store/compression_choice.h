// Whether pages are better compressed on their way to and from the donors of a pool: decided by what was measured here,
// and again as long as the pool is used.
//
// Some writes go the other way than chosen, so that both ways are timed: at first every second one, later one in
// kProbeEvery. Compressing pays if (compress + a page's part of a packed write + decompress) is clearly less than a
// page's part of a whole one. Timing both counts the distance to the donors and their own work on both sides: only what
// a shorter transfer saves tells. So nothing is compressed on links that are fast, or long rather than slow.
// The times of writes are medians: a busy machine makes some of them slow.
//
// One thread. Allocates nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace hecaton {

enum class Compression : uint8_t {
  kAuto,  // by measurement
  kOff,
  kOn,  // always, where a page shrinks
};

// Where nobody asked for it. The length of a compressed page tells about its content: not what sealed pages are to do.
constexpr Compression default_compression(bool sealed) {
  return sealed ? Compression::kOff : Compression::kAuto;
}

class CompressionChoice {
 public:
  explicit CompressionChoice(Compression wanted) : wanted_(wanted), on_(wanted == Compression::kOn) {}

  bool on() const { return on_; }
  // Whether measurements decide; if not, they need not be taken.
  bool measures() const { return wanted_ == Compression::kAuto; }
  // Whether the next write is to be packed. `timed`: it is large enough for its time to mean something.
  bool packs(bool timed);

  // What packing one page of this VM cost, whether it shrank or not, and unpacking it again.
  void worked(int64_t compress_ns, int64_t decompress_ns);
  // The donor acknowledged a timed write, with which the pipe was busy that long.
  void acknowledged(bool packed, uint64_t pages, int64_t busy_ns);

  static constexpr uint64_t kProbeEvery = 16;
  static constexpr size_t kWrites = 33;  // of each kind, the latest
  static constexpr size_t kLeastPages = 32;
  // Of the cost of whole pages: below the first compression starts, above the second it ends.
  static constexpr double kStartBelow = 0.8, kEndAbove = 0.95;

 private:
  // Nanoseconds a page.
  class Times {
   public:
    void add(double ns) { ns_[count_++ % kWrites] = ns; }
    bool enough() const { return count_ >= kWrites; }
    double median() const;

   private:
    std::array<double, kWrites> ns_{};
    size_t count_ = 0;
  };
  bool decided() const { return whole_.enough() && packed_.enough() && pages_ >= kLeastPages; }

  const Compression wanted_;
  bool on_;
  double compress_ns_ = 0, decompress_ns_ = 0;  // of a page; moving means
  size_t pages_ = 0;                            // that they are of
  uint64_t timed_writes_ = 0;
  Times whole_, packed_;
};

}  // namespace hecaton
