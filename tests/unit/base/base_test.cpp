#include <fcntl.h>
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <limits>
#include <set>
#include <utility>

#include "dataplane/base/bytes.hpp"
#include "dataplane/base/fd.hpp"
#include "dataplane/base/random.hpp"
#include "dataplane/base/result.hpp"
#include "dataplane/base/units.hpp"

namespace thalweg {
namespace {

struct Quantity {
  const char* text;
  std::optional<std::int64_t> value;
};
void PrintTo(const Quantity& q, std::ostream* out) { *out << '"' << q.text << '"'; }

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

class UriSize : public testing::TestWithParam<Quantity> {};
TEST_P(UriSize, is_decimal_with_a_power_of_1024) { EXPECT_EQ(parse_uri_size(GetParam().text), GetParam().value); }
INSTANTIATE_TEST_SUITE_P(Spec, UriSize,
                         testing::Values(Quantity{"0", 0}, Quantity{"1408", 1408}, Quantity{"64k", 65536}, Quantity{"64K", 65536},
                                         Quantity{"1m", 1 << 20}, Quantity{"2G", 2LL << 30}, Quantity{"9223372036854775807", kMost},
                                         Quantity{"", std::nullopt}, Quantity{"-1", std::nullopt}, Quantity{"k", std::nullopt},
                                         Quantity{"1kb", std::nullopt}, Quantity{"1t", std::nullopt}, Quantity{" 1", std::nullopt},
                                         Quantity{"1.5k", std::nullopt}, Quantity{"9223372036854775808", std::nullopt},
                                         Quantity{"9223372036854775807k", std::nullopt}));

class UriDuration : public testing::TestWithParam<Quantity> {};
TEST_P(UriDuration, is_decimal_with_a_unit_and_saturates) { EXPECT_EQ(parse_uri_duration_ns(GetParam().text), GetParam().value); }
INSTANTIATE_TEST_SUITE_P(Spec, UriDuration,
                         testing::Values(Quantity{"5s", 5'000'000'000}, Quantity{"100ms", 100'000'000}, Quantity{"20us", 20'000},
                                         Quantity{"7ns", 7}, Quantity{"7", 7}, Quantity{"9223372036854775807s", kMost},
                                         Quantity{"99999999999999999999s", kMost}, Quantity{"", std::nullopt}, Quantity{"s", std::nullopt},
                                         Quantity{"-1s", std::nullopt}, Quantity{"1m", std::nullopt}, Quantity{"1 s", std::nullopt}));

class OperatorSize : public testing::TestWithParam<Quantity> {};
TEST_P(OperatorSize, takes_binary_units) { EXPECT_EQ(parse_size(GetParam().text), GetParam().value); }
INSTANTIATE_TEST_SUITE_P(Units, OperatorSize,
                         testing::Values(Quantity{"64KiB", 65536}, Quantity{"1MiB", 1 << 20}, Quantity{"2GiB", 2LL << 30},
                                         Quantity{"100", 100}, Quantity{"100B", 100}, Quantity{"64k", 65536}, Quantity{"64KB", std::nullopt},
                                         Quantity{"-1", std::nullopt}, Quantity{"", std::nullopt}));

class OperatorDuration : public testing::TestWithParam<Quantity> {};
TEST_P(OperatorDuration, takes_fractions_and_needs_a_unit) { EXPECT_EQ(parse_duration_ns(GetParam().text), GetParam().value); }
INSTANTIATE_TEST_SUITE_P(Units, OperatorDuration,
                         testing::Values(Quantity{"100ms", 100'000'000}, Quantity{"1.5s", 1'500'000'000}, Quantity{"20us", 20'000},
                                         Quantity{"5ns", 5}, Quantity{"2m", 120'000'000'000}, Quantity{"1h", 3'600'000'000'000},
                                         Quantity{"0", 0}, Quantity{"5", std::nullopt}, Quantity{"-1s", std::nullopt},
                                         Quantity{"nan s", std::nullopt}, Quantity{"infs", std::nullopt}, Quantity{"9999999999h", std::nullopt},
                                         Quantity{"", std::nullopt}));

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

TEST(Fd, closes_what_it_has_once_and_whatever_is_assigned_over) {
  const auto open = [] { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); };
  int first = -1, second = -1;
  {
    Fd one{first = open()};
    Fd two{second = open()};
    one = std::move(two);
    EXPECT_FALSE(is_open(first)) << "at once, not when the other one goes";
    EXPECT_EQ(one.get(), second);
    EXPECT_FALSE(two.is_open());
    Fd& same = one;
    one = std::move(same);
    EXPECT_TRUE(is_open(second)) << "assigned to itself";
  }
  EXPECT_FALSE(is_open(second));
  const int kept = Fd{open()}.release();
  EXPECT_TRUE(is_open(kept));
  EXPECT_EQ(::close(kept), 0);
  EXPECT_FALSE(Fd{}.is_open());
}

TEST(Format, is_the_shortest_exact_form_and_is_read_back) {
  EXPECT_EQ(format_size(65536), "64KiB");
  EXPECT_EQ(format_size(1500), "1500B");
  EXPECT_EQ(format_size(0), "0B");
  EXPECT_EQ(format_duration_ns(1'500'000), "1500us");
  EXPECT_EQ(format_duration_ns(5'000'000'000), "5s");
  EXPECT_EQ(format_duration_ns(0), "0ns");
  for (const std::int64_t v : {1LL, 1023LL, 1024LL, 65536LL, 1LL << 20, 3LL << 30, 1'000'000'007LL}) {
    EXPECT_EQ(parse_size(format_size(v)), v);
    EXPECT_EQ(parse_duration_ns(format_duration_ns(v)), v);
  }
}

TEST(Ipv4Text, accepts_dotted_quads_only) {
  EXPECT_EQ(parse_ipv4("10.0.0.1"), 0x0A000001U);
  EXPECT_EQ(parse_ipv4("255.255.255.255"), 0xFFFFFFFFU);
  for (const char* text : {"", "10.0.0", "10.0.0.1.", "10.0.0.256", "10.0.0.0001", "10..0.1", "-1.0.0.1", "10.0.0.1 ", "localhost", "10.0.0.1:5"}) {
    EXPECT_FALSE(parse_ipv4(text)) << text;
  }
  EXPECT_EQ(format_ipv4(0x0A4D0001), "10.77.0.1");
  EXPECT_EQ(format_endpoint(0x7F000001, 40123), "127.0.0.1:40123");
}

TEST(Bytes, loads_and_stores_work_at_any_address) {
  std::array<std::byte, 16> bytes{};
  store_be32(bytes.data() + 1, 0x01020304);
  EXPECT_EQ(std::to_integer<int>(bytes[1]), 1);
  EXPECT_EQ(load_be32(bytes.data() + 1), 0x01020304U);
  EXPECT_EQ(load_le<std::uint32_t>(bytes.data() + 1), 0x04030201U);
  store_be16(bytes.data() + 7, 0xABCD);
  EXPECT_EQ(load_be16(bytes.data() + 7), 0xABCD);
  store_le<std::int64_t>(bytes.data() + 3, -2);
  EXPECT_EQ(load_le<std::int64_t>(bytes.data() + 3), -2);
  static_assert(align_up(0, 32) == 0 && align_up(1, 32) == 32 && align_up(32, 32) == 32 && align_up<std::uint64_t>(1ULL << 40 | 1, 4096) == (1ULL << 40) + 4096);
}

TEST(Random, repeats_from_its_seed_and_stays_below_its_bound) {
  Random a{7};
  Random b{7};
  Random c{8};
  std::set<std::uint64_t> seen;
  bool differs = false;
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t x = a.next();
    EXPECT_EQ(x, b.next());
    differs |= x != c.next();
    const std::uint64_t small = a.below(10);
    EXPECT_EQ(small, b.below(10));
    ASSERT_LT(small, 10U);
    seen.insert(small);
    const double unit = a.unit();
    EXPECT_EQ(unit, b.unit());
    ASSERT_TRUE(unit >= 0.0 && unit < 1.0);
  }
  EXPECT_TRUE(differs);
  EXPECT_EQ(seen.size(), 10U);
  EXPECT_FALSE(a.chance_ppm(0));
  EXPECT_TRUE(a.chance_ppm(1'000'000));
}

TEST(Result, an_error_gains_context_and_keeps_its_hint) {
  Result<int> result = fail_errno(ErrorCode::kPermission, "open cnc.dat", EACCES, "check the umask");
  ASSERT_FALSE(result);
  const Error error = std::move(result.error()).with_context("start");
  EXPECT_EQ(error.code, ErrorCode::kPermission);
  EXPECT_EQ(error.message, "start: open cnc.dat: Permission denied");
  EXPECT_EQ(error.hint, "check the umask");
}

}  // namespace
}  // namespace thalweg
