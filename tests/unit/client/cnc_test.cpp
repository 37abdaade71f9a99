#include "dataplane/client/cnc.hpp"

#include <fstream>

#include "dataplane/shm/ring_buffer.hpp"
#include "tests/unit/client/fixture.hpp"

namespace thalweg::client::test {
namespace {

class Outside : public WithDriver {};

TEST_F(Outside, reads_what_the_driver_says_of_itself) {
  start_driver();
  const auto cnc = Cnc::open(directory_.path());
  ASSERT_TRUE(cnc) << cnc.error().message;
  EXPECT_EQ(cnc->directory(), directory_.path());
  EXPECT_EQ(cnc->version(), 0x200);
  EXPECT_EQ(cnc->pid(), 4242);
  EXPECT_EQ(cnc->start_ms(), epoch_ms_);
  EXPECT_EQ(cnc->page_size(), 4096);
  EXPECT_EQ(cnc->client_liveness_timeout(), std::chrono::seconds{10});
  EXPECT_EQ(cnc->counters().label(0), "Bytes sent");
}

TEST_F(Outside, tells_a_live_driver_from_a_dead_one) {
  start_driver();
  const auto cnc = Cnc::open(directory_.path());
  ASSERT_TRUE(cnc);
  EXPECT_EQ(cnc->heartbeat_ms(), epoch_ms_);
  EXPECT_TRUE(cnc->is_driver_alive(std::chrono::seconds{10}, epoch_ms_ + 10'000));
  EXPECT_FALSE(cnc->is_driver_alive(std::chrono::seconds{10}, epoch_ms_ + 10'001));
  driver_->set_heartbeat(-1);
  EXPECT_FALSE(cnc->is_driver_alive(std::chrono::seconds{10}, epoch_ms_));
}

TEST_F(Outside, says_why_there_is_nothing_to_read) {
  EXPECT_EQ(Cnc::open(directory_.path()).error().code, ErrorCode::kNotFound);
  options_.is_ready = false;
  start_driver();
  EXPECT_EQ(Cnc::open(directory_.path()).error().code, ErrorCode::kUnreachable);
  driver_->mark_ready();
  EXPECT_TRUE(Cnc::open(directory_.path()));
  const std::int32_t other = 0x00010000;
  std::fstream file{directory_.file("cnc.dat"), std::ios::in | std::ios::out | std::ios::binary};
  file.write(reinterpret_cast<const char*>(&other), sizeof other);
  file.close();
  EXPECT_EQ(Cnc::open(directory_.path()).error().code, ErrorCode::kVersion);
}

TEST_F(Outside, lists_errors_and_losses) {
  start_driver();
  shm::DistinctErrorLog log{driver_->cnc().error_log()};
  log.record(-1, "first", epoch_ms_);
  log.record(-1, "second", epoch_ms_ + 1);
  log.record(-1, "first", epoch_ms_ + 2);
  auto without_report = Cnc::open(directory_.path());
  ASSERT_TRUE(without_report);
  without_report->for_each_loss([](const shm::LossReportEntry&) { ADD_FAILURE() << "there is no report"; });

  auto file = shm::MappedFile::create(directory_.file("loss-report.dat"), {.length = 4096});
  shm::LossReport report{{file->data(), 4096}};
  const auto entry = report.create_entry(1408, epoch_ms_, 5, 10, "aeron:udp?endpoint=a:1", "10.0.0.1:40123");
  report.record(entry, 2816, epoch_ms_ + 7);
  const auto cnc = Cnc::open(directory_.path());
  ASSERT_TRUE(cnc);
  std::vector<std::string> errors;
  cnc->for_each_error([&](const shm::ErrorLogEntry& e) { errors.push_back(std::to_string(e.observation_count) + " " + std::string{e.text}); });
  EXPECT_EQ(errors, (std::vector<std::string>{"2 first", "1 second"}));
  int losses = 0;
  cnc->for_each_loss([&](const shm::LossReportEntry& loss) {
    ++losses;
    EXPECT_EQ(loss.observation_count, 2);
    EXPECT_EQ(loss.bytes_lost, 1408 + 2816);
    EXPECT_EQ(loss.last_ms, epoch_ms_ + 7);
    EXPECT_EQ(loss.session_id, 5);
    EXPECT_EQ(loss.channel, "aeron:udp?endpoint=a:1");
    EXPECT_EQ(loss.source, "10.0.0.1:40123");
  });
  EXPECT_EQ(losses, 1);
}

TEST_F(Outside, counts_commands_that_nobody_reads) {
  start_driver();
  driver_->hold_answers(true);
  const auto cnc = Cnc::open(directory_.path());
  ASSERT_TRUE(cnc);
  EXPECT_EQ(cnc->command_backlog(), 0);
  start_client();
  ASSERT_TRUE(client_->async_add_subscription(kChannel, kStream));
  EXPECT_GT(cnc->command_backlog(), 0);
}

TEST_F(Outside, asks_a_living_driver_to_end) {
  EXPECT_FALSE(*is_driver_active(directory_.path()));
  EXPECT_EQ(request_driver_termination(directory_.path()).error().code, ErrorCode::kNotFound);
  start_driver();
  EXPECT_EQ(request_driver_termination(directory_.path()).error().code, ErrorCode::kUnreachable) << "its heartbeat is years old";
  EXPECT_FALSE(*is_driver_active(directory_.path()));
  driver_->set_heartbeat(epoch_ms());
  EXPECT_TRUE(*is_driver_active(directory_.path()));
  EXPECT_TRUE(request_driver_termination(directory_.path(), bytes_of("please")));
  driver_->do_work();
  ASSERT_EQ(driver_->count(shm::Command::kTerminateDriver), 1);
  EXPECT_EQ(text_of(shm::decode<shm::TerminateDriver>(driver_->seen().back().body)->token), "please");
  const std::string long_token(1 << 20, 'x');
  EXPECT_EQ(request_driver_termination(directory_.path(), bytes_of(long_token)).error().code, ErrorCode::kInvalidArgument);
}

class Counters : public WithDriver {
 protected:
  void SetUp() override {
    start_driver();
    first_ = add(1001, 501, 7, "first");
    second_ = add(1002, 501, 8, "second");
    third_ = add(1001, 502, 9, "third");
    cnc_.emplace(std::move(*Cnc::open(directory_.path())));
  }
  std::int32_t add(std::int32_t type, std::int64_t registration, std::int64_t reference, std::string_view label) {
    return *driver_->counters().allocate({.type_id = type, .label = label, .registration_id = registration, .owner_id = 3, .reference_id = reference, .initial_value = 40 + reference},
                                         epoch_ms_);
  }
  std::int32_t first_{}, second_{}, third_{};
  std::optional<Cnc> cnc_;
};

TEST_F(Counters, are_found_by_type_and_registration) {
  const CountersReader counters = cnc_->counters();
  EXPECT_EQ(counters.find(1001, 502)->id, third_);
  EXPECT_EQ(counters.find(1002, 501)->label, "second");
  EXPECT_FALSE(counters.find(1002, 502));
  std::vector<std::int32_t> ids;
  counters.for_each_of_type(1001, [&](const CountersReader::View& view) { ids.push_back(view.id); });
  EXPECT_EQ(ids, (std::vector{first_, third_}));
}

TEST_F(Counters, tell_everything_about_themselves) {
  const CountersReader counters = cnc_->counters();
  EXPECT_EQ(counters.state(second_), shm::CounterState::kAllocated);
  EXPECT_EQ(counters.type_id(second_), 1002);
  EXPECT_EQ(counters.value(second_), 48);
  EXPECT_EQ(counters.registration_id(second_), 501);
  EXPECT_EQ(counters.owner_id(second_), 3);
  EXPECT_EQ(counters.reference_id(second_), 8);
  EXPECT_EQ(counters.label(second_), "second");
  EXPECT_EQ(counters.reuse_deadline_ms(second_), std::numeric_limits<std::int64_t>::max());
}

TEST_F(Counters, that_are_freed_are_known_until_somebody_else_gets_them) {
  const CountersReader counters = cnc_->counters();
  const auto view = counters.find(first_);
  ASSERT_TRUE(view);
  EXPECT_TRUE(counters.is_same(*view));
  driver_->counters().free(first_, epoch_ms_);
  EXPECT_FALSE(counters.is_same(*view));
  EXPECT_EQ(counters.state(first_), shm::CounterState::kReclaimed);
  EXPECT_EQ(counters.label(first_), "first");
  EXPECT_EQ(counters.reuse_deadline_ms(first_), epoch_ms_);
  EXPECT_FALSE(counters.find(1001, 501));
  EXPECT_EQ(counters.find(1001, 502)->id, third_) << "the search goes on behind a freed one";
  EXPECT_EQ(add(1001, 777, 0, "next"), first_);
  EXPECT_FALSE(counters.is_same(*view));
}

TEST_F(Counters, with_ids_that_are_none_are_nothing) {
  const CountersReader counters = cnc_->counters();
  for (const std::int32_t id : {-1, counters.capacity(), std::numeric_limits<std::int32_t>::max()}) {
    EXPECT_EQ(counters.state(id), shm::CounterState::kUnused);
    EXPECT_EQ(counters.type_id(id), -1);
    EXPECT_EQ(counters.value(id), 0);
    EXPECT_EQ(counters.label(id), "");
    EXPECT_FALSE(counters.find(id));
  }
}

}  // namespace
}  // namespace thalweg::client::test
