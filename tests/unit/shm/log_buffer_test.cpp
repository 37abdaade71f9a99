#include "dataplane/shm/log_buffer.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace thalweg::shm {
namespace {

TEST(LogBuffer, tails_of_a_stream_that_starts_late_name_the_terms_of_one_lap_ago) {
  alignas(64) static std::byte file[200704];
  const LogBuffer log{file, sizeof file, 65536};
  init_log_metadata(log, {.initial_term_id = 5, .start_term_id = 7, .start_term_offset = 64, .term_length = 65536});
  EXPECT_EQ(log.active_term_count(), 2);
  EXPECT_EQ(log.raw_tail(0), pack_tail(5, 0));
  EXPECT_EQ(log.raw_tail(1), pack_tail(6, 0));
  EXPECT_EQ(log.raw_tail(2), pack_tail(7, 64));
  EXPECT_EQ(producer_position(log, 5), 2 * 65536 + 64);
}

}  // namespace
}  // namespace thalweg::shm
