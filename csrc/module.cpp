// The Python module: the Plan of one optimizer, and what was built. No arithmetic.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <vector>

#include "cpu/schedule.h"
#ifdef SPHERE_CUDA
#include "cuda/steps.h"
#endif
#include "watch.h"

namespace sphere_fused {
namespace {

#include "build_info.h"  // written by setup.py

const Kernels* const kAllKernels[] = {
#if defined(__x86_64__)
    &kX86_64_v3,
#endif
    &kBaseline,
};

const Kernels* chosen = nullptr;  // by use_instruction_set, else the best that runs

const Kernels& kernels() {
  static const Kernels* const best = [] {
    for (const Kernels* k : kAllKernels) {
      if (k->runs_here()) return k;
    }
    return &kBaseline;
  }();
  return chosen ? *chosen : *best;
}

void step_of_bytes(uintptr_t w, uintptr_t g, uintptr_t m, int64_t count, int threads) {
  py::gil_scoped_release release;
  stream(kernels(), reinterpret_cast<float*>(w), reinterpret_cast<const float*>(g),
         reinterpret_cast<float*>(m), count, threads);
}

class Plan {
 public:
  void add(uintptr_t w, uintptr_t m, uintptr_t v, uintptr_t s, uintptr_t radius, uintptr_t step,
           int64_t outer, int64_t dim, int64_t inner, int group, int rule, int w_type,
           bool elementwise) {
    table_.push_back({.w = reinterpret_cast<void*>(w),
                      .g = nullptr,
                      .m = reinterpret_cast<void*>(m),
                      .v = reinterpret_cast<void*>(v),
                      .s = reinterpret_cast<void*>(s),
                      .radius = reinterpret_cast<const void*>(radius),
                      .step = reinterpret_cast<float*>(step),
                      .outer = outer,
                      .dim = dim,
                      .inner = inner,
                      .group = group,
                      .rule = int8_t(rule),
                      .w_type = DType(w_type),
                      .g_type = DType(w_type),
                      .elementwise = elementwise,
                      .on_cpu = false});
  }

  void watch(const py::capsule& api, const py::dict& state, const py::list& groups,
             const py::list& entries, const py::list& dormant, std::vector<Watch::Span> spans) {
    watch_ = std::make_unique<Watch>(api, state, groups, entries, dormant, std::move(spans));
  }

  py::object check() {
    const auto odd = watch_->check();
    if (!odd) return py::none();
    for (size_t i = 0; i < table_.size(); ++i) {
      const Watch::Gradient& gradient = watch_->gradients[i];
      table_[i].g = gradient.data;
      table_[i].g_type = gradient.is_float32 ? kFloat32 : table_[i].w_type;
    }
    return py::cast(*odd);
  }

  void set_gradient(size_t i, uintptr_t g, int g_type) {
    table_.at(i).g = reinterpret_cast<void*>(g);
    table_[i].g_type = DType(g_type);
  }

  // Of every entry, as plan.Plan.gradients explains them.
  py::tuple gradients() const {
    std::string addresses, types;
    for (const Segments& entry : table_) {
      addresses.append(reinterpret_cast<const char*>(&entry.g), sizeof entry.g);
      types.push_back(char(entry.g_type));
    }
    return py::make_tuple(py::bytes(addresses), py::bytes(types));
  }

  // The entries that `step` steps.
  void claim(const std::vector<size_t>& indices) {
    for (size_t i : indices) table_.at(i).on_cpu = true;
  }

  void step(const std::vector<GroupHyper>& groups, int threads) {
    py::gil_scoped_release release;
    cpu_steps_.step(kernels(), table_.data(), table_.size(), groups.data(), threads);
  }

  const std::vector<Segments>& table() const { return table_; }

  void release() {
    if (!watch_) return;
    for (Watch::Gradient& gradient : watch_->gradients) gradient.tensor = py::object();
  }

 private:
  std::vector<Segments> table_;
  CpuSteps cpu_steps_;
  std::unique_ptr<Watch> watch_;
};

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const Kernels* k : kAllKernels) {
    if (k->runs_here()) names.push_back(k->isa);
  }
  return names;
}

void use_instruction_set(const std::optional<std::string>& name) {
  chosen = nullptr;
  if (!name) return;
  for (const Kernels* k : kAllKernels) {
    if (*name == k->isa && k->runs_here()) chosen = k;
  }
  if (!chosen) throw py::value_error("no kernels for " + *name + " that this processor can run");
}

#ifdef SPHERE_CUDA
CudaSteps make_cuda_steps(const Plan& plan, int device, std::vector<size_t> indices,
                          size_t group_count) {
  return CudaSteps(device, std::move(indices), plan.table(), group_count);
}

py::bytes cuda_image(const CudaSteps& steps) {
  return py::bytes(reinterpret_cast<const char*>(steps.image().data()), steps.image().size());
}

void cuda_step(CudaSteps& steps, const Plan& plan, const std::vector<GroupHyper>& groups,
               uintptr_t memory, uintptr_t stream, int64_t most_blocks, bool capturing) {
  py::gil_scoped_release release;
  steps.step(plan.table(), groups, reinterpret_cast<void*>(memory), reinterpret_cast<void*>(stream),
             most_blocks, capturing);
}
#endif

py::list rule_names() {
  py::list names;
  for (const RuleInfo& rule : kRules) names.append(rule.name);
  return names;
}

}  // namespace
}  // namespace sphere_fused

namespace pybind11::detail {

// A plan.GroupHyper, which is a named tuple in this order. Instead of lr, grad_scale and found_inf
// it may hold where they are on a GPU: (address, whether a double lies there).
template <>
struct type_caster<sphere_fused::GroupHyper> {
  PYBIND11_TYPE_CASTER(sphere_fused::GroupHyper, const_name("GroupHyper"));
  bool load(handle source, bool) {
    PyObject* t = source.ptr();
    if (!PyTuple_Check(t) || PyTuple_GET_SIZE(t) != 16) return false;
    const auto number = [t](int i) { return PyFloat_AsDouble(PyTuple_GET_ITEM(t, i)); };
    // Returns the address, or null with the number.
    const auto placed = [&](int i, double& into, bool& is_double) -> const void* {
      PyObject* const item = PyTuple_GET_ITEM(t, i);
      if (!PyTuple_Check(item)) return into = number(i), nullptr;
      int flag = 0;
      unsigned long long address = 0;
      if (PyArg_ParseTuple(item, "Kp", &address, &flag)) is_double = flag;
      return reinterpret_cast<const void*>(uintptr_t(address));
    };
    value = {.lr = 0,
             .beta1 = number(1),
             .gain1 = number(2),
             .beta2 = number(3),
             .eps = number(4),
             .weight_decay = number(5),
             .decoupled = number(6) != 0,
             .grad_clip = number(7),
             .beta3 = number(8),
             .ahead_m = number(9),
             .ahead_g = number(10),
             .corrects = number(11) != 0,
             .maximize = number(12) != 0};
    PyObject* own = PyTuple_GET_ITEM(t, 13);
    if (!PyTuple_Check(own) || PyTuple_GET_SIZE(own) > sphere_fused::kMostOwn) return false;
    for (int i = 0; i < PyTuple_GET_SIZE(own); ++i) {
      value.own[i] = PyFloat_AsDouble(PyTuple_GET_ITEM(own, i));
    }
    bool is_double = false;
    value.lr_at = placed(0, value.lr, value.lr_is_double);
    value.grad_scale_at = static_cast<const float*>(placed(14, value.grad_scale, is_double));
    value.found_inf_at = static_cast<const float*>(placed(15, value.found_inf, is_double));
    return !is_double && !PyErr_Occurred();
  }
};

}  // namespace pybind11::detail

PYBIND11_MODULE(_native, m) {
  using sphere_fused::Plan;
  namespace py = pybind11;
  m.doc() = "The compiled backend of sphere_fused.";
  m.attr("RULES") = sphere_fused::rule_names();
  py::dict build;
  for (const auto& [what, how] : sphere_fused::kBuild) build[what] = how;
  m.attr("BUILD") = build;
  m.def("instruction_sets", &sphere_fused::instruction_sets, "Those this processor can run.");
  m.def("use_instruction_set", &sphere_fused::use_instruction_set, py::arg("name").none(true),
        "Force one of instruction_sets() in this process; None for the best.");
  m.def(
      "stream", &sphere_fused::step_of_bytes,
      "A step that only moves its bytes, of `count` float32 weights: reads three arrays, given by "
      "their addresses, and writes the first and the last.");
  py::class_<Plan>(m, "Plan", "The tensors of one optimizer; see sphere_fused/plan.py.")
      .def(py::init<>())
      .def("add", &Plan::add)
      .def("watch", &Plan::watch)
      .def("check", &Plan::check)
      .def("set_gradient", &Plan::set_gradient)
      .def("gradients", &Plan::gradients)
      .def("claim", &Plan::claim)
      .def("step", &Plan::step)
      .def("release", &Plan::release);
#ifdef SPHERE_CUDA
  using sphere_fused::CudaSteps;
  m.def("cuda_problem", &sphere_fused::cuda_problem,
        "What keeps the kernels from running on this GPU, or ''.");
  py::class_<CudaSteps>(m, "CudaSteps", "The tensors of a Plan that are on one GPU.")
      .def(py::init(&sphere_fused::make_cuda_steps))
      .def("memory_bytes", &CudaSteps::memory_bytes)
      .def("image", &sphere_fused::cuda_image)
      .def("fits",
           [](const CudaSteps& steps, const Plan& plan) { return steps.fits(plan.table()); })
      .def("step", &sphere_fused::cuda_step);
#endif
}
