// Requests and answers over response channels (wire-protocol 5.9), from client to client over a link that loses frames.
#include <gtest/gtest.h>

#include <map>

#include "tests/support/appliance.hpp"
#include "tests/support/two_nodes.hpp"

namespace thalweg::test {
namespace {

constexpr std::int32_t kRequestStream = 10'000;
constexpr std::int32_t kAnswerStream = 10'001;

std::string text_of(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span{text}); }

// An application on b that answers each request on a publication of its own for each requester.
class Server {
 public:
  Server(TwoAppliances& both, const std::string& requests, std::string answers) : answers_{std::move(answers)} {
    client::Context context;
    context.on_available_image = [this](const std::shared_ptr<client::Image>& image) { unanswered_.push_back(image->correlation_id()); };
    client_ = both.connect(both.b, context);
    auto subscription = client_->add_subscription(requests, kRequestStream);
    if (!subscription) ADD_FAILURE() << subscription.error().message;
    requests_ = std::move(*subscription);
  }
  void work() {
    for (const std::int64_t image : std::exchange(unanswered_, {})) {
      auto publication = client_->add_publication(answers_ + "|response-correlation-id=" + std::to_string(image), kAnswerStream);
      if (!publication) ADD_FAILURE() << publication.error().message;
      answers_of_[image] = std::move(*publication);
    }
    requests_.poll([this](std::span<const std::byte> bytes, const client::Header& header) { waiting_.emplace_back(header.session_id(), text_of(bytes)); }, 10);
    std::erase_if(waiting_, [this](const auto& request) {
      const auto image = requests_.image_by_session(request.first);
      return image == nullptr || answers_of_.at(image->correlation_id()).offer(bytes_of("re: " + request.second)).ok();
    });
  }
  [[nodiscard]] std::size_t answering() const { return answers_of_.size(); }

 private:
  std::string answers_;
  std::shared_ptr<client::Client> client_;
  client::Subscription requests_;
  std::vector<std::int64_t> unanswered_;
  std::map<std::int64_t, client::Publication> answers_of_;   // by image
  std::vector<std::pair<std::int32_t, std::string>> waiting_;
};

// An application on a that asks.
class Requester {
 public:
  Requester(TwoAppliances& both, const std::string& requests, const std::string& answers) : client_{both.connect(both.a)} {
    auto subscription = client_->add_subscription(answers, kAnswerStream);
    if (!subscription) ADD_FAILURE() << subscription.error().message;
    answers_ = std::move(*subscription);
    auto publication = client_->add_exclusive_publication(requests + "|response-correlation-id=" + std::to_string(answers_.registration_id()), kRequestStream);
    if (!publication) ADD_FAILURE() << publication.error().message;
    requests_ = std::move(*publication);
  }
  [[nodiscard]] bool is_connected() const { return requests_.is_connected() && answers_.is_connected(); }
  bool ask(const std::string& text) { return requests_.offer(bytes_of(text)).ok(); }
  void poll() {
    answers_.poll([this](std::span<const std::byte> bytes, const client::Header&) { heard.push_back(text_of(bytes)); }, 10);
  }
  void close() {
    requests_.close();
    answers_.close();
    client_->close();
  }
  std::vector<std::string> heard;

 private:
  std::shared_ptr<client::Client> client_;
  client::Subscription answers_;
  client::ExclusivePublication requests_;
};

class ResponseChannels : public ::testing::Test {
 protected:
  void make(const TwoAppliances::Options& options = {}) {
    both = std::make_unique<TwoAppliances>(options);
    requests = std::string{"aeron:udp?term-length=64k|endpoint="} + TwoAppliances::kAddressB + ":" + std::to_string(free_udp_port());
    const std::string control = std::string{TwoAppliances::kAddressB} + ":" + std::to_string(free_udp_port());
    answers = "aeron:udp?term-length=64k|control-mode=response|control=" + control;
    server = std::make_unique<Server>(*both, requests, answers);
  }
  void TearDown() override {
    if (HasFailure() && both) std::fprintf(stderr, "errors of a:\n%serrors of b:\n%s", both->a.errors().c_str(), both->b.errors().c_str());
  }
  // Everybody works until the predicate holds.
  template <typename Predicate>
  bool run_until(std::vector<Requester*> requesters, Predicate&& predicate, std::int64_t limit_ns) {
    return both->run_until(
        [&] {
          server->work();
          for (Requester* each : requesters) each->poll();
          return predicate();
        },
        limit_ns);
  }
  // Each requester asks `count` things, and hears the answers to those and no others.
  void exchange(std::vector<Requester*> requesters, std::size_t count, const std::string& what) {
    std::vector<std::size_t> asked(requesters.size());
    std::vector<std::vector<std::string>> expected(requesters.size());
    for (std::size_t r = 0; r < requesters.size(); ++r) {
      requesters[r]->heard.clear();
      for (std::size_t i = 0; i < count; ++i) expected[r].push_back("re: " + what + " of " + std::to_string(r) + ": " + std::to_string(i));
    }
    const bool is_done = run_until(
        requesters,
        [&] {
          bool has_all = true;
          for (std::size_t r = 0; r < requesters.size(); ++r) {
            while (asked[r] < count && requesters[r]->ask(expected[r][asked[r]].substr(4))) ++asked[r];
            has_all = has_all && requesters[r]->heard.size() >= count;
          }
          return has_all;
        },
        20 * kSecond_ns);
    EXPECT_TRUE(is_done);
    for (std::size_t r = 0; r < requesters.size(); ++r) ASSERT_EQ(requesters[r]->heard, expected[r]) << "requester " << r;
  }

  std::unique_ptr<TwoAppliances> both;
  std::string requests, answers;
  std::unique_ptr<Server> server;
};

// proves 5.9/1, 5.9/2, 5.9/3, 5.9/5, 5.9/6, 5.9/7
TEST_F(ResponseChannels, each_requester_hears_the_answers_to_its_own_requests_over_a_link_that_loses_frames) {
  TwoAppliances::Options options;
  options.impair_a = {.loss_ppm = 50'000, .seed = 41};
  options.impair_b = {.loss_ppm = 50'000, .seed = 42};
  make(options);
  Requester first{*both, requests, answers};
  Requester second{*both, requests, answers};
  ASSERT_TRUE(run_until({&first, &second}, [&] { return first.is_connected() && second.is_connected(); }, 10 * kSecond_ns));
  EXPECT_EQ(server->answering(), 2U);
  exchange({&first, &second}, 500, "question");
}

TEST_F(ResponseChannels, an_answer_is_there_within_two_timer_points_of_the_request) {
  make();
  const std::int64_t begin_ns = both->now_ns;
  Requester only{*both, requests, answers};
  ASSERT_TRUE(run_until({&only}, [&] { return only.is_connected(); }, kSecond_ns));
  EXPECT_LE(both->now_ns - begin_ns, 250 * kMillisecond_ns) << "SETUP, RSP_SETUP, SM and the next 100 ms point";
  exchange({&only}, 10, "question");
}

// proves 2.11/8, 5.9/5
TEST_F(ResponseChannels, the_requester_is_told_no_more_once_it_hears_the_answers) {
  make();
  Requester only{*both, requests, answers};
  ASSERT_TRUE(run_until({&only}, [&] { return only.is_connected(); }, kSecond_ns));
  const auto told = [this] { return both->b.registry().lanes[0].counters[static_cast<std::size_t>(shm::LaneCounter::kResponseSetupsSent)]; };
  const std::uint64_t before = told();
  EXPECT_GE(before, 1U);
  run_until({&only}, [] { return false; }, 2 * kSecond_ns);
  EXPECT_EQ(told(), before);
}

TEST_F(ResponseChannels, both_sides_go_on_after_restarts_of_their_processes) {
  make();
  Requester first{*both, requests, answers};
  Requester second{*both, requests, answers};
  ASSERT_TRUE(run_until({&first, &second}, [&] { return first.is_connected() && second.is_connected(); }, kSecond_ns));
  exchange({&first, &second}, 50, "before");
  for (Appliance* one : {&both->a, &both->b}) {
    one->restart_control_plane();
    one->kill_data_plane();
    one->start_data_plane();
    exchange({&first, &second}, 50, one == &both->a ? "between" : "after");
  }
}

TEST_F(ResponseChannels, a_requester_may_come_again) {
  make();
  for (int round = 0; round < 3; ++round) {
    Requester one{*both, requests, answers};
    ASSERT_TRUE(run_until({&one}, [&] { return one.is_connected(); }, 5 * kSecond_ns)) << round;
    exchange({&one}, 20, "round " + std::to_string(round));
    one.close();
  }
}

TEST_F(ResponseChannels, answers_that_come_before_anybody_can_hear_them_wait) {
  make();
  Requester only{*both, requests, answers};
  // The server's answers are published as soon as its publication is there; it is not connected before the requester has asked for a SETUP.
  exchange({&only}, 1, "question");
}

}  // namespace
}  // namespace thalweg::test
