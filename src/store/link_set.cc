#include "store/link_set.h"

#include <algorithm>
#include <cerrno>

namespace hecaton {
namespace {

bool out_of_descriptors(const Error& error) {
  return error.os_error == EMFILE || error.os_error == ENFILE;
}

}  // namespace

Result<DonorClient*> Link::client() {
  std::string unsaid;  // it is told as the loss of a donor, with the error's own words
  if (!client_) HEC_TRY(set_->open(*this, &unsaid));
  return client_.get();
}

LinkSet::LinkSet(size_t donors, size_t most, Connect connect) : most_(most), connect_(std::move(connect)) {
  for (size_t donor = 0; donor < donors; ++donor) links_.emplace_back(*this, donor);
}

Result<void> LinkSet::watch(const Poller& poller) {
  poller_ = HEC_TRY(poller.share());
  for (size_t donor : opened_) HEC_TRY(poller_->add(links_[donor].client_->fd(), EPOLLIN, donor));
  return {};
}

Result<void> LinkSet::open(Link& link, std::string* problem) {
  if (opened_.size() >= most_) close_one();
  Result<std::unique_ptr<DonorClient>> client = connect_(link.donor_, problem);
  // This process may have no more descriptors: that is no fault of the donor's.
  while (!client.ok() && out_of_descriptors(client.error()) && close_one()) client = connect_(link.donor_, problem);
  return client.ok() ? adopt(link, std::move(client).value()) : client.error();
}

Result<void> LinkSet::adopt(Link& link, std::unique_ptr<DonorClient> client) {
  if (poller_) HEC_TRY(poller_->add(client->fd(), EPOLLIN, link.donor_));
  link.client_ = std::move(client);
  opened_.push_back(link.donor_);
  open_links_ = opened_.size();
  return {};
}

Result<void> LinkSet::add(std::unique_ptr<DonorClient> client) {
  Link& link = links_.emplace_back(*this, links_.size());
  return client ? adopt(link, std::move(client)) : Result<void>();
}

void LinkSet::close(size_t donor) {
  if (!links_[donor].client_) return;
  links_[donor].client_.reset();
  opened_.erase(std::find(opened_.begin(), opened_.end(), donor));
  open_links_ = opened_.size();
}

// The one that was opened first of those that owe nothing. False: there is none.
bool LinkSet::close_one() {
  for (size_t looked = 0, all = opened_.size(); looked < all; ++looked) {
    const size_t donor = opened_.front();
    opened_.pop_front();
    if (links_[donor].client_->idle()) {
      links_[donor].client_.reset();
      open_links_ = opened_.size();
      return true;
    }
    opened_.push_back(donor);
  }
  return false;
}

}  // namespace hecaton
