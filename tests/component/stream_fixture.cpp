#include "tests/component/stream_fixture.hpp"

namespace thalweg::test {

std::vector<std::string> make_messages(std::size_t count, std::size_t least, std::size_t most, std::uint64_t seed) {
  Random random{seed};
  std::vector<std::string> all;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t length = least + static_cast<std::size_t>(random.below(most - least + 1));
    std::string text = std::to_string(i) + ' ';
    text.resize(std::max(text.size(), length), static_cast<char>('a' + i % 26));
    for (std::size_t at = 16; at + 8 <= text.size(); at += 64) {
      const std::uint64_t word = random.next();
      std::memcpy(text.data() + at, &word, sizeof word);
    }
    all.push_back(std::move(text));
  }
  return all;
}

Frame udp(const wire::UdpFrameTemplate::Options& options, const Frame& payload) {
  const wire::UdpFrameTemplate header{options};
  Frame frame(std::max<std::size_t>(header.length() + payload.size(), 60));
  header.write(frame.data(), payload.size());
  if (!payload.empty()) std::memcpy(frame.data() + header.length(), payload.data(), payload.size());
  return frame;
}

StreamTest::~StreamTest() {
  if (!nodes) return;
  // What is under way may arrive; then nobody holds a buffer.
  *nodes->a.filter = [](rte_mbuf*) { return true; };
  *nodes->b.filter = [](rte_mbuf*) { return true; };
  nodes->run_for(5 * kMillisecond_ns);
  EXPECT_EQ(nodes->mbufs_in_use(), 0U) << "a path leaked an mbuf";
}

void StreamTest::connect(FakeControl::PublicationOptions p, FakeControl::SubscriptionOptions s) {
  if (!nodes) make_nodes();
  s.local = {TwoNodes::kAddressB, kPort};
  p.remote = s.local;
  s.stream_id = p.stream_id;
  nodes->b.control.add_subscription(s);
  publication = nodes->a.control.add_publication(p);
  ASSERT_TRUE(run_until([this] { return sender().is_connected != 0 && sender().publisher_limit > sender().sender_position; }, 5 * kSecond_ns));
  ASSERT_GE(nodes->b.control.images().size(), 1U);
}

bool StreamTest::transfer(const std::vector<std::string>& messages, std::int64_t limit_ns) {
  std::size_t offered = 0;
  const std::size_t wanted = subscriber().messages().size() + messages.size();
  return run_until(
      [&] {
        while (offered < messages.size() && publisher().offer(bytes(messages[offered]))) ++offered;
        subscriber().poll();
        return subscriber().messages().size() >= wanted;
      },
      limit_ns);
}

void StreamTest::expect_transfer(const std::vector<std::string>& messages, std::int64_t limit_ns) {
  subscriber().discard();
  EXPECT_TRUE(transfer(messages, limit_ns)) << subscriber().messages().size() << " of " << messages.size() << " arrived";
  const std::vector<std::string>& got = subscriber().messages();
  ASSERT_EQ(got.size(), messages.size());
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i], messages[i]) << "message " << i;
}

}  // namespace thalweg::test
