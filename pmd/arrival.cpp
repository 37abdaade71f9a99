#include "pmd/arrival.hpp"

#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>

namespace thalweg::pmd {
namespace {

// DPDK's own timestamp field has the driver's unit in it, and some drivers fill it unasked.
constexpr rte_mbuf_dynfield kField{.name = "thalweg_dynfield_arrival", .size = sizeof(std::int64_t), .align = alignof(std::int64_t), .flags = 0};
constexpr rte_mbuf_dynflag kFlag{.name = "thalweg_dynflag_arrival", .flags = 0};

int field_offset = -1;
std::uint64_t flag = 0;  // 0: not registered, and no frame has it

}  // namespace

Result<void> register_arrivals() {
  field_offset = rte_mbuf_dynfield_register(&kField);
  const int bit = field_offset < 0 ? -1 : rte_mbuf_dynflag_register(&kFlag);
  if (bit < 0) return fail(ErrorCode::kNoSpace, std::string{"no room in packet buffers for arrival times: "} + rte_strerror(rte_errno));
  flag = std::uint64_t{1} << bit;
  return {};
}

void set_arrival(rte_mbuf& frame, std::int64_t epoch_ns) noexcept {
  if (flag == 0) return;
  *RTE_MBUF_DYNFIELD(&frame, field_offset, std::int64_t*) = epoch_ns;
  frame.ol_flags |= flag;
}

std::int64_t arrival_of(const rte_mbuf& frame) noexcept {
  return (frame.ol_flags & flag) == 0 ? 0 : *RTE_MBUF_DYNFIELD(&frame, field_offset, const std::int64_t*);
}

}  // namespace thalweg::pmd
