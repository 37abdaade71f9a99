#pragma once
#include <gtest/gtest.h>

#include "tests/support/lab.hpp"

// What tests of groups and of many destinations have in common: real clients, conductors and data planes on a switch, with simulated time.
namespace thalweg::test {

inline constexpr std::int32_t kStream = 1001;

inline std::string text_of(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

inline std::vector<std::string> make_messages(std::size_t count, std::size_t first = 0) {
  std::vector<std::string> all;
  for (std::size_t i = first; i < first + count; ++i) {
    std::string text = std::to_string(i) + " ";
    text.resize(text.size() + i * 37 % 3000, static_cast<char>('a' + i % 26));
    all.push_back(std::move(text));
  }
  return all;
}

// A subscriber with all it received.
struct Receiver {
  std::shared_ptr<client::Client> client;
  client::Subscription subscription;
  std::vector<std::string> received;
  std::unique_ptr<client::FragmentAssembler<std::function<void(std::span<const std::byte>, const client::Header&)>>> assembler;
  int lost_images{};

  void poll() { subscription.poll(*assembler, 20); }
};

// One publisher and several receivers, in appliances on one switch.
class ManyReceivers : public ::testing::Test {
 protected:
  void TearDown() override {
    if (HasFailure() && lab) {
      std::fprintf(stderr, "%sconnected: publication %d", lab->errors().c_str(), publication && publication.is_connected());
      for (const auto& r : receivers) std::fprintf(stderr, ", receiver %d with %zu messages", r->subscription && r->subscription.is_connected(), r->received.size());
      std::fprintf(stderr, "\n");
    }
    receivers.clear();
    publication = {};
    publish.reset();
  }
  void make(std::size_t nodes, const pmd::ImpairmentOptions& impairment = {}) { lab = std::make_unique<Lab>(Lab::Options{.nodes = nodes, .impairment = impairment, .adjust = {}}); }
  Receiver& receive(std::size_t node, const std::string& channel) {
    auto& r = *receivers.emplace_back(std::make_unique<Receiver>());
    client::Context context;
    context.on_unavailable_image = [&r](const std::shared_ptr<client::Image>&) { ++r.lost_images; };
    r.client = lab->connect(node, context);
    auto subscribed = r.client->add_subscription(channel, kStream);
    EXPECT_TRUE(subscribed) << subscribed.error().message;
    if (subscribed) r.subscription = std::move(*subscribed);
    r.assembler = std::make_unique<client::FragmentAssembler<std::function<void(std::span<const std::byte>, const client::Header&)>>>(
        [&r](std::span<const std::byte> message, const client::Header&) { r.received.push_back(text_of(message)); });
    return r;
  }
  void publish_on(std::size_t node, const std::string& channel) {
    publish = lab->connect(node);
    auto published = publish->add_publication(channel, kStream);
    ASSERT_TRUE(published) << published.error().message;
    publication = std::move(*published);
  }
  bool connect() {
    return lab->run_until(
        [&] {
          return publication.is_connected() && std::all_of(receivers.begin(), receivers.end(), [](const auto& r) { return r->subscription.is_connected(); });
        },
        5 * kSecond_ns);
  }
  bool transfer(const std::vector<std::string>& messages, std::int64_t limit_ns = 20 * kSecond_ns) {
    std::size_t offered = 0;
    std::vector<std::size_t> wanted;
    for (const auto& r : receivers) wanted.push_back(r->received.size() + messages.size());
    return lab->run_until(
        [&] {
          while (offered < messages.size() && publication.offer(std::as_bytes(std::span{messages[offered]}))) ++offered;
          bool is_done = true;
          for (std::size_t i = 0; i < receivers.size(); ++i) {
            receivers[i]->poll();
            is_done &= receivers[i]->received.size() >= wanted[i];
          }
          return is_done;
        },
        limit_ns);
  }

  std::unique_ptr<Lab> lab;
  std::shared_ptr<client::Client> publish;
  client::Publication publication;
  std::vector<std::unique_ptr<Receiver>> receivers;
};

}  // namespace thalweg::test
