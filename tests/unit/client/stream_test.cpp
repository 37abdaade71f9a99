#include <array>
#include <numeric>

#include "dataplane/wire/frames.hpp"
#include "tests/unit/client/fixture.hpp"

namespace thalweg::client::test {
namespace {

static_assert(frame::kHeaderLength == wire::kDataHeaderLength && frame::kAlignment == wire::kFrameAlignment);

std::vector<std::byte> pattern(std::size_t length, unsigned seed = 1) {
  std::vector<std::byte> bytes(length);
  for (std::size_t i = 0; i < length; ++i) bytes[i] = static_cast<std::byte>((i * 31 + seed) & 0xFF);
  return bytes;
}

// The same behaviour is asked of both kinds of publication.
template <typename P>
class Streams : public WithDriver {
 protected:
  void SetUp() override {
    this->start();
    if constexpr (std::is_same_v<P, Publication>) {
      p_ = this->publication();
    } else {
      p_ = this->exclusive_publication();
    }
  }
  void subscribe() { s_ = this->subscription(); }
  P p_;
  Subscription s_;
};
using Kinds = ::testing::Types<Publication, ExclusivePublication>;
TYPED_TEST_SUITE(Streams, Kinds);

TYPED_TEST(Streams, without_a_subscriber_an_offer_is_not_connected) {
  EXPECT_FALSE(this->p_.is_connected());
  EXPECT_EQ(this->p_.offer(bytes_of("x")).status(), OfferStatus::kNotConnected);
  EXPECT_TRUE(this->p_.offer(bytes_of("x")).is_retryable());
}

// proves 1.4/14, 1.14/1, 1.14/7
TYPED_TEST(Streams, a_message_arrives_with_its_header) {
  this->subscribe();
  const OfferResult result = this->p_.offer(bytes_of("hello"), 4711);
  ASSERT_TRUE(result);
  EXPECT_EQ(result.position(), 64);
  EXPECT_EQ(this->p_.position(), 64);
  int count = 0;
  EXPECT_EQ(this->s_.poll(
                [&](std::span<const std::byte> payload, const Header& header) {
                  ++count;
                  EXPECT_EQ(text_of(payload), "hello");
                  EXPECT_EQ(header.position(), 64);
                  EXPECT_EQ(header.session_id(), this->p_.session_id());
                  EXPECT_EQ(header.stream_id(), kStream);
                  EXPECT_EQ(header.term_id(), 7);
                  EXPECT_EQ(header.term_offset(), 0);
                  EXPECT_EQ(header.reserved_value(), 4711);
                  EXPECT_TRUE(header.is_unfragmented());
                  EXPECT_EQ(header.image().session_id(), this->p_.session_id());
                },
                10),
            1);
  EXPECT_EQ(count, 1);
  EXPECT_EQ(this->s_.images().at(0)->position(), 64);
}

// proves 1.14/5
TYPED_TEST(Streams, an_empty_message_is_legal) {
  this->subscribe();
  EXPECT_EQ(this->p_.offer(std::span<const std::byte>{}).position(), 32);
  EXPECT_EQ(this->drain(this->s_), std::vector<std::string>{""});
}

// proves 5.8/1
TYPED_TEST(Streams, the_subscriber_holds_the_publisher_at_half_a_term) {
  this->subscribe();
  const auto message = pattern(992);  // 1024 with its header
  int sent = 0;
  OfferResult result = this->p_.offer(message);
  while (result) {
    ++sent;
    result = this->p_.offer(message);
  }
  EXPECT_EQ(result.status(), OfferStatus::kBackPressured);
  EXPECT_EQ(sent, 32);
  EXPECT_EQ(this->p_.position_limit(), 32 << 10);
  EXPECT_EQ(this->drain(this->s_).size(), 32U);
  this->driver_->do_work();
  EXPECT_TRUE(this->p_.offer(message));
}

// proves 1.4/2, 1.4/3, 1.12/7, 1.14/2, 1.14/3
TYPED_TEST(Streams, fragments_are_cut_at_the_mtu_and_put_together_again) {
  this->subscribe();
  const auto message = pattern(3000);
  EXPECT_EQ(this->p_.offer(message).position(), 1408 + 1408 + 288);  // as recorded from the reference (spec section 11)
  std::vector<std::uint8_t> flags;
  this->s_.poll([&](std::span<const std::byte>, const Header& h) { flags.push_back(h.flags()); }, 10);
  EXPECT_EQ(flags, (std::vector<std::uint8_t>{0x80, 0x00, 0x40}));

  ASSERT_TRUE(this->p_.offer(message));
  std::vector<std::byte> whole;
  FragmentAssembler assembler{[&](std::span<const std::byte> bytes, const Header& header) {
    whole.assign(bytes.begin(), bytes.end());
    EXPECT_TRUE(header.is_unfragmented());
    EXPECT_EQ(header.position(), 2 * 3104);
  }};
  EXPECT_EQ(this->s_.poll(assembler, 10), 3);
  EXPECT_EQ(whole, message);
}

// proves 1.14/3
TYPED_TEST(Streams, a_message_of_exact_multiples_ends_with_a_full_fragment) {
  this->subscribe();
  const auto message = pattern(2 * 1376);
  EXPECT_EQ(this->p_.offer(message).position(), 2 * 1408);
  std::vector<std::uint8_t> flags;
  this->s_.poll([&](std::span<const std::byte>, const Header& h) { flags.push_back(h.flags()); }, 10);
  EXPECT_EQ(flags, (std::vector<std::uint8_t>{0x80, 0x40}));
}

TYPED_TEST(Streams, gathered_pieces_arrive_as_one_message) {
  this->subscribe();
  const auto a = pattern(100, 1), b = pattern(0), c = pattern(2500, 2), d = pattern(7, 3);
  const std::array<std::span<const std::byte>, 4> parts{a, b, c, d};
  ASSERT_TRUE(this->p_.offer(parts));
  std::vector<std::byte> expected = a;
  expected.insert(expected.end(), c.begin(), c.end());
  expected.insert(expected.end(), d.begin(), d.end());
  std::vector<std::byte> whole;
  FragmentAssembler assembler{[&](std::span<const std::byte> bytes, const Header&) { whole.assign(bytes.begin(), bytes.end()); }};
  this->s_.poll(assembler, 10);
  EXPECT_EQ(whole, expected);
}

// proves 1.12/4, 1.14/6
TYPED_TEST(Streams, messages_that_are_too_long_are_refused) {
  this->subscribe();
  EXPECT_EQ(this->p_.offer(pattern(8193)).status(), OfferStatus::kMessageTooLong);
  EXPECT_TRUE(this->p_.offer(pattern(8192)));
  const auto half = pattern(5000);
  const std::array<std::span<const std::byte>, 2> parts{half, half};
  EXPECT_EQ(this->p_.offer(parts).status(), OfferStatus::kMessageTooLong);
  BufferClaim claim;
  EXPECT_EQ(this->p_.try_claim(1377, claim).status(), OfferStatus::kMessageTooLong);
  EXPECT_TRUE(this->p_.try_claim(1376, claim));
}

// proves 1.4/10, 1.14/7
TYPED_TEST(Streams, a_claim_is_seen_when_committed_and_skipped_when_aborted) {
  this->subscribe();
  BufferClaim claim;
  ASSERT_TRUE(this->p_.try_claim(5, claim));
  std::memcpy(claim.data().data(), "claim", 5);
  claim.set_reserved_value(9);
  EXPECT_TRUE(this->drain(this->s_).empty());
  claim.commit();
  EXPECT_FALSE(claim.is_open());
  {
    BufferClaim forgotten;
    ASSERT_TRUE(this->p_.try_claim(5, forgotten));
  }
  ASSERT_TRUE(this->p_.try_claim(5, claim));
  claim.abort();
  ASSERT_TRUE(this->p_.offer(bytes_of("after")));
  EXPECT_EQ(this->drain(this->s_), (std::vector<std::string>{"claim", "after"}));
  EXPECT_EQ(this->s_.images().at(0)->position(), this->p_.position());
}

// proves 1.4/9, 1.14/4
TYPED_TEST(Streams, terms_roll_over_for_many_laps_without_loss) {
  this->subscribe();
  int sent = 0, received = 0, admin_actions = 0;
  const auto check = [&](std::span<const std::byte> payload, const Header&) {
    ASSERT_EQ(payload.size(), 1000U);
    ASSERT_EQ(load_le<std::int32_t>(payload.data()), received);
    ++received;
  };
  auto message = pattern(1000);
  while (received < 1000) {  // 1056 bytes each: 16 terms of 64 KiB
    store_le(message.data(), sent);
    const OfferResult result = this->p_.offer(message);
    if (result) ++sent;
    if (result.status() == OfferStatus::kAdminAction) ++admin_actions;
    if (result.status() == OfferStatus::kBackPressured) {
      while (this->s_.poll(check, 10) > 0) {
      }
      this->driver_->do_work();
    }
    ASSERT_TRUE(result || result.is_retryable());
  }
  EXPECT_GE(admin_actions, 15);
  EXPECT_GT(this->p_.position(), 15 * (64 << 10));
}

TYPED_TEST(Streams, a_limited_poll_takes_turns_between_images) {
  this->subscribe();
  Publication other = this->publication(kChannel, kStream);
  ExclusivePublication third = this->exclusive_publication(kChannel, kStream);
  this->settle();
  const auto images = this->s_.images();
  ASSERT_GE(images.size(), 2U);
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(this->p_.offer(bytes_of("a")));
    ASSERT_TRUE(third.offer(bytes_of("b")));
  }
  std::map<std::int32_t, int> by_session;
  for (int i = 0; i < 4; ++i) {
    this->s_.poll([&](std::span<const std::byte>, const Header& h) { ++by_session[h.session_id()]; }, 1);
  }
  EXPECT_GE(by_session.size(), 2U) << "no image starves behind another";
}

TYPED_TEST(Streams, controlled_polls_do_as_they_are_told) {
  this->subscribe();
  for (const char* text : {"a", "b", "c", "d"}) ASSERT_TRUE(this->p_.offer(bytes_of(text)));
  const auto image = this->s_.images().at(0);
  std::string taken;
  const auto with = [&](std::string_view at, PollAction action) {
    return [&taken, at, action](std::span<const std::byte> payload, const Header&) {
      taken += text_of(payload);
      return taken.ends_with(at) ? action : PollAction::kContinue;
    };
  };
  EXPECT_EQ(this->s_.controlled_poll(with("b", PollAction::kAbort), 10), 1);
  EXPECT_EQ(taken, "ab");
  EXPECT_EQ(image->position(), 64) << "b was given back";
  taken.clear();
  EXPECT_EQ(this->s_.controlled_poll(with("b", PollAction::kBreak), 10), 1);
  EXPECT_EQ(taken, "b");
  EXPECT_EQ(image->position(), 128);
  taken.clear();
  std::int64_t seen_inside = 0;
  EXPECT_EQ(this->s_.controlled_poll(
                [&](std::span<const std::byte> payload, const Header&) {
                  taken += text_of(payload);
                  if (taken == "cd") seen_inside = image->position();
                  return taken == "c" ? PollAction::kCommit : PollAction::kContinue;
                },
                10),
            2);
  EXPECT_EQ(seen_inside, 192) << "committed behind c while d was handled";
  EXPECT_EQ(image->position(), 256);
}

TYPED_TEST(Streams, an_aborted_message_is_assembled_again) {
  this->subscribe();
  const auto message = pattern(3000);
  ASSERT_TRUE(this->p_.offer(message));
  int calls = 0;
  FragmentAssembler assembler{[&](std::span<const std::byte> bytes, const Header&) {
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), message.begin(), message.end()));
    return ++calls == 1 ? PollAction::kAbort : PollAction::kContinue;
  }};
  EXPECT_EQ(this->s_.controlled_poll(assembler, 10), 2);
  EXPECT_EQ(this->s_.controlled_poll(assembler, 10), 1);
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(assembler.dropped_count(), 0);
}

TYPED_TEST(Streams, a_bounded_poll_stops_at_its_position) {
  this->subscribe();
  for (const char* text : {"a", "b", "c"}) ASSERT_TRUE(this->p_.offer(bytes_of(text)));
  const auto image = this->s_.images().at(0);
  const auto ignore = [](std::span<const std::byte>, const Header&) {};
  EXPECT_EQ(image->bounded_poll(ignore, 100, 10), 1) << "b would end at 128";
  EXPECT_EQ(image->position(), 64);
  EXPECT_EQ(image->bounded_poll(ignore, 64, 10), 0);
  EXPECT_EQ(image->bounded_poll(ignore, 192, 10), 2);
}

TYPED_TEST(Streams, block_polls_hand_over_whole_frames) {
  this->subscribe();
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(this->p_.offer(pattern(96)));  // 128 each
  std::vector<std::size_t> blocks;
  const auto take = [&](std::span<const std::byte> block, std::int32_t session, std::int32_t term) {
    blocks.push_back(block.size());
    EXPECT_EQ(session, this->p_.session_id());
    EXPECT_EQ(term, 7);
  };
  EXPECT_EQ(this->s_.block_poll(take, 300), 256);
  EXPECT_EQ(this->s_.block_poll(take, 4096), 256);
  EXPECT_EQ(this->s_.block_poll(take, 4096), 0);
  EXPECT_EQ(blocks, (std::vector<std::size_t>{256, 256}));
}

TYPED_TEST(Streams, block_polls_step_over_padding) {
  this->subscribe();
  const auto message = pattern(1000);
  std::int64_t bytes = 0;
  while (this->p_.position() < (70 << 10)) {
    static_cast<void>(this->p_.offer(message));
    bytes += this->s_.block_poll([](std::span<const std::byte>, std::int32_t, std::int32_t) {}, 64 << 10);
    this->driver_->do_work();
  }
  bytes += this->s_.block_poll([](std::span<const std::byte>, std::int32_t, std::int32_t) {}, 64 << 10);
  EXPECT_EQ(bytes, this->p_.position());
}

struct Quote {
  std::int64_t instrument;
  double bid, ask;
  std::int32_t size;
};
TYPED_TEST(Streams, typed_messages_arrive_whole_and_others_are_counted) {
  this->subscribe();
  TypedSubscriber<Quote> typed{std::move(this->s_)};
  ASSERT_TRUE(this->p_.offer(bytes_of("not a quote")));
  TypedPublisher<Quote, TypeParam> publisher{std::move(this->p_)};
  ASSERT_TRUE(publisher.publish({42, 1.5, 1.6, 100}));
  int quotes = 0;
  typed.poll(
      [&](const Quote& quote, const Header&) {
        ++quotes;
        EXPECT_EQ(quote.instrument, 42);
        EXPECT_EQ(quote.ask, 1.6);
      },
      10);
  EXPECT_EQ(quotes, 1);
  EXPECT_EQ(typed.mismatched_count(), 1);
}

struct Book {
  std::array<Quote, 100> levels;
};
TYPED_TEST(Streams, typed_messages_longer_than_a_fragment_arrive_whole) {
  this->subscribe();
  TypedSubscriber<Book> typed{std::move(this->s_)};
  TypedPublisher<Book, TypeParam> publisher{std::move(this->p_)};
  Book book{};
  book.levels[99].size = 5;
  ASSERT_TRUE(publisher.publish(book));
  int books = 0;
  typed.poll([&](const Book& b, const Header&) { books += b.levels[99].size; }, 10);
  EXPECT_EQ(books, 5);
}

// ---- scribbled logs ----

TYPED_TEST(Streams, a_frame_of_impossible_length_stops_the_image_and_is_reported_once) {
  this->subscribe();
  ASSERT_TRUE(this->p_.offer(bytes_of("good")));
  for (const std::int32_t length : {1, 31, (64 << 10) + 32, std::numeric_limits<std::int32_t>::max()}) {
    shm::frame_length_release(this->driver_->stream(0).log.at(64), length);
    auto images = this->s_.images();
    if (images[0]->is_malformed()) break;
    EXPECT_EQ(this->drain(this->s_), std::vector<std::string>{"good"});
  }
  const auto image = this->s_.images().at(0);
  EXPECT_TRUE(image->is_malformed());
  EXPECT_EQ(image->position(), 64);
  this->pass_ms(2000);
  EXPECT_EQ(this->errors_.size(), 1U);
}

TYPED_TEST(Streams, a_scribbled_subscriber_position_does_not_move_the_reader) {
  this->subscribe();
  ASSERT_TRUE(this->p_.offer(bytes_of("a")));
  this->driver_->counters().counter(this->s_.images().at(0)->subscriber_position_id()).set(-1234567);
  EXPECT_EQ(this->drain(this->s_), std::vector<std::string>{"a"});
}

class ConcurrentStream : public WithDriver {
 protected:
  void SetUp() override {
    start();
    p_ = publication();
    s_ = subscription();
  }
  shm::LogBuffer& log() { return driver_->stream(0).log; }
  Publication p_;
  Subscription s_;
};

TEST_F(ConcurrentStream, scribbled_tails_and_counts_never_write_outside_the_log) {
  for (const std::int32_t count : {-1, 1, 5, std::numeric_limits<std::int32_t>::max(), std::numeric_limits<std::int32_t>::min()}) {
    for (const std::int64_t low : {std::int64_t{0}, std::int64_t{1}, std::int64_t{65535}, std::int64_t{65536}, std::int64_t{0xFFFFFFFF}}) {
      for (std::size_t partition = 0; partition < 3; ++partition) {
        const std::int32_t term_id = wire::wrapping_add(7, count);
        log().store<std::int64_t>(shm::meta::kTails + 8 * partition, (static_cast<std::int64_t>(term_id) << 32) | low);
      }
      log().store<std::int32_t>(shm::meta::kActiveTermCount, count);
      driver_->counters().counter(driver_->stream(0).limit_counter).set(std::numeric_limits<std::int64_t>::max());
      static_cast<void>(p_.offer(pattern(3000)));
      BufferClaim claim;
      static_cast<void>(p_.try_claim(100, claim));
      static_cast<void>(p_.position());
    }
  }
  EXPECT_EQ(log().load<std::int32_t>(shm::meta::kTermLength), 64 << 10) << "the metadata behind the terms is untouched";
}

TEST_F(ConcurrentStream, a_rotation_in_progress_is_an_admin_action) {
  log().store<std::int32_t>(shm::meta::kActiveTermCount, 1);  // the next partition still holds its old term
  EXPECT_EQ(p_.offer(bytes_of("x")).status(), OfferStatus::kAdminAction);
}

TEST_F(ConcurrentStream, only_the_claimer_inside_the_term_pads) {
  driver_->counters().counter(driver_->stream(0).limit_counter).set(1 << 20);
  log().store<std::int64_t>(shm::meta::kTails, shm::pack_tail(7, 64 << 10));  // another thread has just padded
  EXPECT_EQ(p_.offer(bytes_of("x")).status(), OfferStatus::kAdminAction);
  EXPECT_EQ(log().active_term_count(), 1);
  EXPECT_EQ(shm::frame_length_acquire(log().term(0)), 0);
  EXPECT_TRUE(p_.offer(bytes_of("x")));
}

template <typename P>
class LastTerm : public WithDriver {
 protected:
  LastTerm() : WithDriver{{.start_term_count = std::numeric_limits<std::int32_t>::max()}} {}
};
TYPED_TEST_SUITE(LastTerm, Kinds);

// proves 1.13/7
TYPED_TEST(LastTerm, streams_far_beyond_two_to_the_31_work_and_end_with_max_position_exceeded) {
  this->start();
  TypeParam p;
  if constexpr (std::is_same_v<TypeParam, Publication>) {
    p = this->publication();
  } else {
    p = this->exclusive_publication();
  }
  Subscription s = this->subscription();
  const std::int64_t begin = std::int64_t{std::numeric_limits<std::int32_t>::max()} << 16;
  EXPECT_EQ(p.position(), begin);
  EXPECT_EQ(s.images().at(0)->join_position(), begin);
  const auto message = pattern(1000);
  std::int64_t last = begin;
  OfferResult result = p.offer(message);
  for (int i = 0; i < 200 && (result || result.is_retryable()); ++i) {
    if (result) last = result.position();
    this->drain(s);
    this->driver_->do_work();
    result = p.offer(message);
  }
  EXPECT_EQ(result.status(), OfferStatus::kMaxPositionExceeded);
  EXPECT_EQ(p.offer(message).status(), OfferStatus::kMaxPositionExceeded);
  EXPECT_EQ(last, begin + 62 * 1056);
}

TEST(OfferResults, tell_their_reasons_apart) {
  EXPECT_EQ(OfferResult{OfferStatus::kNotConnected}.status(), OfferStatus::kNotConnected);
  EXPECT_FALSE(OfferResult{OfferStatus::kClosed}.is_retryable());
  EXPECT_FALSE(OfferResult{OfferStatus::kMaxPositionExceeded}.is_retryable());
  EXPECT_TRUE(OfferResult{OfferStatus::kAdminAction}.is_retryable());
  EXPECT_TRUE(OfferResult::accepted(32).ok());
  EXPECT_STREQ(to_string(OfferStatus::kBackPressured), "back pressured");
}

class Assembly : public WithDriver {};

// proves 1.14/8
TEST_F(Assembly, a_gap_drops_the_whole_message_and_the_next_one_is_fine) {
  start();
  ExclusivePublication p = exclusive_publication();
  Subscription s = subscription();
  const auto message = pattern(4000);  // three fragments
  ASSERT_TRUE(p.offer(message));
  ASSERT_TRUE(p.offer(message));
  store_le<std::uint16_t>(driver_->stream(0).log.at(1408) + frame::kTypeOffset, frame::kTypePad);  // the second is lost
  int whole = 0;
  FragmentAssembler assembler{[&](std::span<const std::byte> bytes, const Header&) {
    ++whole;
    EXPECT_EQ(bytes.size(), 4000U);
  }};
  s.poll(assembler, 100);
  EXPECT_EQ(whole, 1);
  EXPECT_EQ(assembler.dropped_count(), 1);
}

// proves 1.14/9
TEST_F(Assembly, a_subscriber_that_joins_inside_a_message_waits_for_the_next) {
  start();
  ExclusivePublication p = exclusive_publication();
  Subscription s = subscription();
  ASSERT_TRUE(p.offer(pattern(4000)));
  ASSERT_TRUE(p.offer(bytes_of("next")));
  s.poll([](std::span<const std::byte>, const Header&) {}, 1);  // the first fragment went elsewhere
  std::vector<std::size_t> sizes;
  FragmentAssembler assembler{[&](std::span<const std::byte> bytes, const Header&) { sizes.push_back(bytes.size()); }};
  s.poll(assembler, 100);
  EXPECT_EQ(sizes, std::vector<std::size_t>{4});
}

}  // namespace
}  // namespace thalweg::client::test
