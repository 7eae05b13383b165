// Fibers, and what the sanitizers must be told of them. To be compiled without instrumentation:
// ThreadSanitizer would take the scheduler's own variables for the kernels'.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#ifdef SIMT_ASAN
#include <sanitizer/asan_interface.h>
#endif
#ifdef SIMT_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#if !defined(__x86_64__) && !defined(SIMT_UCONTEXT)
#define SIMT_UCONTEXT
#endif
#ifdef SIMT_UCONTEXT
#include <ucontext.h>
#endif

namespace simt {

inline constexpr int kFault = 66;  // the exit status of a program at fault

// Most of it is never touched; a sanitizer writes its report on the stack of the fiber it stops.
inline constexpr size_t kStackBytes = 256 << 10;

struct Fiber {
  char* stack = nullptr;
  size_t stack_bytes = kStackBytes;
#ifdef SIMT_UCONTEXT
  ucontext_t context;
#else
  void* context = nullptr;  // the stack pointer, with the callee-saved registers above it
#endif
  void* asan_stack = nullptr;
  void* tsan_fiber = nullptr;
};

#ifndef SIMT_UCONTEXT
// swapcontext does the same and makes a system call each time.
extern "C" void simt_swap_stacks(void** from, void* to);
asm(R"(
.text
.type simt_swap_stacks, @function
simt_swap_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_swap_stacks, .-simt_swap_stacks
)");
#endif

// Has ThreadSanitizer take what follows for this fiber's doing.
static void act_as([[maybe_unused]] const Fiber& fiber) {
#ifdef SIMT_TSAN
  __tsan_switch_to_fiber(fiber.tsan_fiber, __tsan_switch_to_fiber_no_sync);
#endif
}

static Fiber* left_fiber;  // the one that was running before the one that is

// Where a fiber goes on after a switch.
static void arrive([[maybe_unused]] Fiber& here) {
#ifdef SIMT_ASAN
  const void* stack;
  __sanitizer_finish_switch_fiber(here.asan_stack, &stack, &left_fiber->stack_bytes);
  left_fiber->stack = static_cast<char*>(const_cast<void*>(stack));
#endif
}

static void switch_fiber(Fiber& from, Fiber& to, [[maybe_unused]] bool for_good = false) {
  left_fiber = &from;
#ifdef SIMT_ASAN
  __sanitizer_start_switch_fiber(for_good ? nullptr : &from.asan_stack, to.stack, to.stack_bytes);
#endif
  act_as(to);
#ifdef SIMT_UCONTEXT
  swapcontext(&from.context, &to.context);
#else
  simt_swap_stacks(&from.context, to.context);
#endif
  arrive(from);
}

// A stack of its own, with a page below it that no fiber can write.
static void give_stack(Fiber& fiber) {
  void* stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stack == MAP_FAILED || mprotect(stack, 4096, PROT_NONE) != 0) {
    perror("simt: no memory for the stacks of a block");
    _exit(kFault);
  }
  fiber.stack = static_cast<char*>(stack);
#ifdef SIMT_TSAN
  fiber.tsan_fiber = __tsan_create_fiber(0);
#endif
}

// Makes the next switch to the fiber call `body`, which must never return.
static void prepare(Fiber& fiber, void (*body)()) {
  fiber.asan_stack = nullptr;
#ifdef SIMT_UCONTEXT
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = fiber.stack_bytes;
  makecontext(&fiber.context, body, 0);
#else
  // Six registers, the address to return to, and none to return to from there.
  constexpr size_t kSlots = 8;
  void** top = reinterpret_cast<void**>(fiber.stack + fiber.stack_bytes);
  std::memset(top - kSlots, 0, kSlots * sizeof *top);
  top[-2] = reinterpret_cast<void*>(body);
  fiber.context = top - kSlots;
#endif
}

// The thread the program started with is a fiber as well.
static void adopt([[maybe_unused]] Fiber& fiber) {
#ifdef SIMT_TSAN
  fiber.tsan_fiber = __tsan_get_current_fiber();
#endif
}

// What a fiber did before it releases an object has happened when another has acquired it.
static void release([[maybe_unused]] void* object) {
#ifdef SIMT_TSAN
  __tsan_release(object);
#endif
}

static void acquire([[maybe_unused]] void* object) {
#ifdef SIMT_TSAN
  __tsan_acquire(object);
#endif
}

}  // namespace simt
