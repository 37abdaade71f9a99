// What a client can ask for besides publishing and polling; the driver is scripted.
#include <future>

#include "dataplane/client/detail/handler_list.hpp"
#include "tests/unit/client/fixture.hpp"

namespace thalweg::client::test {
namespace {

class Features : public WithDriver {
 protected:
  void SetUp() override { start(); }
};

// ---- counters ----

TEST_F(Features, a_static_counter_stays_and_is_the_same_for_everybody) {
  auto counter = client_->add_static_counter(1200, 77, bytes_of("key!"), "shared");
  ASSERT_TRUE(counter) << counter.error().message;
  EXPECT_TRUE(counter->is_static());
  EXPECT_EQ(counter->registration_id(), 77);
  EXPECT_EQ(counter->label(), "shared");
  EXPECT_EQ(counter->state(), shm::CounterState::kAllocated);
  counter->set(5);
  const std::int32_t id = counter->id();
  auto again = client_->add_static_counter(1200, 77, {}, "another label");
  ASSERT_TRUE(again);
  EXPECT_EQ(again->id(), id);
  EXPECT_EQ(again->get(), 5);
  EXPECT_EQ(again->label(), "shared");
  counter->close();
  counter->set(9);
  settle();
  EXPECT_EQ(driver_->count(shm::Command::kRemoveCounter), 0);
  EXPECT_EQ(client_->counters().state(id), shm::CounterState::kAllocated);
  EXPECT_EQ(client_->counters().value(id), 5) << "a closed handle changes nothing";
  EXPECT_EQ(counter->label(), "");
}

TEST_F(Features, static_counters_can_be_asked_for_without_waiting) {
  const auto id = client_->async_add_static_counter(1200, 78, {}, "x");
  ASSERT_TRUE(id);
  EXPECT_FALSE(client_->find_counter(*id)->has_value());
  settle();
  EXPECT_EQ((*client_->find_counter(*id))->registration_id(), 78);
  EXPECT_EQ(client_->add_static_counter(1200, 78, std::vector<std::byte>(113), "x").error().code, ErrorCode::kInvalidArgument);
  driver_->fail_next(11, "a non-static counter exists");
  EXPECT_EQ(client_->add_static_counter(1200, 79, {}, "x").error().code, ErrorCode::kGeneric);
}

TEST_F(Features, counter_handlers_come_and_go) {
  std::vector<std::string> heard;
  const auto on = [&heard](const char* what) { return [&heard, what](std::int64_t, std::int32_t id) { heard.push_back(what + std::to_string(id)); }; };
  const HandlerId available = client_->add_available_counter_handler(on("+"));
  const HandlerId unavailable = client_->add_unavailable_counter_handler(on("-"));
  auto counter = client_->add_counter(1100, {}, "x");
  ASSERT_TRUE(counter);
  const std::string id = std::to_string(counter->id());
  ASSERT_FALSE(heard.empty());
  EXPECT_EQ(heard.back(), "+" + id);
  EXPECT_TRUE(client_->remove_handler(available));
  EXPECT_FALSE(client_->remove_handler(available));
  heard.clear();
  auto second = client_->add_counter(1100, {}, "y");
  EXPECT_TRUE(heard.empty());
  counter->close();
  settle();
  EXPECT_EQ(heard, std::vector<std::string>{"-" + id});
  EXPECT_TRUE(client_->remove_handler(unavailable));
}

TEST_F(Features, a_handler_may_remove_itself_and_add_another) {
  int first = 0, second = 0;
  HandlerId id{};
  id = client_->add_available_counter_handler([&](std::int64_t, std::int32_t) {
    ++first;
    EXPECT_TRUE(client_->remove_handler(id));
    id = client_->add_available_counter_handler([&](std::int64_t, std::int32_t) { ++second; });
  });
  const auto a = client_->add_counter(1100, {}, "a");
  EXPECT_EQ(first, 1);
  const int before = second;
  const auto b = client_->add_counter(1100, {}, "b");
  EXPECT_EQ(first, 1);
  EXPECT_EQ(second, before + 1);
}

TEST_F(Features, a_closing_client_tells_of_its_counters_and_then_that_it_closes) {
  std::vector<std::string> heard;
  static_cast<void>(client_->add_unavailable_counter_handler([&](std::int64_t, std::int32_t) { heard.push_back("counter"); }));
  static_cast<void>(client_->add_close_handler([&] { heard.push_back("close"); }));
  const auto gone = client_->add_close_handler([&] { heard.push_back("removed"); });
  EXPECT_TRUE(client_->remove_handler(gone));
  const auto counter = client_->add_counter(1100, {}, "x");
  const auto fixed = client_->add_static_counter(1100, 5, {}, "stays");
  EXPECT_EQ(client_->close_reason(), CloseReason::kOpen);
  client_->close();
  EXPECT_EQ(heard, (std::vector<std::string>{"counter", "close"}));
  EXPECT_EQ(client_->close_reason(), CloseReason::kApplication);
  EXPECT_EQ(closed_, 1);
  EXPECT_TRUE(fixed->is_closed());
  EXPECT_EQ(client_->add_close_handler([] {}), HandlerId{});
}

TEST(Handlers, are_not_running_any_more_once_they_are_removed) {
  detail::HandlerList<int> list;
  std::promise<void> entered, leave;
  std::atomic<bool> is_running{false};
  list.add(1, [&](int) {
    is_running = true;
    entered.set_value();
    leave.get_future().wait();
    is_running = false;
  });
  std::thread caller{[&] { list.call(7); }};
  entered.get_future().wait();
  std::atomic<bool> is_removed{false};
  std::thread remover{[&] {
    EXPECT_TRUE(list.remove(1));
    EXPECT_FALSE(is_running.load());
    is_removed = true;
  }};
  EXPECT_FALSE(is_removed.load());
  leave.set_value();
  caller.join();
  remover.join();
  list.call(8);
  EXPECT_TRUE(is_removed.load());
}

// ---- destinations, session ids ----

TEST_F(Features, destinations_are_added_and_removed_without_waiting) {
  const Publication p = publication();
  const auto added = client_->async_add_destination(p, "aeron:udp?endpoint=10.0.0.1:4000");
  ASSERT_TRUE(added);
  EXPECT_FALSE(*client_->is_done(*added));
  settle();
  EXPECT_TRUE(*client_->is_done(*added));
  EXPECT_EQ(client_->is_done(*added).error().code, ErrorCode::kNotFound) << "told once";
  const auto by_id = client_->async_remove_destination(p, *added);
  const auto by_channel = client_->async_remove_destination(p, "aeron:udp?endpoint=10.0.0.1:4000");
  driver_->fail_next(3, "unknown publication");
  settle();
  EXPECT_EQ(client_->is_done(*by_id).error().code, client_error::kUnknownPublication);
  EXPECT_TRUE(*client_->is_done(*by_channel));
}

TEST_F(Features, a_subscriptions_destination_is_removed_by_the_id_it_was_added_with) {
  Subscription s = subscription();
  Subscription other = subscription();
  const auto id = client_->add_destination(s, "aeron:udp?endpoint=10.0.0.1:4000");
  ASSERT_TRUE(id);
  EXPECT_EQ(client_->remove_destination(other, *id).error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(client_->remove_destination(s, *id));
  const auto& seen = driver_->seen().back();
  ASSERT_EQ(seen.type, shm::Command::kRemoveReceiveDestination) << "the driver knows them by channel only";
  const auto command = shm::decode<shm::DestinationCommand>(seen.body);
  EXPECT_EQ(command->registration_id, s.registration_id());
  EXPECT_EQ(command->channel, "aeron:udp?endpoint=10.0.0.1:4000");
  EXPECT_EQ(client_->remove_destination(s, *id).error().code, ErrorCode::kNotFound);
  const auto async = client_->async_add_destination(s, "aeron:udp?endpoint=10.0.0.1:4001");
  settle();
  EXPECT_TRUE(*client_->is_done(*async));
  s.close();
  EXPECT_EQ(client_->remove_destination(s, *async).error().code, ErrorCode::kNotFound) << "gone with its subscription";
}

TEST_F(Features, session_ids_come_from_the_driver) {
  const auto first = client_->next_available_session_id(kStream);
  ASSERT_TRUE(first) << first.error().message;
  const auto id = client_->async_next_available_session_id(kStream);
  EXPECT_FALSE(client_->find_next_available_session_id(*id)->has_value());
  settle();
  EXPECT_EQ(**client_->find_next_available_session_id(*id), *first + 1);
  EXPECT_EQ(client_->find_next_available_session_id(*id).error().code, ErrorCode::kNotFound);
}

class OldDriver : public WithDriver {
 protected:
  OldDriver() : WithDriver{{.control_protocol_version = 0}} {}
};
TEST_F(OldDriver, that_cannot_be_asked_for_session_ids_is_not) {
  start();
  EXPECT_TRUE(client_->next_available_session_id(kStream));
  settle();
  EXPECT_EQ(driver_->count(shm::Command::kGetNextAvailableSessionId), 0);
}

TEST_F(Features, correlation_ids_are_nobody_elses) {
  const auto a = client_->next_correlation_id();
  EXPECT_GT(client_->next_correlation_id(), a);
  EXPECT_NE(a, client_->client_id());
}

// ---- publications ----

TEST_F(Features, a_publication_knows_its_window_and_whether_it_was_first) {
  Publication first = publication();
  const Publication second = publication();
  Subscription s = subscription();
  EXPECT_TRUE(first.is_original());
  EXPECT_FALSE(second.is_original());
  EXPECT_EQ(first.position_limit(), 32 << 10);
  EXPECT_EQ(first.available_window(), 32 << 10);
  ASSERT_TRUE(first.offer(bytes_of("x")));
  EXPECT_EQ(second.available_window(), (32 << 10) - 64);
  ExclusivePublication alone = exclusive_publication(kChannel, 5);
  EXPECT_TRUE(alone.is_original());
  EXPECT_EQ(alone.available_window(), 0) << "nobody subscribes";
  EXPECT_EQ(client_->counters().value(first.position_limit_id()), first.position_limit());
  first.close();
  EXPECT_EQ(first.available_window(), 0);
}

TEST_F(Features, a_publisher_hears_who_rejected_it_and_why) {
  std::vector<PublicationError> heard;
  Context told = context();
  told.on_publication_error = [&](const PublicationError& error) { heard.push_back(error); };
  auto client = Client::connect(told);
  ASSERT_TRUE(client);
  auto p = client->add_publication(kChannel, kStream);
  ASSERT_TRUE(p);
  shm::OnPublicationError error{.registration_id = p->registration_id(), .session_id = p->session_id(), .stream_id = kStream, .receiver_id = 9, .address_type = 1,
                                .source_port = 40123, .code = 13, .text = "not today"};
  error.address[0] = std::byte{10};
  error.address[3] = std::byte{7};
  driver_->transmit(shm::Response::kPublicationError, error);
  error.address_type = 2;
  error.address[0] = std::byte{};
  error.address[3] = std::byte{};
  error.address[15] = std::byte{1};
  error.group_tag = 4;
  error.destination_registration_id = 12;
  driver_->transmit(shm::Response::kPublicationError, error);
  error.registration_id += 1000;
  driver_->transmit(shm::Response::kPublicationError, error);
  while (client->do_work() > 0) {
  }
  ASSERT_EQ(heard.size(), 2U) << "the third is somebody else's";
  EXPECT_EQ(heard[0].code, client_error::kImageRejected);
  EXPECT_EQ(heard[0].text, "not today");
  EXPECT_EQ(heard[0].source_address, "10.0.0.7:40123");
  EXPECT_EQ(heard[0].receiver_id, 9);
  EXPECT_EQ(heard[0].destination_registration_id, -1);
  EXPECT_FALSE(heard[0].group_tag);
  EXPECT_EQ(heard[1].source_address, "[::1]:40123");
  EXPECT_EQ(heard[1].group_tag, 4);
  EXPECT_EQ(heard[1].destination_registration_id, 12);
  EXPECT_TRUE(errors_.empty()) << "it goes to one of both";
}

// ---- images ----

TEST_F(Features, what_the_driver_has_against_a_rejection_is_reported) {
  Subscription s = subscription();
  const Publication p = publication();
  settle();
  driver_->fail_next(11, "unknown image");
  ASSERT_TRUE(s.images().at(0)->reject("no"));
  settle();
  ASSERT_EQ(errors_.size(), 1U);
  EXPECT_EQ(errors_[0].message, "unknown image");
  EXPECT_EQ(s.images().at(0)->reject(std::string(1024, 'x')).error().code, ErrorCode::kInvalidArgument);
  const auto image = s.images().at(0);
  s.close();
  EXPECT_EQ(image->reject("too late").error().code, ErrorCode::kClosed);
}

class Ahead : public Features {
 protected:
  void SetUp() override {
    Features::SetUp();
    s_ = subscription();
    p_ = publication();
    settle();
    image_ = s_.image_by_correlation_id(p_.original_registration_id());
    ASSERT_TRUE(image_);
  }
  void offer(std::initializer_list<const char*> texts) {
    for (const char* text : texts) ASSERT_TRUE(p_.offer(bytes_of(text)));
  }
  // Hands over until a text; answers `then` there.
  auto until(std::string_view text, PollAction then) {
    return [this, text, then](std::span<const std::byte> payload, const Header&) {
      seen_ += text_of(payload);
      return text_of(payload) == text ? then : PollAction::kContinue;
    };
  }
  static constexpr std::int64_t kEverything = std::numeric_limits<std::int64_t>::max();
  Publication p_;
  Subscription s_;
  std::shared_ptr<Image> image_;
  std::string seen_;
};

TEST_F(Ahead, a_bounded_controlled_poll_obeys_both) {
  offer({"a", "b", "c"});
  EXPECT_EQ(image_->bounded_controlled_poll(until("-", PollAction::kContinue), 100, 10), 1) << "b would end at 128";
  EXPECT_EQ(image_->bounded_controlled_poll(until("-", PollAction::kContinue), 64, 10), 0);
  EXPECT_EQ(image_->bounded_controlled_poll(until("c", PollAction::kAbort), kEverything, 10), 1);
  EXPECT_EQ(seen_, "abc");
  EXPECT_EQ(image_->position(), 128);
}

TEST_F(Ahead, a_peek_consumes_nothing) {
  offer({"a", "b", "c"});
  EXPECT_EQ(image_->controlled_peek(0, until("-", PollAction::kContinue), kEverything), 192);
  EXPECT_EQ(seen_, "abc");
  EXPECT_EQ(image_->position(), 0);
  EXPECT_EQ(image_->controlled_peek(64, until("b", PollAction::kBreak), kEverything), 128);
  EXPECT_EQ(image_->controlled_peek(64, until("c", PollAction::kAbort), kEverything), 128);
  EXPECT_EQ(image_->controlled_peek(0, until("-", PollAction::kCommit), 65), 128) << "what begins before the limit is handed over";
  EXPECT_EQ(image_->controlled_peek(64, until("-", PollAction::kContinue), 64), 64);
  EXPECT_EQ(seen_, "abcbbcab");
  EXPECT_EQ(drain(s_).size(), 3U);
}

TEST_F(Ahead, a_peek_never_ends_inside_a_message) {
  const std::string large(3000, 'x');
  ASSERT_TRUE(p_.offer(bytes_of(large)));
  const std::int64_t end = p_.position();
  int fragments = 0;
  const auto stop_at_second = [&](std::span<const std::byte>, const Header&) { return ++fragments == 2 ? PollAction::kBreak : PollAction::kContinue; };
  EXPECT_EQ(image_->controlled_peek(0, stop_at_second, kEverything), 0);
  std::string whole;
  FragmentAssembler assembler{[&](std::span<const std::byte> message, const Header&) {
    whole = text_of(message);
    return PollAction::kContinue;
  }};
  EXPECT_EQ(image_->controlled_peek(0, assembler, kEverything), end);
  EXPECT_EQ(whole, large);
}

TEST_F(Ahead, a_peek_from_elsewhere_sees_nothing) {
  offer({"a", "b"});
  EXPECT_TRUE(image_->set_position(64));
  const auto none = [](std::span<const std::byte>, const Header&) {
    ADD_FAILURE();
    return PollAction::kContinue;
  };
  for (const std::int64_t from : {std::int64_t{0}, std::int64_t{-32}, std::int64_t{65}, std::int64_t{64 << 10}}) {
    EXPECT_EQ(image_->controlled_peek(from, none, kEverything), from);
  }
  s_.close();
  EXPECT_EQ(image_->controlled_peek(64, none, kEverything), 64);
}

TEST_F(Ahead, a_peek_steps_over_the_padding_at_the_end_of_a_term) {
  const std::vector<std::byte> message(8000);
  for (int i = 0; p_.position() < (64 << 10) - 9000 && i < 100; ++i) {
    static_cast<void>(p_.offer(message));
    if (p_.position() < (60 << 10)) s_.poll([](std::span<const std::byte>, const Header&) {}, 100);
    driver_->do_work();
  }
  s_.poll([](std::span<const std::byte>, const Header&) {}, 100);
  driver_->do_work();
  while (p_.offer(message).status() != OfferStatus::kAdminAction) s_.poll([](std::span<const std::byte>, const Header&) {}, 100), driver_->do_work();
  const auto count = [](std::span<const std::byte>, const Header&) { return PollAction::kContinue; };
  EXPECT_EQ(image_->controlled_peek(image_->position(), count, kEverything), 64 << 10);
}

TEST_F(Ahead, a_handler_that_throws_in_a_peek_consumes_nothing) {
  offer({"a"});
  const auto thrower = [](std::span<const std::byte>, const Header&) -> PollAction { throw 1; };
  EXPECT_THROW(image_->controlled_peek(0, thrower, kEverything), int);
  EXPECT_EQ(image_->position(), 0);
}

TEST_F(Ahead, a_position_can_be_set_within_the_term) {
  offer({"a", "b"});
  EXPECT_TRUE(image_->set_position(64));
  EXPECT_EQ(drain(s_), std::vector<std::string>{"b"});
  EXPECT_EQ(image_->set_position(64).error().code, ErrorCode::kInvalidArgument) << "behind";
  EXPECT_EQ(image_->set_position(130).error().code, ErrorCode::kInvalidArgument) << "inside a frame";
  EXPECT_EQ(image_->set_position((64 << 10) + 32).error().code, ErrorCode::kInvalidArgument) << "beyond the term";
  EXPECT_TRUE(image_->set_position(64 << 10));
  EXPECT_EQ(image_->position(), 64 << 10);
  s_.close();
  EXPECT_EQ(image_->set_position(64 << 10).error().code, ErrorCode::kClosed);
}

TEST_F(Ahead, images_are_found_and_visited) {
  EXPECT_EQ(s_.image_by_session(p_.session_id()), image_);
  EXPECT_FALSE(s_.image_by_correlation_id(-5));
  int visited = 0;
  s_.for_each_image([&](Image& image) {
    ++visited;
    EXPECT_EQ(&image, image_.get());
  });
  EXPECT_EQ(visited, 1);
}

}  // namespace
}  // namespace thalweg::client::test
