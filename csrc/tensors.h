// Reading torch's tensors without torch's headers, through DLPack's C exchange table (DLPack 1.2):
// the few structs of it that are needed here, and notes of how tensors lay when they were read.
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

inline uintptr_t end_of(const DLTensor& t) {
  int64_t last = 0;
  for (int d = 0; d < t.ndim; ++d) last += (t.shape[d] - 1) * t.strides[d];
  return reinterpret_cast<uintptr_t>(t.data) + (last + 1) * (t.type_bits / 8);
}

// How many tensors lay. All of a plan's notes are in two arrays that are read from front to back:
// in a training loop nothing of this is in the cache when a step begins, and that is what it costs.
class Notes {
 public:
  struct Note {
    PyObject* object;  // borrowed
    void* data;
    const char* inside;  // where the shape was read, in the middle of torch's description
    int32_t device_type, device_id, ndim;
    uint8_t type_code, type_bits;
    uint32_t dims;  // where in dims_ its shape and strides begin
  };

  void add(PyObject* object, const DLTensor& t) {
    notes_.push_back({object, t.data, reinterpret_cast<const char*>(t.shape), t.device_type,
                      t.device_id, t.ndim, t.type_code, t.type_bits, uint32_t(dims_.size())});
    dims_.insert(dims_.end(), t.shape, t.shape + t.ndim);
    dims_.insert(dims_.end(), t.strides, t.strides + t.ndim);
  }

  // Asks for what will be read of tensor i, which is no error should it be gone.
  void prefetch(size_t i) const {
    if (i >= notes_.size()) return;
    __builtin_prefetch(notes_[i].object);
    for (int line = -1; line < 3; ++line) __builtin_prefetch(notes_[i].inside + 64 * line);
  }

  size_t size() const { return notes_.size(); }
  const Note& operator[](size_t i) const { return notes_[i]; }

  bool same_type(size_t i, const DLTensor& t) const {
    return t.type_code == notes_[i].type_code && t.type_bits == notes_[i].type_bits;
  }

  // Whether `t` lies like tensor i, wherever. The strides of dims with one element mean nothing.
  bool same_layout(size_t i, const DLTensor& t) const {
    const Note& n = notes_[i];
    if (t.device_type != n.device_type || t.device_id != n.device_id || t.ndim != n.ndim) {
      return false;
    }
    const int64_t* shape = dims_.data() + n.dims;
    const int64_t* strides = shape + n.ndim;
    for (int d = 0; d < t.ndim; ++d) {
      if (t.shape[d] != shape[d] || (shape[d] != 1 && t.strides[d] != strides[d])) return false;
    }
    return true;
  }

 private:
  std::vector<Note> notes_;
  std::vector<int64_t> dims_;
};

}  // namespace sphere_fused
