#include "pager/repairer.h"

#include <algorithm>

namespace hecaton {

Repairer::Repairer(PagerState& state, const DonorStates& states, RepairBackend& backend, uint64_t bytes_per_second)
    : state_(state),
      states_(states),
      backend_(backend),
      bytes_per_second_(bytes_per_second),
      seal_(PageSeal::of(state.seal)) {
  pages_.reserve(kPagesPerExtent);
  again_.reserve(kPagesPerExtent);
  versions_.reserve(kPagesPerExtent);
  entries_.reserve(kPiecePages);
  pieces_.reserve(kPiecePages);
}

void Repairer::look_again() {
  if (looking_) {
    from_start_ = true;
  } else {
    looking_ = true;
    next_ = 0;
    lacking_now_ = 0;
  }
}

void Repairer::step(int64_t now_ns) {
  if (waiting_ != Waiting::kNothing || now_ns < next_piece_ns_) return;
  if (!extent_ && !find_work()) return;
  if (done_ == pages_.size() && !try_again()) return finish();
  copy_piece(now_ns);
}

// The next extent that needs a copy; some of the table at a time.
bool Repairer::find_work() {
  constexpr uint64_t kLooks = 4096;
  for (uint64_t looks = 0; looking_ && looks < kLooks; ++looks) {
    if (next_ == state_.placement.extents()) {
      lacking_copies_ = lacking_now_;
      looking_ = from_start_;
      from_start_ = false;
      next_ = 0;
      lacking_now_ = 0;
      continue;
    }
    if (begin(ExtentNumber(next_++))) return true;
  }
  return false;
}

bool Repairer::begin(ExtentNumber extent) {
  PlacementTable& placement = state_.placement;
  CopySet copies = placement.copies_of(extent);
  if (copies.empty()) return false;
  if (placement.under_protected(extent)) copies = backend_.place(extent);
  const size_t lasting = placement.lasting_copies(copies);
  if (lasting < placement.wanted()) lacking_now_ += placement.wanted() - lasting;
  const std::optional<size_t> source = source_of(copies);
  if (!source) return false;  // its last copy cannot be asked now: what changes that is told
  for (size_t i = 0; i < copies.size(); ++i) {
    if (copies[i].complete || !backend_.usable(copies[i].donor)) continue;
    extent_ = extent;
    target_ = copies[i].donor;
    source_ = *source;
    list_pages();
    return true;
  }
  extent_ = extent;
  drop_leaving();
  extent_.reset();
  return false;
}

std::optional<size_t> Repairer::source_of(CopySet copies, std::optional<size_t> avoid) const {
  std::optional<size_t> source;
  for (size_t i = 0; i < copies.size(); ++i) {
    if (!copies[i].complete || !states_.connected(copies[i].donor) || copies[i].donor == avoid) continue;
    if (!source || (states_.live(copies[i].donor) && state_.placement.is_local_disk(*source))) source = copies[i].donor;
  }
  return source;
}

void Repairer::list_pages() {
  pages_.clear();
  again_.clear();
  done_ = 0;
  tries_ = 0;
  const uint64_t end = std::min(state_.table.pages(), (extent_->value + 1) * kPagesPerExtent);
  for (PageNumber page(extent_->value * kPagesPerExtent); page.value < end; ++page) {
    const PageStatus status = state_.table.get(page);
    if (status.held && status.state != PageState::kDirty && status.state != PageState::kAbsent) pages_.push_back(page);
  }
}

// The pages that came damaged once more, from another copy if there is one. False: there are none, or it is of no use.
bool Repairer::try_again() {
  if (again_.empty()) return false;
  if (++tries_ == kMostTries) {
    unreadable_pages_ += again_.size();
    return false;
  }
  source_ = source_of(state_.placement.copies_of(*extent_), source_).value_or(source_);
  pages_.swap(again_);
  again_.clear();
  done_ = 0;
  return true;
}

void Repairer::copy_piece(int64_t now_ns) {
  piece_ = std::min(kPiecePages, pages_.size() - done_);
  versions_.clear();
  const auto piece = std::span(pages_).subspan(done_, piece_);
  for (PageNumber page : piece) versions_.push_back(state_.table.get(page).version);
  next_piece_ns_ = now_ns + static_cast<int64_t>(piece_ * kPageBytes * 1'000'000'000 / bytes_per_second_);
  waiting_ = Waiting::kRead;
  if (!backend_.repair_read(++piece_number_, source_, piece)) abandon();
}

// What is Dirty or Absent, or has changed since it was asked for, leaves anew, to this copy too. (What is Leaving with
// the version that was asked for may be clean, and then it is not sent.)
bool Repairer::settled_elsewhere(PageNumber page, uint32_t version_then) const {
  const PageStatus now = state_.table.get(page);
  return now.version != version_then || now.state == PageState::kDirty || now.state == PageState::kAbsent;
}

Result<void> Repairer::on_read(uint64_t piece, wire::Status status, std::span<const std::byte> body) {
  if (waiting_ != Waiting::kRead || piece != piece_number_) return {};
  waiting_ = Waiting::kNothing;
  if (status != wire::Status::kOk) {
    abandon();
    return {};
  }
  wire::PageSetView answer = HEC_TRY(wire::PageSetView::decode(body));
  if (answer.size() != piece_) return Error{ErrorCode::kProtocol, 0, "the donor answered with other pages"};
  entries_.clear();
  pieces_.clear();
  wire::PageSetCursor answers(answer);
  for (size_t i = 0; i < piece_; ++i) {
    const PageNumber page = pages_[done_ + i];
    const auto got = answers.next();
    if (got->entry.page != page) return Error{ErrorCode::kProtocol, 0, "the donor answered with another page"};
    if (settled_elsewhere(page, versions_[i])) continue;
    if (got->entry.state != wire::PageState::kPresent || got->entry.version != versions_[i] ||
        !intact(got->entry, got->stored)) {
      again_.push_back(page);  // damaged on the way, or there
      continue;
    }
    entries_.push_back(got->entry);
    pieces_.push_back({const_cast<std::byte*>(got->stored.data()), got->stored.size()});
  }
  if (entries_.empty()) {
    done_ += piece_;
    return {};
  }
  waiting_ = Waiting::kWrite;
  if (!backend_.repair_write(piece_number_, target_, entries_, pieces_)) abandon();
  return {};
}

// A donor that lies about a sealed page must not get its lie to the other copies. The record is read by the thread that
// writes it, and belongs to the version that the table names.
bool Repairer::intact(const wire::PageEntry& entry, std::span<const std::byte> stored) {
  if (wire::page_checksum(stored, entry.page, entry.version) != entry.checksum) return false;
  return !seal_ || seal_->open(entry.page, entry.version, stored, opened_.data());
}

Result<void> Repairer::on_written(uint64_t piece, wire::Status status, std::span<const std::byte> body) {
  if (waiting_ != Waiting::kWrite || piece != piece_number_) return {};
  waiting_ = Waiting::kNothing;
  if (status == wire::Status::kFull || status == wire::Status::kResources) {
    state_.placement.set_open(target_, false);
    state_.placement.drop(*extent_, target_);
    backend_.forget_extent(target_, *extent_);
    abandon();
    return {};
  }
  if (status == wire::Status::kRefused) {
    return Error{ErrorCode::kClosed, 0, "a later connection writes to the donor now"};
  }
  if (status != wire::Status::kOk) return Error{ErrorCode::kProtocol, 0, wire::name_of(status)};
  wire::PageListView rejected = HEC_TRY(wire::decode_write_reply(body));
  // Damaged on the way.
  for (size_t i = 0; i < rejected.size(); ++i) {
    const auto sent = std::find_if(entries_.begin(), entries_.end(),
                                   [&](const wire::PageEntry& entry) { return entry.page == rejected[i]; });
    if (sent == entries_.end() || i == entries_.size()) {
      return Error{ErrorCode::kProtocol, 0, "the donor rejected a page that was not sent"};
    }
    again_.push_back(rejected[i]);
  }
  for (const wire::PageEntry& entry : entries_) copied_bytes_ += entry.stored_bytes;
  done_ += piece_;
  return {};
}

void Repairer::finish() {
  if (state_.placement.copies_of(*extent_).has(target_)) {
    state_.placement.complete(*extent_, target_);
    drop_leaving();
  }
  // It may need yet another copy.
  next_ = std::min(next_, extent_->value);
  extent_.reset();
}

// What is at a leaving donor is not needed any more once there are enough complete copies without it. Of two leaving
// ones, one goes as soon as a new copy has come: there would be no place for the next one.
void Repairer::drop_leaving() {
  PlacementTable& placement = state_.placement;
  const CopySet copies = placement.copies_of(*extent_);
  size_t good = 0;
  for (size_t i = 0; i < copies.size(); ++i) good += copies[i].complete && states_.live(copies[i].donor);
  for (size_t i = 0; i < copies.size(); ++i) {
    const CopySet::Copy copy = copies[i];
    const size_t without = good - (copy.complete && states_.live(copy.donor));
    if (!placement.is_leaving(copy.donor) || without < placement.wanted()) continue;
    placement.drop(*extent_, copy.donor);
    backend_.forget_extent(copy.donor, *extent_);
    good = without;
  }
}

void Repairer::give_up(size_t donor) {
  if (extent_ && (donor == source_ || donor == target_)) abandon();
}

void Repairer::copy_dropped(ExtentNumber extent, size_t donor) {
  if (extent_ == extent) give_up(donor);
}

// Another look begins with it anew.
void Repairer::abandon() {
  waiting_ = Waiting::kNothing;
  extent_.reset();
  look_again();
}

}  // namespace hecaton
