// Whether an optimizer's tensors are still where its plan says, asked before every step.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "tensors.h"

namespace sphere_fused {

namespace py = pybind11;

class Watch {
 public:
  struct Gradient {
    py::object tensor;  // keeps it alive through the step
    void* data = nullptr;
    bool is_float32 = false;
  };
  using Span = std::pair<uintptr_t, uintptr_t>;

  // entries: (parameter, its state dict, keys of the tensors in it); spans: what a step writes.
  Watch(const py::capsule& api, py::dict state, const py::list& groups, const py::list& entries,
        py::list dormant, std::vector<Span> spans)
      : state_(state), dormant_(dormant), spans_(std::move(spans)) {
    const auto* table =
        static_cast<const DLExchangeTable*>(PyCapsule_GetPointer(api.ptr(), "dlpack_exchange_api"));
    if (!table) throw py::error_already_set();
    if (table->major != 1 || !table->tensor_from_object) {
      throw py::value_error("this version of DLPack's exchange table is not known");
    }
    read_ = table->tensor_from_object;
    std::sort(spans_.begin(), spans_.end());
    for (const auto& item : state) {
      held_.emplace_back(item.first, item.second);
    }
    for (const auto& group : groups) {
      const py::object params = group[py::str("params")];
      groups_.push_back({group, params, {}});
      for (const auto& p : params) groups_.back().params.push_back(p);
    }
    for (const auto& item : entries) {
      const auto entry = item.cast<py::tuple>();
      const auto state_of = entry[1].cast<py::dict>();
      note(entry[0]);
      entries_.push_back({state_of, uint32_t(keys_.size()), 0, nullptr, false});
      for (const auto& key : entry[2]) {
        note(state_of[key]);
        keys_.push_back(key);
        ++entries_.back().keys;
      }
    }
    gradients.resize(entries_.size());
  }

  // Fills `gradients`. Nothing if a plan must be made anew; else the numbers of the entries whose
  // gradient does not lie like its parameter, for Python to judge.
  std::optional<std::vector<int64_t>> check() {
    type_ = nullptr;
    if (!same_groups() || !same_states()) return std::nullopt;
    for (const auto& p : dormant_) {
      if (!gradient_of(p).is_none()) return std::nullopt;
    }
    std::vector<int64_t> odd;
    size_t n = 0;  // of the notes: each parameter, then its state
    for (size_t i = 0; i < entries_.size(); ++i) {
      Entry& e = entries_[i];
      const size_t param = n++;
      if (!unmoved(param)) return std::nullopt;
      for (uint32_t k = 0; k < e.keys; ++k, ++n) {
        PyObject* held = PyDict_GetItemWithError(e.state.ptr(), keys_[e.first_key + k].ptr());
        if (held != notes_[n].object || !unmoved(n)) return std::nullopt;
      }
      gradients[i] = {gradient_of(notes_[param].object), nullptr, false};
      if (!gradients[i].tensor.is_none() && !usable(param, e, gradients[i])) odd.push_back(i);
    }
    return odd;
  }

  std::vector<Gradient> gradients;

 private:
  struct Entry {
    py::handle state;
    uint32_t first_key, keys;
    void* last_gradient;  // known not to overlap what is written
    bool last_was_float32;
  };
  struct Group {
    py::handle dict, params_object;
    std::vector<py::handle> params;
  };

  void note(const py::object& tensor) {
    DLTensor t;
    if (read_(tensor.ptr(), &t) != 0) throw py::error_already_set();
    notes_.add(tensor.ptr(), t);
  }

  bool read(PyObject* tensor, DLTensor* out) const {
    if (read_(tensor, out) == 0) return true;
    PyErr_Clear();  // sparse, say: Python will find words for it
    return false;
  }

  py::object gradient_of(py::handle p) {
    if (Py_TYPE(p.ptr()) != type_) look_up_grad(Py_TYPE(p.ptr()));
    PyObject* gradient =
        grad_ ? grad_->get(p.ptr(), grad_->closure) : PyObject_GetAttr(p.ptr(), name_.ptr());
    if (!gradient) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(gradient);
  }

  // Getting an attribute spends a third of its time on finding out what it is; mostly that is
  // known.
  void look_up_grad(PyTypeObject* type) {
    type_ = type, grad_ = nullptr;
    if (type->tp_getattro != PyObject_GenericGetAttr) return;
    const py::object found = py::getattr(reinterpret_cast<PyObject*>(type), name_, py::none());
    if (Py_TYPE(found.ptr()) != &PyGetSetDescr_Type) return;
    auto* const descriptor = reinterpret_cast<PyGetSetDescrObject*>(found.ptr());
    if (PyType_IsSubtype(type, PyDescr_TYPE(descriptor))) grad_ = descriptor->d_getset;
  }

  static constexpr size_t kAhead = 8;

  bool unmoved(size_t i) const {
    notes_.prefetch(i + kAhead);
    DLTensor t;
    return read(notes_[i].object, &t) && t.data == notes_[i].data && notes_.same_type(i, t) &&
           notes_.same_layout(i, t);
  }

  bool usable(size_t param, Entry& e, Gradient& gradient) const {
    DLTensor t;
    if (!read(gradient.tensor.ptr(), &t)) return false;
    gradient.is_float32 = t.type_code == 2 && t.type_bits == 32;
    if (!gradient.is_float32 && !notes_.same_type(param, t)) return false;
    if (!notes_.same_layout(param, t) || !t.data) return false;
    const auto start = reinterpret_cast<uintptr_t>(t.data);
    if (t.data != e.last_gradient || gradient.is_float32 != e.last_was_float32) {
      const auto after = std::lower_bound(spans_.begin(), spans_.end(), Span{end_of(t), 0});
      if (after != spans_.begin() && std::prev(after)->second > start) return false;
      e.last_gradient = t.data;
      e.last_was_float32 = gradient.is_float32;
    }
    gradient.data = t.data;
    return true;
  }

  bool same_states() const {
    if (size_t(PyDict_Size(state_.ptr())) != held_.size()) return false;
    PyObject *key, *value;
    Py_ssize_t position = 0;
    for (size_t i = 0; PyDict_Next(state_.ptr(), &position, &key, &value); ++i) {
      if (key != held_[i].first.ptr() || value != held_[i].second.ptr()) return false;
    }
    return true;
  }

  bool same_groups() const {
    static PyObject* name = PyUnicode_InternFromString("params");
    for (const Group& g : groups_) {
      if (PyDict_GetItemWithError(g.dict.ptr(), name) != g.params_object.ptr()) return false;
      if (!PyList_Check(g.params_object.ptr())) continue;  // a tuple does not change
      if (size_t(PyList_GET_SIZE(g.params_object.ptr())) != g.params.size()) return false;
      for (size_t i = 0; i < g.params.size(); ++i) {
        if (PyList_GET_ITEM(g.params_object.ptr(), i) != g.params[i].ptr()) return false;
      }
    }
    return true;
  }

  int (*read_)(void*, DLTensor*);
  const py::str name_{"grad"};
  PyTypeObject* type_ = nullptr;  // of the last parameter in this step, and what its `grad` is
  const PyGetSetDef* grad_ = nullptr;
  // All borrowed: the Python Plan, which owns this, keeps them, and Python's collector knows it.
  py::handle state_, dormant_;
  std::vector<std::pair<py::handle, py::handle>> held_;
  std::vector<Group> groups_;
  std::vector<Entry> entries_;
  std::vector<py::handle> keys_;
  Notes notes_;
  std::vector<Span> spans_;
};

}  // namespace sphere_fused
