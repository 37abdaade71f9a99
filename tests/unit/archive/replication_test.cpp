// Recordings of one archive copied into another: bytes, positions, what breaks on either side, what is refused. Spec: archive-log 16.3.
#include "tests/unit/archive/archives_fixture.hpp"

namespace thalweg::archive {
namespace {

class ReplicationTest : public WithArchives {};

TEST_F(ReplicationTest, an_ended_recording_arrives_byte_for_byte_with_its_descriptor) {
  const std::uint64_t end = make_recording("source", 300'000);
  start_source();
  start_here();
  const api::Json done = wait_for_end(replicate(wanted()));
  EXPECT_EQ(done["state"], "done") << done;
  EXPECT_EQ(done["position"], end);
  EXPECT_EQ(done["verified_position"], end);
  EXPECT_EQ(done["stop_position"], end);
  EXPECT_EQ(done["breaks"], 0);
  EXPECT_EQ(bytes_of("here", 0), bytes_of("source", 0));
  const auto there = view_recording(*files_, place("source"), 0);
  const auto here = view_recording(*files_, place("here"), 0);
  ASSERT_TRUE(there && here);
  EXPECT_EQ(here->recording.stream, there->recording.stream);
  EXPECT_EQ(here->recording.start_ns, 5);
  EXPECT_EQ(here->recording.original_channel, "aeron:ipc?alias=x");
  EXPECT_STREQ(here->state, "stopped");
  const auto verified = verify_recording(*files_, place("here"), *here);
  ASSERT_TRUE(verified) << verified.error().message;
  EXPECT_TRUE(verified->findings.empty());
}

TEST_F(ReplicationTest, goes_on_where_it_was_when_the_source_comes_back) {
  const std::uint64_t end = make_recording("source", 1'000'000);
  start_source();
  start_here();
  const std::int64_t replication = replicate(wanted());
  pause_at(replication, 100'000);
  source_.reset();
  is_paused_.store(false);
  EXPECT_LT(wait_for(replication, {"waiting", "failed"})["position"], end);
  start_source();
  const api::Json done = wait_for_end(replication);
  EXPECT_EQ(done["state"], "done") << done;
  EXPECT_EQ(done["verified_position"], end);
  EXPECT_GT(done["breaks"], 0);
  EXPECT_EQ(bytes_of("here", 0), bytes_of("source", 0));
}

TEST_F(ReplicationTest, goes_on_where_it_was_when_its_own_archive_comes_back) {
  const std::uint64_t end = make_recording("source", 1'000'000);
  start_source();
  start_here();
  const std::int64_t replication = replicate(wanted());
  pause_at(replication, 100'000);
  here_.reset();
  is_paused_.store(false);
  const auto before = view_recording(*files_, place("here"), 0);
  ASSERT_TRUE(before);
  EXPECT_LT(before->position, end);
  start_here();
  const api::Json done = wait_for_end(replication);
  EXPECT_EQ(done["state"], "done") << done;
  EXPECT_EQ(done["recording"], 0);
  EXPECT_EQ(bytes_of("here", 0), bytes_of("source", 0));
  EXPECT_EQ(look(replicate(wanted()))["replication"], replication + 1) << "numbers are given once";
}

TEST_F(ReplicationTest, ends_with_the_first_whole_frame_at_its_stop_position_and_can_be_continued) {
  const std::uint64_t end = make_recording("source", 300'000);
  start_source();
  start_here();
  api::Json args = wanted();
  args["stop_position"] = 100'000;
  const api::Json part = wait_for_end(replicate(args));
  EXPECT_EQ(part["state"], "done") << part;
  EXPECT_GE(part["position"], 100'000);
  EXPECT_LT(part["position"], 100'000 + 1056);
  args = wanted();
  args["into"] = part["recording"];
  const api::Json whole = wait_for_end(replicate(args));
  EXPECT_EQ(whole["state"], "done") << whole;
  EXPECT_EQ(whole["recording"], part["recording"]);
  EXPECT_EQ(whole["position"], end);
  EXPECT_EQ(bytes_of("here", 0), bytes_of("source", 0));
}

TEST_F(ReplicationTest, into_a_recording_of_other_bytes_fails_and_says_where) {
  make_recording("source", 300'000);
  make_recording("here", 100'000, kPayload - 1);  // frames of the same span
  start_source();
  start_here();
  api::Json args = wanted();
  args["into"] = 0;
  const api::Json failed = wait_for_end(replicate(args));
  EXPECT_EQ(failed["state"], "failed");
  EXPECT_NE(failed["error"].get<std::string>().find("are not what the source has"), std::string::npos) << failed;
  EXPECT_EQ(failed["verified_position"], 0);
}

TEST_F(ReplicationTest, that_cannot_be_fails_or_is_refused_with_the_reason) {
  make_recording("source", 100'000);
  log::FrameStream other = kStream;
  other.session_id = 12;
  make_recording("here", 100'000, kPayload, other);
  start_source();
  start_here();
  const auto fails = [&](const api::Json& args, const std::string& text) {
    const api::Json ended = wait_for_end(replicate(args));
    EXPECT_EQ(ended["state"], "failed") << text;
    EXPECT_NE(ended["error"].get<std::string>().find(text), std::string::npos) << ended;
  };
  fails(wanted(17), "there is no recording 17");
  api::Json args = wanted();
  args["into"] = 0;
  fails(args, "of another session of it");
  args["into"] = 5;
  EXPECT_EQ(ask("archive-replicate", args).error().code, ErrorCode::kNotFound);
  args = wanted();
  args["source_channel"] = "nonsense";
  EXPECT_EQ(ask("archive-replicate", args).error().code, ErrorCode::kInvalidChannel);
  args = wanted();
  args["stop_position"] = -1;
  EXPECT_EQ(ask("archive-replicate", args).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(ask("archive-stop-replication", {{"replication", 99}}).error().code, ErrorCode::kNotFound);
}

TEST_F(ReplicationTest, is_begun_watched_and_ended_by_clients_and_checksums_are_answered) {
  const std::uint64_t end = make_recording("source", 300'000);
  start_source();
  start_here();
  connect(kHereStream);
  ASSERT_TRUE(archive_client_);
  const auto id = archive_client_->start_replication({.recording = 0, .source_channel = "aeron:ipc", .source_stream = 99, .response_channel = "aeron:ipc", .into = {}, .stop_position = {}});
  ASSERT_TRUE(id) << id.error().message;
  auto all = archive_client_->list_replications();
  ASSERT_TRUE(all && all->size() == 1);
  EXPECT_EQ(all->front().state, ReplicationState::kConnecting) << "nobody listens there";
  EXPECT_FALSE(all->front().recording);
  EXPECT_TRUE(archive_client_->stop_replication(*id));
  EXPECT_EQ(archive_client_->stop_replication(*id).error().code, ErrorCode::kNotFound);
  const auto second = archive_client_->start_replication({.recording = 0, .source_channel = "aeron:ipc", .source_stream = kSourceStream, .response_channel = "aeron:ipc", .into = {}, .stop_position = {}});
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_EQ(wait_for_end(*second)["state"], "done");
  all = archive_client_->list_replications();
  ASSERT_TRUE(all && all->size() == 2);
  EXPECT_EQ(all->front().state, ReplicationState::kStopped);
  EXPECT_EQ(all->back().state, ReplicationState::kDone);
  EXPECT_EQ(all->back().verified_position, static_cast<std::int64_t>(end));
  const auto sum = archive_client_->checksum(0, 0, static_cast<std::int64_t>(end));
  ASSERT_TRUE(sum) << sum.error().message;
  EXPECT_EQ(sum->end, static_cast<std::int64_t>(end));
  connect(kSourceStream);
  const auto there = archive_client_->checksum(0, 0, INT64_MAX);
  ASSERT_TRUE(there) << there.error().message;
  EXPECT_EQ(there->end, sum->end);
  EXPECT_EQ(there->crc, sum->crc);
  const auto part = archive_client_->checksum(0, 0, 5000);
  ASSERT_TRUE(part);
  EXPECT_EQ(part->end, 4 * 1056) << "whole frames only";
  EXPECT_EQ(archive_client_->checksum(0, 33, 5000).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(archive_client_->checksum(7, 0, 5000).error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace thalweg::archive
