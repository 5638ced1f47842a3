// torch for CUDA and torch_npu 2.13 both register the allocator setting
// pinned_reserve_segment_size_mb, and the second of them ends the process. Here each device finds a
// set of names of its own; nothing is allocated on a device, so that no setting is ever read.
#include <string>
#include <unordered_set>

namespace c10::CachingAllocator {
struct AcceleratorAllocatorConfig {
  static std::unordered_set<std::string>& getMutableKeys();
};

std::unordered_set<std::string>& AcceleratorAllocatorConfig::getMutableKeys() {
  return *new std::unordered_set<std::string>();
}
}  // namespace c10::CachingAllocator
