#include "store/write_fanout.h"

#include <algorithm>

namespace hecaton {

WriteFanout::WriteFanout(size_t batches) : batches_(batches) {
  HEC_CHECK(batches <= 1u << kBatchBits);
  for (Batch& batch : batches_) batch.rejected.reserve(CopySet::kMost * wire::kMaxPagesPerFrame);
  rejected_.reserve(CopySet::kMost * wire::kMaxPagesPerFrame);
}

uint64_t WriteFanout::begin(uint64_t number, ExtentNumber extent, CopySet copies) {
  HEC_CHECK(number < batches_.size() && !batches_[number].used && !copies.empty());
  Batch& batch = batches_[number];
  batch.used = true;
  batch.failed = false;
  ++batch.generation;
  batch.extent = extent;
  batch.copies = copies;
  batch.owing = copies;
  batch.rejected.clear();
  return static_cast<uint64_t>(batch.generation) << kBatchBits | number;
}

Result<WriteFanout::Answer> WriteFanout::answered(uint64_t id, size_t donor, CopySet copies_now, wire::Status status,
                                                  std::span<const std::byte> body) {
  Answer answer;
  answer.batch = id & ((1u << kBatchBits) - 1);
  if (answer.batch >= batches_.size()) return Error{ErrorCode::kProtocol, 0, "the donor answered what was not sent"};
  Batch& batch = batches_[answer.batch];
  if (!batch.used || static_cast<uint32_t>(id >> kBatchBits) != batch.generation || !batch.owing.has(donor)) {
    return answer;
  }
  answer.known = true;
  if (status == wire::Status::kOk) {
    wire::PageListView rejected = HEC_TRY(wire::decode_write_reply(body));
    for (size_t i = 0; i < rejected.size(); ++i) {
      if (extent_of(rejected[i]) != batch.extent || batch.rejected.size() == batch.rejected.capacity()) {
        return Error{ErrorCode::kProtocol, 0, "the donor rejected a page that was not sent"};
      }
      batch.rejected.push_back(rejected[i]);
    }
  } else if (status == wire::Status::kFull || status == wire::Status::kResources) {
    batch.failed = true;
    answer.full = true;
  } else if (status == wire::Status::kRefused) {
    return Error{ErrorCode::kClosed, 0, "a later connection writes to the donor now"};
  } else {
    return Error{ErrorCode::kProtocol, 0, wire::name_of(status)};
  }
  batch.owing = batch.owing.without(donor);  // not before: what breaks the protocol is still owed, and given up
  if (!batch.owing.empty()) return answer;
  answer.settled = true;
  answer.failed = batch.failed || !copies_now.same_donors(batch.copies);
  batch.used = false;
  std::swap(rejected_, batch.rejected);
  return answer;
}

std::optional<ExtentNumber> WriteFanout::owes(uint64_t number, size_t donor) const {
  const Batch& batch = batches_[number];
  if (!batch.used || !batch.owing.has(donor)) return std::nullopt;
  return batch.extent;
}

}  // namespace hecaton
