#include "tests/unit/client/fixture.hpp"

namespace thalweg::client::test {
namespace {

class Resources : public WithDriver {
 protected:
  void SetUp() override { start(); }
};

TEST_F(Resources, a_publication_knows_what_the_driver_said) {
  const Publication p = publication("aeron:ipc?alias=x", 7);
  EXPECT_EQ(p.session_id(), driver_->stream(0).session_id);
  EXPECT_EQ(p.stream_id(), 7);
  EXPECT_EQ(p.channel(), "aeron:ipc?alias=x");
  EXPECT_EQ(p.initial_term_id(), 7);
  EXPECT_EQ(p.term_length(), 64 << 10);
  EXPECT_EQ(p.max_payload_length(), 1408 - 32);
  EXPECT_EQ(p.max_message_length(), 8 << 10);
  EXPECT_EQ(p.max_position(), std::int64_t{64 << 10} << 31);
  EXPECT_EQ(p.channel_status(), ChannelStatus::kActive);
  EXPECT_EQ(p.position(), 0);
}

TEST_F(Resources, a_second_add_shares_the_stream_and_an_exclusive_one_does_not) {
  const Publication first = publication();
  const Publication second = publication();
  const ExclusivePublication alone = exclusive_publication();
  EXPECT_EQ(second.original_registration_id(), first.registration_id());
  EXPECT_NE(second.registration_id(), first.registration_id());
  EXPECT_EQ(second.session_id(), first.session_id());
  EXPECT_NE(alone.session_id(), first.session_id());
  EXPECT_EQ(driver_->stream_count(), 2U);
}

TEST_F(Resources, async_add_answers_nothing_then_the_publication_once) {
  const auto id = client_->async_add_publication(kChannel, kStream);
  ASSERT_TRUE(id);
  auto early = client_->find_publication(*id);
  ASSERT_TRUE(early);
  EXPECT_FALSE(early->has_value());
  settle();
  auto found = client_->find_publication(*id);
  ASSERT_TRUE(found && found->has_value());
  EXPECT_EQ((*found)->registration_id(), static_cast<std::int64_t>(*id));
  EXPECT_EQ(client_->find_publication(*id).error().code, ErrorCode::kNotFound);
}

TEST_F(Resources, a_registration_is_found_only_as_what_it_is) {
  const auto id = client_->async_add_publication(kChannel, kStream);
  settle();
  EXPECT_EQ(client_->find_subscription(*id).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(client_->find_exclusive_publication(*id).error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(client_->find_publication(*id));
}

struct ErrorCase {
  std::int32_t code;
  ErrorCode expected;
};
class DriverErrors : public Resources, public ::testing::WithParamInterface<ErrorCase> {};

TEST_P(DriverErrors, keep_their_text_and_get_our_code) {
  driver_->fail_next(GetParam().code, "because");
  const auto added = client_->add_subscription("aeron:udp?endpoint=nowhere:1", kStream);
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code, GetParam().expected);
  EXPECT_EQ(added.error().message, "because");
}
INSTANTIATE_TEST_SUITE_P(Codes, DriverErrors,
                         ::testing::Values(ErrorCase{1, ErrorCode::kInvalidChannel}, ErrorCase{8, ErrorCode::kUnsupported},
                                           ErrorCase{9, ErrorCode::kUnknownHost}, ErrorCase{10, ErrorCode::kInUse},
                                           ErrorCase{11, ErrorCode::kGeneric}, ErrorCase{12, ErrorCode::kNoSpace},
                                           ErrorCase{2, client_error::kUnknownSubscription},
                                           ErrorCase{3, client_error::kUnknownPublication}, ErrorCase{5, client_error::kUnknownCounter},
                                           ErrorCase{6, ErrorCode::kUnsupported}, ErrorCase{7, client_error::kMalformedCommand},
                                           ErrorCase{13, client_error::kImageRejected}, ErrorCase{14, client_error::kPublicationRevoked},
                                           ErrorCase{777, ErrorCode::kGeneric}));

TEST_F(Resources, a_silent_driver_times_a_command_out_and_a_late_answer_is_given_back) {
  driver_->hold_answers(true);
  const auto id = client_->async_add_publication(kChannel, kStream);
  for (int i = 0; i < 101; ++i) {
    advance_ms(100);
    driver_->beat();
    client_->do_work();
  }
  const auto found = client_->find_publication(*id);
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ErrorCode::kTimeout);
  driver_->hold_answers(false);
  settle();
  EXPECT_EQ(driver_->count(shm::Command::kRemovePublication), 1) << "nobody will ever use it";
  EXPECT_FALSE(client_->is_closed());
}

TEST_F(Resources, closing_a_handle_gives_the_publication_back_once) {
  {
    Publication p = publication();
    p.close();
    p.close();
    EXPECT_EQ(p.position(), 0);
    EXPECT_EQ(p.position_limit(), 0);
    EXPECT_EQ(p.offer(bytes_of("x")).status(), OfferStatus::kClosed);
    BufferClaim claim;
    EXPECT_EQ(p.try_claim(8, claim).status(), OfferStatus::kClosed);
    EXPECT_FALSE(claim.is_open());
  }
  settle();
  EXPECT_EQ(driver_->count(shm::Command::kRemovePublication), 1);
}

TEST_F(Resources, revoking_says_so_to_the_driver) {
  Publication p = publication();
  p.revoke();
  settle();
  const auto& seen = driver_->seen().back();
  ASSERT_EQ(seen.type, shm::Command::kRemovePublication);
  EXPECT_TRUE(shm::decode<shm::RemovePublication>(seen.body)->revoke);
}

TEST_F(Resources, moving_a_handle_keeps_the_publication_and_assigning_closes_the_old_one) {
  Publication a = publication(kChannel, 1);
  Publication b = publication(kChannel, 2);
  const auto kept = b.registration_id();
  a = std::move(b);
  settle();
  EXPECT_EQ(driver_->count(shm::Command::kRemovePublication), 1);
  EXPECT_EQ(a.registration_id(), kept);
  EXPECT_FALSE(b);  // NOLINT(bugprone-use-after-move): that is what is tested
}

TEST_F(Resources, images_come_and_go) {
  Subscription s = subscription();
  EXPECT_FALSE(s.is_connected());
  Publication p = publication();
  settle();
  ASSERT_EQ(s.image_count(), 1U);
  ASSERT_EQ(available_.size(), 1U);
  const auto image = s.image_by_session(p.session_id());
  ASSERT_TRUE(image);
  EXPECT_EQ(image->source_identity(), "aeron:ipc");
  EXPECT_EQ(image->stream_id(), kStream);
  EXPECT_EQ(image->correlation_id(), p.original_registration_id());
  EXPECT_EQ(image->subscription_registration_id(), s.registration_id());
  EXPECT_FALSE(s.image_by_session(p.session_id() + 1));
  ASSERT_TRUE(p.offer(bytes_of("last words")));
  p.close();
  settle();
  EXPECT_FALSE(image->is_end_of_stream()) << "not read yet";
  EXPECT_EQ(drain(s), std::vector<std::string>{"last words"});
  EXPECT_TRUE(image->is_end_of_stream());
  settle();
  EXPECT_EQ(s.image_count(), 0U);
  ASSERT_EQ(unavailable_.size(), 1U);
  EXPECT_EQ(unavailable_[0], image);
  EXPECT_TRUE(image->is_closed());
  EXPECT_TRUE(image->is_end_of_stream());
  EXPECT_EQ(image->position(), 64);
  EXPECT_EQ(image->poll([](std::span<const std::byte>, const Header&) { ADD_FAILURE(); }, 1), 0);
}

TEST_F(Resources, an_image_announced_twice_is_there_once) {
  Subscription s = subscription();
  const Publication p = publication();
  settle();
  auto& stream = driver_->stream(0);
  driver_->transmit(shm::Response::kAvailableImage,
                    shm::OnAvailableImage{stream.id, stream.session_id, stream.stream_id, s.registration_id(),
                                          stream.subscribers.at(0).position_counter, stream.file.path(), "aeron:ipc"});
  settle();
  EXPECT_EQ(s.image_count(), 1U);
}

TEST_F(Resources, handlers_of_a_subscription_replace_those_of_the_client) {
  int mine = 0;
  Subscription s = subscription(kChannel, kStream, {.on_available_image = [&](const auto&) { ++mine; }, .on_unavailable_image = {}});
  const Publication p = publication();
  settle();
  EXPECT_EQ(mine, 1);
  EXPECT_TRUE(available_.empty());
}

TEST_F(Resources, a_handler_may_use_async_functions_but_must_not_wait) {
  ErrorCode waited{};
  std::optional<RegistrationId> id;
  Subscription s = subscription(kChannel, kStream,
                                {.on_available_image =
                                     [&](const auto&) {
                                       waited = client_->add_publication(kChannel, 5).error().code;
                                       id = *client_->async_add_publication(kChannel, 6);
                                     },
                                 .on_unavailable_image = {}});
  const Publication p = publication();
  settle();
  EXPECT_EQ(waited, ErrorCode::kInvalidArgument);
  ASSERT_TRUE(id);
  settle();
  EXPECT_TRUE(client_->find_publication(*id)->has_value());
}

TEST_F(Resources, closing_a_subscription_closes_its_images) {
  Subscription s = subscription();
  const Publication p = publication();
  settle();
  const auto image = s.images().at(0);
  s.close();
  settle();
  EXPECT_TRUE(image->is_closed());
  EXPECT_EQ(driver_->count(shm::Command::kRemoveSubscription), 1);
  EXPECT_FALSE(p.is_connected());
  EXPECT_EQ(s.poll([](std::span<const std::byte>, const Header&) {}, 1), 0);
}

TEST_F(Resources, an_image_that_is_held_stays_readable_as_memory_after_it_is_gone) {
  Subscription s = subscription();
  Publication p = publication();
  settle();
  const auto held = s.images().at(0);
  driver_->drop_image(p.registration_id(), s.registration_id());
  settle();
  pass_ms(5000);  // beyond the linger
  EXPECT_TRUE(held->is_closed());
  EXPECT_FALSE(held->is_revoked());
  EXPECT_EQ(held->term_length(), 64 << 10);
}

TEST_F(Resources, destinations_name_the_original_publication) {
  const Publication first = publication();
  const Publication second = publication();
  const auto destination = client_->add_destination(second, "aeron:udp?endpoint=10.0.0.1:4000");
  ASSERT_TRUE(destination);
  const auto command = shm::decode<shm::DestinationCommand>(driver_->seen().back().body);
  EXPECT_EQ(command->correlation_id, static_cast<std::int64_t>(*destination));
  EXPECT_EQ(command->registration_id, first.registration_id());
  EXPECT_EQ(command->channel, "aeron:udp?endpoint=10.0.0.1:4000");
  driver_->fail_next(1, "no");
  EXPECT_EQ(client_->remove_destination(second, "x").error().code, ErrorCode::kInvalidChannel);
  EXPECT_TRUE(client_->remove_destination(second, *destination));
  const auto removal = shm::decode<shm::RemoveDestinationById>(driver_->seen().back().body);
  EXPECT_EQ(removal->publication_registration_id, first.registration_id());
  EXPECT_EQ(removal->destination_registration_id, static_cast<std::int64_t>(*destination));
  Subscription s = subscription();
  EXPECT_TRUE(client_->add_destination(s, "aeron:udp?endpoint=10.0.0.1:4000"));
  EXPECT_EQ(driver_->seen().back().type, shm::Command::kAddReceiveDestination);
}

TEST_F(Resources, counters_are_added_changed_read_and_given_back) {
  const std::byte key[4]{};
  auto counter = client_->add_counter(1100, key, "orders");
  ASSERT_TRUE(counter) << counter.error().message;
  counter->set(40);
  counter->add(2);
  const auto view = client_->counters().find(counter->id());
  ASSERT_TRUE(view);
  EXPECT_EQ(view->type_id, 1100);
  EXPECT_EQ(view->label, "orders");
  EXPECT_EQ(view->value, 42);
  const auto id = counter->id();
  counter->close();
  counter->set(1);
  settle();
  EXPECT_EQ(client_->counters().state(id), shm::CounterState::kReclaimed);
  EXPECT_EQ(client_->add_counter(1100, std::vector<std::byte>(113), "x").error().code, ErrorCode::kInvalidArgument);
}

TEST_F(Resources, errors_of_the_driver_can_be_read) {
  shm::DistinctErrorLog log{driver_->cnc().error_log()};
  log.record(-1, "(-1) invalid channel", epoch_ms_);
  std::vector<std::string> texts;
  client_->read_errors([&](const shm::ErrorLogEntry& entry) { texts.emplace_back(entry.text); });
  EXPECT_EQ(texts, std::vector<std::string>{"(-1) invalid channel"});
}

TEST_F(Resources, local_addresses_come_from_the_counters_of_the_channel) {
  const Publication p = publication();
  const auto key = shm::sockaddr_key(p.channel_status_id(), "127.0.0.1:40123");
  const auto other = shm::sockaddr_key(p.channel_status_id() + 1, "127.0.0.1:40124");
  for (const auto* k : {&key, &other}) {
    ASSERT_TRUE(driver_->counters().allocate({.type_id = shm::counter_type::kLocalSockaddr, .key = k->span(), .label = "x",
                                              .initial_value = shm::channel_status::kActive},
                                             epoch_ms_));
  }
  EXPECT_EQ(p.local_addresses(), std::vector<std::string>{"127.0.0.1:40123"});
}

TEST_F(Resources, a_rejected_image_reaches_the_driver_and_the_publisher_hears_of_it) {
  Subscription s = subscription();
  const Publication p = publication();
  settle();
  EXPECT_TRUE(s.images().at(0)->reject("not today"));
  EXPECT_FALSE(s.images().at(0)->reject(std::string(1024, 'x')));
  settle();
  const auto& seen = driver_->seen().back();
  ASSERT_EQ(seen.type, shm::Command::kRejectImage);
  EXPECT_EQ(shm::decode<shm::RejectImage>(seen.body)->reason, "not today");
  driver_->transmit(shm::Response::kPublicationError,
                    shm::OnPublicationError{.registration_id = p.registration_id(), .session_id = p.session_id(), .code = 13, .text = "not today"});
  settle();
  ASSERT_EQ(errors_.size(), 1U);
  EXPECT_NE(errors_[0].message.find("not today"), std::string::npos);
}

class FullRing : public Resources {
 protected:
  // Nobody reads; the ring has no room for the shortest command.
  void fill_ring() {
    driver_->hold_answers(true);
    const shm::Buffer one(8);
    while (driver_->ring().write(static_cast<std::int32_t>(shm::Command::kClientKeepalive), one)) {
    }
  }
  void read_ring() {
    driver_->hold_answers(false);
    while (driver_->ring().consumer_position() != driver_->ring().producer_position()) driver_->do_work();
    settle();
  }
};

TEST_F(FullRing, what_is_asked_for_waits_for_room_and_is_asked_for_in_order) {
  Publication p = publication();
  fill_ring();
  const auto subscribed = client_->async_add_subscription(kChannel, 2);
  ASSERT_TRUE(subscribed) << subscribed.error().message;
  p.close();
  const auto published = client_->async_add_publication(kChannel, 3);
  ASSERT_TRUE(published) << published.error().message;
  client_->do_work();
  EXPECT_FALSE(client_->find_subscription(*subscribed)->has_value());
  EXPECT_EQ(driver_->count(shm::Command::kRemovePublication), 0);
  read_ring();
  EXPECT_EQ(driver_->count(shm::Command::kRemovePublication), 1);
  const auto found = client_->find_subscription(*subscribed);
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_TRUE(found->has_value());
  EXPECT_TRUE(client_->find_publication(*published)->has_value());
  EXPECT_TRUE(errors_.empty());
}

TEST_F(FullRing, a_driver_that_reads_nothing_times_out_what_waits_for_room) {
  fill_ring();
  const auto id = client_->async_add_subscription(kChannel, 2);
  ASSERT_TRUE(id);
  for (int i = 0; i < 101; ++i) {
    advance_ms(100);
    driver_->beat();
    client_->do_work();
  }
  EXPECT_EQ(client_->find_subscription(*id).error().code, ErrorCode::kTimeout);
  read_ring();
  EXPECT_EQ(driver_->count(shm::Command::kRemoveSubscription), 1) << "nobody will ever use it";
}

TEST_F(FullRing, only_so_much_waits_for_room) {
  fill_ring();
  Result<RegistrationId> id = client_->async_add_subscription(kChannel, 2);
  int count = 0;
  for (; id && count < 10'000; ++count) id = client_->async_add_subscription(kChannel, 2);
  ASSERT_FALSE(id);
  EXPECT_EQ(id.error().code, ErrorCode::kUnreachable);
  EXPECT_GE(count, 1'000);
}

TEST_F(FullRing, a_command_that_never_fits_is_refused_at_once) {
  const auto id = client_->async_add_publication("aeron:ipc?alias=" + std::string(10'000, 'x'), 1);
  ASSERT_FALSE(id);
  EXPECT_EQ(id.error().code, ErrorCode::kInvalidArgument);
}

// ---- a driver that misbehaves ----

TEST_F(Resources, a_log_that_cannot_be_mapped_is_an_error_and_given_back) {
  driver_->set_log_path_for_next(directory_.file("nothing.logbuffer"));
  const auto added = client_->add_publication(kChannel, kStream);
  ASSERT_FALSE(added);
  settle();
  EXPECT_EQ(driver_->count(shm::Command::kRemovePublication), 1);
}

TEST_F(Resources, a_log_with_impossible_metadata_is_an_error) {
  const Publication good = publication();
  auto& log = driver_->stream(0).log;
  int stream = 50;
  const auto refused = [&](std::size_t field, std::int32_t value) {
    const std::string path = directory_.file("bad" + std::to_string(++stream));
    auto file = shm::MappedFile::create(path, {.length = driver_->stream(0).file.length()});
    std::memcpy(file->data() + file->length() - shm::kLogMetadataLength, log.metadata(), shm::kLogMetadataLength);
    store_le(file->data() + file->length() - shm::kLogMetadataLength + field, value);
    driver_->set_log_path_for_next(path);
    return !client_->add_publication(kChannel, stream);
  };
  EXPECT_TRUE(refused(shm::meta::kTermLength, 0));
  EXPECT_TRUE(refused(shm::meta::kTermLength, -65536));
  EXPECT_TRUE(refused(shm::meta::kTermLength, 65537));
  EXPECT_TRUE(refused(shm::meta::kTermLength, 1 << 20)) << "longer than the file";
  EXPECT_TRUE(refused(shm::meta::kMtuLength, 32));
  EXPECT_TRUE(refused(shm::meta::kMtuLength, 1400));
  EXPECT_TRUE(refused(shm::meta::kMtuLength, 65536));
  EXPECT_FALSE(refused(shm::meta::kMtuLength, 1408));
}

TEST_F(Resources, a_counter_id_outside_the_file_is_an_error) {
  driver_->set_limit_counter_for_next(1 << 20);
  EXPECT_EQ(client_->add_publication(kChannel, kStream).error().code, ErrorCode::kIo);
  driver_->set_limit_counter_for_next(-7);
  EXPECT_EQ(client_->add_publication(kChannel, kStream + 1).error().code, ErrorCode::kIo);
}

TEST_F(Resources, an_image_with_an_impossible_position_is_not_taken) {
  Subscription s = subscription();
  const Publication p = publication("aeron:ipc", 9);
  auto& stream = driver_->stream(0);
  for (const std::int64_t position : {std::int64_t{-32}, std::int64_t{33}, std::numeric_limits<std::int64_t>::max()}) {
    const auto counter = driver_->counters().allocate({.type_id = 4, .label = "x", .initial_value = position}, epoch_ms_);
    driver_->transmit(shm::Response::kAvailableImage,
                      shm::OnAvailableImage{stream.id + 1000 + position % 7, 1, kStream, s.registration_id(), *counter, stream.file.path(), "x"});
  }
  settle();
  EXPECT_EQ(s.image_count(), 0U);
  EXPECT_EQ(errors_.size(), 3U);
}

TEST_F(Resources, malformed_and_unknown_answers_are_reported_or_ignored) {
  const std::byte short_body[4]{};
  driver_->transmit_raw(static_cast<std::int32_t>(shm::Response::kAvailableImage), short_body);
  driver_->transmit_raw(0x0FFF, short_body);
  settle();
  EXPECT_EQ(errors_.size(), 1U);
  EXPECT_FALSE(client_->is_closed());
  EXPECT_TRUE(publication());
}

TEST_F(Resources, a_lapped_client_reports_it_drops_what_is_gone_and_goes_on) {
  Subscription s = subscription();
  const Publication p = publication();
  settle();
  ASSERT_EQ(s.image_count(), 1U);
  driver_->drop_image(p.registration_id(), s.registration_id());  // the notice will be overwritten
  for (int i = 0; i < 20'000; ++i) driver_->transmit(shm::Response::kOperationSuccess, shm::OnOperationSuccess{-1});
  settle();
  ASSERT_FALSE(errors_.empty());
  EXPECT_NE(errors_[0].message.find("keep up"), std::string::npos);
  EXPECT_EQ(s.image_count(), 0U);
  EXPECT_FALSE(client_->is_closed());
  EXPECT_TRUE(publication(kChannel, 3));
}

}  // namespace
}  // namespace thalweg::client::test
