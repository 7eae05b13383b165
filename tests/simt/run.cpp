// Steps the parameters of a case file with the CUDA backend, on the shim: `run CASE RESULT`. What
// the files hold is in tests/simt/case.py, which writes one and reads the other.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <vector>

#include "../../csrc/cuda/steps.h"

namespace {

using namespace sphere_fused;
using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

// Memory of exactly this size, so that AddressSanitizer sees the first byte beyond it. Filled with
// NaN: what is read without having been given shows.
class Memory {
 public:
  explicit Memory(size_t offset, size_t bytes) : base_(std::malloc(offset + bytes)), bytes_(bytes) {
    std::memset(base_.get(), 0xff, offset + bytes);
    data = static_cast<char*>(base_.get()) + offset;
  }
  void read(std::FILE* from) {
    if (bytes_ && std::fread(data, 1, bytes_, from) != bytes_)
      throw std::runtime_error("the case is short");
  }
  void write(std::FILE* to) const {
    if (bytes_ && std::fwrite(data, 1, bytes_, to) != bytes_)
      throw std::runtime_error("no room to write");
  }
  size_t bytes() const { return bytes_; }
  char* data;

 private:
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::unique_ptr<void, Free> base_;
  size_t bytes_;
};

template <class T>
std::vector<T> numbers(std::FILE* from, size_t count) {
  std::vector<T> read(count);
  if (std::fread(read.data(), sizeof(T), count, from) != count) {
    throw std::runtime_error("the case is short");
  }
  return read;
}

// What a step takes from the device's memory rather than from its arguments.
struct Placed {
  Memory lr, grad_scale, found_inf;
  explicit Placed(bool wide) : lr(0, wide ? 8 : 4), grad_scale(0, 4), found_inf(0, 4) {}

  static void put(double value, const Memory& at) {
    const float narrow = float(value);
    if (at.bytes() == 8) std::memcpy(at.data, &value, 8);
    else std::memcpy(at.data, &narrow, 4);
  }
  GroupHyper take(GroupHyper h) const {
    put(h.lr, lr), put(h.grad_scale, grad_scale), put(h.found_inf, found_inf);
    h.lr = h.found_inf = 0, h.grad_scale = 1;
    h.lr_at = lr.data, h.lr_is_double = lr.bytes() == 8;
    h.grad_scale_at = reinterpret_cast<const float*>(grad_scale.data);
    h.found_inf_at = reinterpret_cast<const float*>(found_inf.data);
    return h;
  }
};

enum Mode : int64_t { kStep, kCapture, kReplay };

struct Parameter {
  std::vector<Memory> state;      // w, m, v, s, radius, step; only the first is never missing
  std::vector<Memory> gradients;  // by step
};

void run(std::FILE* from, std::FILE* to) {
  const auto sizes = numbers<int64_t>(from, 5);
  const int64_t count = sizes[0], group_count = sizes[1], steps = sizes[2], most_blocks = sizes[3];
  const int64_t lr_bytes = sizes[4];  // 0: the hyperparameters are arguments
  const auto modes = numbers<int64_t>(from, steps);
  std::vector<std::vector<GroupHyper>> groups(steps);
  for (auto& of_step : groups) {
    for (int64_t i = 0; i < group_count; ++i) {
      const auto h = numbers<double>(from, 15 + kMostOwn);
      GroupHyper group = {.lr = h[0],
                          .beta1 = h[1],
                          .gain1 = h[2],
                          .beta2 = h[3],
                          .eps = h[4],
                          .weight_decay = h[5],
                          .decoupled = h[6] != 0,
                          .grad_clip = h[7],
                          .beta3 = h[8],
                          .ahead_m = h[9],
                          .ahead_g = h[10],
                          .corrects = h[11] != 0,
                          .maximize = h[12] != 0};
      std::copy_n(h.begin() + 13, kMostOwn, group.own);
      group.grad_scale = h[13 + kMostOwn], group.found_inf = h[14 + kMostOwn];
      of_step.push_back(group);
    }
  }
  std::vector<Segments> table;
  std::vector<Parameter> parameters(count);
  std::vector<size_t> indices;
  for (Parameter& p : parameters) {
    const auto n = numbers<int64_t>(from, 8);
    for (int i = 0; i < 6 + steps; ++i) {
      const auto place = numbers<int64_t>(from, 2);  // offset and size, in bytes
      (i < 6 ? p.state : p.gradients).emplace_back(place[0], place[1]).read(from);
      if (place[1] == 0) (i < 6 ? p.state : p.gradients).back().data = nullptr;
    }
    indices.push_back(table.size());
    table.push_back({.w = p.state[0].data,
                     .g = nullptr,
                     .m = p.state[1].data,
                     .v = p.state[2].data,
                     .s = p.state[3].data,
                     .radius = p.state[4].data,
                     .step = reinterpret_cast<float*>(p.state[5].data),
                     .outer = n[0],
                     .dim = n[1],
                     .inner = n[2],
                     .group = int32_t(n[3]),
                     .rule = int8_t(n[4]),
                     .w_type = DType(n[5]),
                     .g_type = DType(n[6]),
                     .elementwise = n[7] != 0,
                     .on_cpu = false});
  }
  if (const std::string problem = cuda_problem(0); !problem.empty())
    throw std::runtime_error(problem);
  CudaSteps cuda(0, indices, table, group_count);
  Memory memory(0, cuda.memory_bytes());
  std::memcpy(memory.data, cuda.image().data(), cuda.image().size());
  std::vector<Placed> placed;
  for (int64_t i = 0; lr_bytes && i < group_count; ++i) placed.emplace_back(lr_bytes == 8);
  simt::Graph graph;
  int64_t captured = 0;
  for (int64_t t = 0; t < steps; ++t) {
    for (int64_t i = 0; lr_bytes && i < group_count; ++i)
      groups[t][i] = placed[i].take(groups[t][i]);
    if (modes[t] == kReplay) {  // with new gradients where the old ones were
      for (Parameter& p : parameters) {
        const Memory &old = p.gradients[captured], &now = p.gradients[t];
        if (now.bytes()) std::memcpy(old.data, now.data, now.bytes());
      }
    } else {
      for (int64_t i = 0; i < count; ++i) table[i].g = parameters[i].gradients[t].data;
      if (modes[t] == kCapture) simt::captures_into = &graph, captured = t;
      cuda.step(table, groups[t], memory.data, nullptr, most_blocks, modes[t] == kCapture);
      simt::captures_into = nullptr;
    }
    if (modes[t] == kStep) continue;
    for (const auto& launch : graph) {
      if (launch() != cudaSuccess) throw std::runtime_error("a captured launch failed");
    }
  }
  for (const Parameter& p : parameters) {
    for (const Memory& m : p.state) m.write(to);
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 2;
  const File from(std::fopen(arguments[1], "rb"), std::fclose);
  const File to(std::fopen(arguments[2], "wb"), std::fclose);
  if (!from || !to) return 2;
  try {
    run(from.get(), to.get());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
