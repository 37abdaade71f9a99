#include "controlplane/cli/pcapng_writer.hpp"

#include <string>

#include "dataplane/base/bytes.hpp"

namespace thalweg::cli {
namespace {

constexpr std::uint32_t kSectionHeader = 0x0A0D0D0A, kInterfaceDescription = 1, kEnhancedPacket = 6;
constexpr std::uint32_t kByteOrderMagic = 0x1A2B3C4D;
constexpr std::uint32_t kUnknownLength = 0xFFFFFFFF;
constexpr std::uint32_t kLinkTypeEthernet = 1;
constexpr std::uint32_t kOptionIfTsResol = 9U | 1U << 16, kNanoseconds = 9, kOptionEnd = 0;

void put(std::string& to, std::uint32_t value) {
  std::byte bytes[4];
  store_le(bytes, value);
  to.append(reinterpret_cast<const char*>(bytes), sizeof bytes);
}

void write_block(std::ostream& out, std::uint32_t type, const std::string& body) {
  std::string block;
  const auto length = static_cast<std::uint32_t>(body.size() + 12);
  put(block, type);
  put(block, length);
  block += body;
  put(block, length);
  out.write(block.data(), static_cast<std::streamsize>(block.size()));
}

}  // namespace

PcapngWriter::PcapngWriter(std::ostream& out) : out_{out} {
  std::string section, interface;
  for (const std::uint32_t word : {kByteOrderMagic, 1U, kUnknownLength, kUnknownLength}) put(section, word);
  write_block(out_, kSectionHeader, section);
  for (const std::uint32_t word : {kLinkTypeEthernet, 0U, kOptionIfTsResol, kNanoseconds, kOptionEnd}) put(interface, word);
  write_block(out_, kInterfaceDescription, interface);
}

void PcapngWriter::add(std::int64_t epoch_ns, std::span<const std::byte> frame) {
  const auto time = static_cast<std::uint64_t>(epoch_ns);
  const auto length = static_cast<std::uint32_t>(frame.size());
  std::string body;
  for (const std::uint32_t word : {0U, static_cast<std::uint32_t>(time >> 32U), static_cast<std::uint32_t>(time), length, length}) put(body, word);
  body.append(reinterpret_cast<const char*>(frame.data()), frame.size());
  body.append(align_up<std::size_t>(frame.size(), 4) - frame.size(), '\0');
  write_block(out_, kEnhancedPacket, body);
}

}  // namespace thalweg::cli
