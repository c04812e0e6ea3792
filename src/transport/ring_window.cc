#include "transport/ring_window.h"

#include <algorithm>

#include "base/check.h"

namespace hecaton {
namespace {

// The reader tells when this part of the ring, or of the messages, was read: seldom enough to cost nothing, and while
// the writer still has the larger part free.
constexpr uint32_t kTellPart = 4;

}  // namespace

void MessageQueue::push(uint32_t bytes) {
  HEC_CHECK(!full());
  lengths_[(first_ + count_++) % lengths_.size()] = bytes;
}

uint32_t MessageQueue::pop() {
  HEC_CHECK(!empty());
  uint32_t bytes = lengths_[first_];
  first_ = static_cast<uint32_t>((first_ + 1) % lengths_.size());
  --count_;
  return bytes;
}

SendWindow::SendWindow(uint32_t ring_bytes, uint32_t most_messages)
    : ring_bytes_(ring_bytes), on_their_way_(most_messages) {}

RingPlace SendWindow::next(uint64_t wanted) const {
  if (on_their_way_.full()) return {};
  uint32_t room = std::min(ring_bytes_ - used_, ring_bytes_ - at_);
  return {at_, static_cast<uint32_t>(std::min<uint64_t>(wanted, room))};
}

void SendWindow::posted(uint32_t bytes) {
  HEC_CHECK(bytes > 0 && bytes <= next(bytes).bytes);
  on_their_way_.push(bytes);
  used_ += bytes;
  at_ = (at_ + bytes) % ring_bytes_;
}

void SendWindow::completed() {
  HEC_CHECK(completed_ < on_their_way_.size());
  ++completed_;
  free_space();
}

bool SendWindow::read_by_peer(uint32_t messages) {
  if (messages > on_their_way_.size() - read_) return false;
  read_ += messages;
  free_space();
  return true;
}

// A message's space is free when the other side has read it and this side's own post of it is done: it might have to
// be sent again until then.
void SendWindow::free_space() {
  for (; read_ > 0 && completed_ > 0; --read_, --completed_) used_ -= on_their_way_.pop();
}

ReceiveWindow::ReceiveWindow(uint32_t ring_bytes, uint32_t most_messages)
    : ring_bytes_(ring_bytes), most_messages_(most_messages), waiting_(most_messages) {}

bool ReceiveWindow::arrived(uint32_t bytes) {
  if (bytes == 0 || bytes > ring_bytes_ - used_ || bytes > ring_bytes_ - end_) return false;
  if (waiting_.size() + untold_messages_ >= most_messages_) return false;
  waiting_.push(bytes);
  used_ += bytes;
  end_ = (end_ + bytes) % ring_bytes_;
  return true;
}

RingPlace ReceiveWindow::readable() const {
  if (waiting_.empty()) return {};
  return {at_, waiting_.front() - front_taken_};
}

void ReceiveWindow::took(uint32_t bytes) {
  HEC_CHECK(bytes > 0 && bytes <= readable().bytes);
  at_ = (at_ + bytes) % ring_bytes_;
  front_taken_ += bytes;
  if (front_taken_ < waiting_.front()) return;
  untold_bytes_ += waiting_.pop();
  ++untold_messages_;
  front_taken_ = 0;
}

uint32_t ReceiveWindow::to_tell() const {
  bool enough = untold_messages_ >= most_messages_ / kTellPart || untold_bytes_ >= ring_bytes_ / kTellPart;
  return enough ? untold_messages_ : 0;
}

void ReceiveWindow::told() {
  used_ -= untold_bytes_;
  untold_messages_ = untold_bytes_ = 0;
}

}  // namespace hecaton
