// Reading torch's tensors without torch's headers, through DLPack's C exchange table (DLPack 1.2):
// the few structs of it that are needed here, and a note of how a tensor lay when it was read.
#pragma once

#include <Python.h>

#include <cstdint>
#include <vector>

namespace sphere_fused {

struct DLTensor {
  void* data;
  int32_t device_type, device_id;
  int32_t ndim;
  uint8_t type_code, type_bits;
  uint16_t type_lanes;
  int64_t* shape;
  int64_t* strides;
  uint64_t byte_offset;
};

struct DLExchangeTable {
  uint32_t major, minor;
  DLExchangeTable* previous;
  void* allocate;
  void* managed_from_object;
  void* managed_to_object;
  int (*tensor_from_object)(void* object, DLTensor* out);
  void* current_stream;
};

// How a tensor lies; `data` may be compared or ignored.
struct Layout {
  void* data;
  int32_t device_type, device_id;
  uint8_t type_code, type_bits;
  std::vector<int64_t> shape, strides;

  explicit Layout(const DLTensor& t)
      : data(t.data),
        device_type(t.device_type),
        device_id(t.device_id),
        type_code(t.type_code),
        type_bits(t.type_bits),
        shape(t.shape, t.shape + t.ndim),
        strides(t.strides, t.strides + t.ndim) {}

  bool same_type(const DLTensor& t) const {
    return t.type_code == type_code && t.type_bits == type_bits;
  }

  // The strides of dims with one element mean nothing.
  bool same_place_and_strides(const DLTensor& t) const {
    if (t.device_type != device_type || t.device_id != device_id) return false;
    if (size_t(t.ndim) != shape.size()) return false;
    for (int d = 0; d < t.ndim; ++d) {
      if (t.shape[d] != shape[d] || (shape[d] != 1 && t.strides[d] != strides[d])) return false;
    }
    return true;
  }
};

inline uintptr_t end_of(const DLTensor& t) {
  int64_t last = 0;
  for (int d = 0; d < t.ndim; ++d) last += (t.shape[d] - 1) * t.strides[d];
  return reinterpret_cast<uintptr_t>(t.data) + (last + 1) * (t.type_bits / 8);
}

}  // namespace sphere_fused
