#include "store/link_set.h"

namespace hecaton {

Result<DonorClient*> Link::client() {
  std::string unsaid;  // it is told as the loss of a donor, with the error's own words
  if (!client_) HEC_TRY(set_->open(*this, &unsaid));
  return client_.get();
}

LinkSet::LinkSet(size_t donors, size_t most, Connect connect) : most_(most), connect_(std::move(connect)) {
  links_.reserve(donors);
  for (size_t donor = 0; donor < donors; ++donor) links_.emplace_back(*this, donor);
}

Result<void> LinkSet::open_all(std::string* problem) {
  for (Link& link : links_) HEC_TRY(open(link, problem));
  return {};
}

Result<void> LinkSet::watch(const Poller& poller) {
  poller_ = HEC_TRY(poller.share());
  for (size_t donor : opened_) HEC_TRY(poller_->add(links_[donor].client_->fd(), EPOLLIN, donor));
  return {};
}

Result<void> LinkSet::open(Link& link, std::string* problem) {
  if (opened_.size() >= most_) close_one();
  std::unique_ptr<DonorClient> client = HEC_TRY(connect_(link.donor_, problem));
  if (poller_) HEC_TRY(poller_->add(client->fd(), EPOLLIN, link.donor_));
  link.client_ = std::move(client);
  opened_.push_back(link.donor_);
  open_links_ = opened_.size();
  return {};
}

// The one that was opened first of those that owe nothing.
void LinkSet::close_one() {
  for (size_t looked = 0, all = opened_.size(); looked < all; ++looked) {
    const size_t donor = opened_.front();
    opened_.pop_front();
    if (links_[donor].client_->idle()) {
      links_[donor].client_.reset();
      return;
    }
    opened_.push_back(donor);
  }
}

}  // namespace hecaton
