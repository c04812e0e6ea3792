// Several nodes of one VM in this process, connected over loopback.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "node/node.h"

namespace hecaton::node {

// At any port.
inline TcpListener listen_on_loopback() {
  return TcpListener::listen(NodeUrl{.token = {}, .host = "127.0.0.1", .port = 0}).value();
}

class Cluster {
 public:
  explicit Cluster(std::vector<uint64_t> pages, std::function<void(NodeConfig&)> adapt = {}) {
    NodeConfig config;
    config.pages = std::move(pages);
    config.hold_ns = 20'000;
    config.silence_ms = 60'000;  // a machine under test may pause for long
    config.seek_neighbour = false;
    std::vector<TcpListener> listeners;
    for (size_t i = 0; i < config.pages.size(); ++i) {
      listeners.push_back(listen_on_loopback());
      config.nodes.push_back(listeners.back().address());
    }
    if (adapt) adapt(config);
    nodes_.resize(config.pages.size());
    std::vector<std::thread> starts;
    for (size_t i = 0; i < nodes_.size(); ++i) {
      starts.emplace_back([this, i, mine = config, listener = std::move(listeners[i])]() mutable {
        mine.self = NodeId(i);
        Result<std::unique_ptr<Node>> started = Node::start(mine, std::move(listener));
        ASSERT_TRUE(started.ok()) << started.error().describe();
        nodes_[i] = std::move(started).value();
      });
    }
    for (std::thread& start : starts) start.join();
  }

  Node& operator[](size_t i) { return *nodes_[i]; }
  size_t size() const { return nodes_.size(); }
  void end(size_t i) { nodes_[i].reset(); }

  // A word of guest memory, as the processors of node `i` see it.
  std::atomic_ref<uint64_t> word(size_t i, uint64_t page, size_t at = 0) {
    return std::atomic_ref<uint64_t>(reinterpret_cast<uint64_t*>(nodes_[i]->memory() + page * kPageBytes)[at]);
  }
  // Runs at all nodes at once, a thread each.
  void at_all(const std::function<void(size_t)>& what) {
    std::vector<std::thread> threads;
    for (size_t i = 0; i < nodes_.size(); ++i) threads.emplace_back([&, i] { what(i); });
    for (std::thread& thread : threads) thread.join();
  }

 private:
  std::vector<std::unique_ptr<Node>> nodes_;
};

}  // namespace hecaton::node
