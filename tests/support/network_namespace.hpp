#pragma once

// A network of its own for one test.
namespace thalweg::test {

// While it lives the calling thread is in a network namespace of its own, with what `commands` (a shell's) made there. Sockets stay where they
// were opened.
class NetworkNamespace {
 public:
  explicit NetworkNamespace(const char* commands);
  ~NetworkNamespace();
  NetworkNamespace(const NetworkNamespace&) = delete;
  NetworkNamespace& operator=(const NetworkNamespace&) = delete;
  // False: this process may not make one (it takes CAP_SYS_ADMIN), or a command failed; nothing has changed then.
  [[nodiscard]] bool is_there() const noexcept { return is_there_; }

 private:
  int home_{-1};
  bool is_there_{};
};

}  // namespace thalweg::test
