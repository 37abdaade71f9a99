#include "dataplane/shm/commands.hpp"

#include <algorithm>
#include <limits>

namespace thalweg::shm {
namespace {

// Reads fields in order. A field that does not fit, or a negative length, spoils everything from there on: ask ok() at the end.
class Reader {
 public:
  explicit Reader(Bytes message) noexcept : message_{message} {}
  [[nodiscard]] bool ok() const noexcept { return ok_; }
  [[nodiscard]] std::size_t remaining() const noexcept { return message_.size() - at_; }

  template <typename T>
  T get() noexcept {
    const std::byte* const p = take(sizeof(T));
    return p != nullptr ? load_le<T>(p) : T{};
  }
  template <typename T>
  void get(T& out) noexcept {
    out = get<T>();
  }
  void get(std::byte* out, std::size_t length) noexcept {
    if (const std::byte* const p = take(length)) std::memcpy(out, p, length);
  }
  // A field behind its i32 length.
  Bytes bytes() noexcept {
    const auto length = get<std::int32_t>();
    if (length < 0) ok_ = false;
    const std::byte* const p = ok_ ? take(static_cast<std::size_t>(length)) : nullptr;
    return p != nullptr ? Bytes{p, static_cast<std::size_t>(length)} : Bytes{};
  }
  std::string_view text() noexcept {
    const Bytes b = bytes();
    return {reinterpret_cast<const char*>(b.data()), b.size()};
  }
  // Skips to the next multiple of 4 of the message.
  void align() noexcept { take(align_up<std::size_t>(at_, 4) - at_); }

 private:
  const std::byte* take(std::size_t length) noexcept {
    if (!ok_ || length > remaining()) {
      ok_ = false;
      return nullptr;
    }
    const std::byte* const p = message_.data() + at_;
    at_ += length;
    return p;
  }

  Bytes message_;
  std::size_t at_{};
  bool ok_{true};
};

// Appends fields in order to a buffer that it empties first.
class Writer {
 public:
  explicit Writer(Buffer& out) : out_{out} { out_.clear(); }
  template <typename T>
  Writer& put(T value) {
    const std::size_t at = out_.size();
    out_.resize(at + sizeof(T));
    store_le(out_.data() + at, value);
    return *this;
  }
  Writer& raw(Bytes bytes) {
    out_.insert(out_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  Writer& bytes(Bytes bytes) { return put(static_cast<std::int32_t>(bytes.size())).raw(bytes); }
  Writer& text(std::string_view text) { return bytes(std::as_bytes(std::span{text.data(), text.size()})); }
  Writer& align() {
    out_.resize(align_up<std::size_t>(out_.size(), 4));
    return *this;
  }
  void pad_to(std::size_t length) { out_.resize(std::max(out_.size(), length)); }

 private:
  Buffer& out_;
};

void get(Reader& in, CommandHeader& m) noexcept {
  in.get(m.client_id);
  in.get(m.correlation_id);
}

Writer begin(Buffer& out, const CommandHeader& m) {
  Writer writer{out};
  writer.put(m.client_id).put(m.correlation_id);
  return writer;
}

template <typename T>
std::optional<T> checked(const Reader& in, const T& message) noexcept {
  return in.ok() ? std::optional<T>{message} : std::nullopt;
}

// decode() of a command: the common header, then what `fields` reads.
template <typename T, typename Fields>
std::optional<T> decode_command(Bytes bytes, Fields&& fields) noexcept {
  Reader in{bytes};
  T m;
  get(in, m);
  fields(in, m);
  return checked(in, m);
}

template <typename T, typename Fields>
std::optional<T> decode_response(Bytes bytes, Fields&& fields) noexcept {
  Reader in{bytes};
  T m;
  fields(in, m);
  return checked(in, m);
}

}  // namespace

// ---- commands ----

template <>
std::optional<CommandHeader> decode(Bytes bytes) {
  return decode_command<CommandHeader>(bytes, [](Reader&, CommandHeader&) {});
}

template <>
std::optional<AddPublication> decode(Bytes bytes) {
  return decode_command<AddPublication>(bytes, [](Reader& in, AddPublication& m) {
    in.get(m.stream_id);
    m.channel = in.text();
  });
}

template <>
std::optional<RemovePublication> decode(Bytes bytes) {
  return decode_command<RemovePublication>(bytes, [](Reader& in, RemovePublication& m) {
    in.get(m.registration_id);
    if (in.remaining() >= sizeof(std::uint64_t)) m.revoke = (in.get<std::uint64_t>() & 1) != 0;  // clients before 1.48 send no flags
  });
}

template <>
std::optional<AddSubscription> decode(Bytes bytes) {
  return decode_command<AddSubscription>(bytes, [](Reader& in, AddSubscription& m) {
    in.get(m.registration_correlation_id);
    in.get(m.stream_id);
    m.channel = in.text();
  });
}

template <>
std::optional<RemoveRegistration> decode(Bytes bytes) {
  return decode_command<RemoveRegistration>(bytes, [](Reader& in, RemoveRegistration& m) { in.get(m.registration_id); });
}

template <>
std::optional<DestinationCommand> decode(Bytes bytes) {
  return decode_command<DestinationCommand>(bytes, [](Reader& in, DestinationCommand& m) {
    in.get(m.registration_id);
    m.channel = in.text();
  });
}

template <>
std::optional<RemoveDestinationById> decode(Bytes bytes) {
  return decode_command<RemoveDestinationById>(bytes, [](Reader& in, RemoveDestinationById& m) {
    in.get(m.publication_registration_id);
    in.get(m.destination_registration_id);
  });
}

template <>
std::optional<AddCounter> decode(Bytes bytes) {
  return decode_command<AddCounter>(bytes, [](Reader& in, AddCounter& m) {
    in.get(m.type_id);
    m.key = in.bytes();
    in.align();
    m.label = in.text();
  });
}

template <>
std::optional<AddStaticCounter> decode(Bytes bytes) {
  return decode_command<AddStaticCounter>(bytes, [](Reader& in, AddStaticCounter& m) {
    in.get(m.registration_id);
    in.get(m.type_id);
    m.key = in.bytes();
    in.align();
    m.label = in.text();
  });
}

template <>
std::optional<ClientCommand> decode(Bytes bytes) {
  return decode_command<ClientCommand>(bytes, [](Reader&, ClientCommand&) {});
}

template <>
std::optional<TerminateDriver> decode(Bytes bytes) {
  return decode_command<TerminateDriver>(bytes, [](Reader& in, TerminateDriver& m) { m.token = in.bytes(); });
}

template <>
std::optional<RejectImage> decode(Bytes bytes) {
  return decode_command<RejectImage>(bytes, [](Reader& in, RejectImage& m) {
    in.get(m.image_correlation_id);
    in.get(m.position);
    m.reason = in.text();
  });
}

template <>
std::optional<GetNextAvailableSessionId> decode(Bytes bytes) {
  return decode_command<GetNextAvailableSessionId>(bytes, [](Reader& in, GetNextAvailableSessionId& m) { in.get(m.stream_id); });
}

void encode(Buffer& out, const AddPublication& m) { begin(out, m).put(m.stream_id).text(m.channel); }
void encode(Buffer& out, const RemovePublication& m) { begin(out, m).put(m.registration_id).put(std::uint64_t{m.revoke}); }
void encode(Buffer& out, const AddSubscription& m) {
  begin(out, m).put(m.registration_correlation_id).put(m.stream_id).text(m.channel);
}
void encode(Buffer& out, const RemoveRegistration& m) { begin(out, m).put(m.registration_id); }
void encode(Buffer& out, const DestinationCommand& m) { begin(out, m).put(m.registration_id).text(m.channel); }
void encode(Buffer& out, const RemoveDestinationById& m) {
  begin(out, m).put(m.publication_registration_id).put(m.destination_registration_id);
}
void encode(Buffer& out, const AddCounter& m) { begin(out, m).put(m.type_id).bytes(m.key).align().text(m.label); }
void encode(Buffer& out, const AddStaticCounter& m) {
  begin(out, m).put(m.registration_id).put(m.type_id).bytes(m.key).align().text(m.label);
}
void encode(Buffer& out, const ClientCommand& m) { begin(out, m); }
void encode(Buffer& out, const TerminateDriver& m) { begin(out, m).bytes(m.token); }
void encode(Buffer& out, const RejectImage& m) {
  begin(out, m).put(m.image_correlation_id).put(m.position).text(m.reason).pad_to(40);  // stock C drivers drop shorter ones (6.2)
}
void encode(Buffer& out, const GetNextAvailableSessionId& m) { begin(out, m).put(m.stream_id); }

// ---- responses ----

template <>
std::optional<OnError> decode(Bytes bytes) {
  return decode_response<OnError>(bytes, [](Reader& in, OnError& m) {
    in.get(m.offending_correlation_id);
    in.get(m.code);
    m.text = in.text();
  });
}

template <>
std::optional<OnPublicationReady> decode(Bytes bytes) {
  return decode_response<OnPublicationReady>(bytes, [](Reader& in, OnPublicationReady& m) {
    in.get(m.correlation_id);
    in.get(m.original_registration_id);
    in.get(m.session_id);
    in.get(m.stream_id);
    in.get(m.publisher_limit_counter_id);
    in.get(m.channel_status_counter_id);
    m.log_path = in.text();
  });
}

template <>
std::optional<OnSubscriptionReady> decode(Bytes bytes) {
  return decode_response<OnSubscriptionReady>(bytes, [](Reader& in, OnSubscriptionReady& m) {
    in.get(m.correlation_id);
    in.get(m.channel_status_counter_id);
  });
}

template <>
std::optional<OnAvailableImage> decode(Bytes bytes) {
  return decode_response<OnAvailableImage>(bytes, [](Reader& in, OnAvailableImage& m) {
    in.get(m.correlation_id);
    in.get(m.session_id);
    in.get(m.stream_id);
    in.get(m.subscription_registration_id);
    in.get(m.subscriber_position_counter_id);
    m.log_path = in.text();
    in.align();
    m.source_identity = in.text();
  });
}

template <>
std::optional<OnUnavailableImage> decode(Bytes bytes) {
  return decode_response<OnUnavailableImage>(bytes, [](Reader& in, OnUnavailableImage& m) {
    in.get(m.correlation_id);
    in.get(m.subscription_registration_id);
    in.get(m.stream_id);
    m.channel = in.text();
  });
}

template <>
std::optional<OnOperationSuccess> decode(Bytes bytes) {
  return decode_response<OnOperationSuccess>(bytes, [](Reader& in, OnOperationSuccess& m) { in.get(m.correlation_id); });
}

template <>
std::optional<OnCounter> decode(Bytes bytes) {
  return decode_response<OnCounter>(bytes, [](Reader& in, OnCounter& m) {
    in.get(m.correlation_id);
    in.get(m.counter_id);
  });
}

template <>
std::optional<OnClientTimeout> decode(Bytes bytes) {
  return decode_response<OnClientTimeout>(bytes, [](Reader& in, OnClientTimeout& m) { in.get(m.client_id); });
}

template <>
std::optional<OnNextAvailableSessionId> decode(Bytes bytes) {
  return decode_response<OnNextAvailableSessionId>(bytes, [](Reader& in, OnNextAvailableSessionId& m) {
    in.get(m.correlation_id);
    in.get(m.session_id);
  });
}

template <>
std::optional<OnPublicationError> decode(Bytes bytes) {
  return decode_response<OnPublicationError>(bytes, [](Reader& in, OnPublicationError& m) {
    in.get(m.registration_id);
    in.get(m.destination_registration_id);
    in.get(m.session_id);
    in.get(m.stream_id);
    in.get(m.receiver_id);
    in.get(m.group_tag);
    in.get(m.address_type);
    in.get(m.source_port);
    in.get(m.address, sizeof m.address);
    in.get(m.code);
    m.text = in.text();
  });
}

void encode(Buffer& out, const OnError& m) { Writer{out}.put(m.offending_correlation_id).put(m.code).text(m.text); }
void encode(Buffer& out, const OnPublicationReady& m) {
  Writer{out}
      .put(m.correlation_id)
      .put(m.original_registration_id)
      .put(m.session_id)
      .put(m.stream_id)
      .put(m.publisher_limit_counter_id)
      .put(m.channel_status_counter_id)
      .text(m.log_path);
}
void encode(Buffer& out, const OnSubscriptionReady& m) { Writer{out}.put(m.correlation_id).put(m.channel_status_counter_id); }
void encode(Buffer& out, const OnAvailableImage& m) {
  Writer{out}
      .put(m.correlation_id)
      .put(m.session_id)
      .put(m.stream_id)
      .put(m.subscription_registration_id)
      .put(m.subscriber_position_counter_id)
      .text(m.log_path)
      .align()
      .text(m.source_identity);
}
void encode(Buffer& out, const OnUnavailableImage& m) {
  Writer{out}.put(m.correlation_id).put(m.subscription_registration_id).put(m.stream_id).text(m.channel);
}
void encode(Buffer& out, const OnOperationSuccess& m) { Writer{out}.put(m.correlation_id); }
void encode(Buffer& out, const OnCounter& m) { Writer{out}.put(m.correlation_id).put(m.counter_id); }
void encode(Buffer& out, const OnClientTimeout& m) { Writer{out}.put(m.client_id); }
void encode(Buffer& out, const OnNextAvailableSessionId& m) { Writer{out}.put(m.correlation_id).put(m.session_id); }
void encode(Buffer& out, const OnPublicationError& m) {
  Writer{out}
      .put(m.registration_id)
      .put(m.destination_registration_id)
      .put(m.session_id)
      .put(m.stream_id)
      .put(m.receiver_id)
      .put(m.group_tag)
      .put(m.address_type)
      .put(m.source_port)
      .raw(m.address)
      .put(m.code)
      .text(m.text)
      .pad_to(72);  // stock C clients take anything shorter for malformed (6.3)
}

}  // namespace thalweg::shm
