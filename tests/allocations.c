// Preloaded, counts what a process allocates; for tests/test_cpu.py.
#include <errno.h>
#include <stddef.h>

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

static long count;

long allocations_so_far(void) {
  return count;
}
void* malloc(size_t size) {
  return ++count, __libc_malloc(size);
}
void* calloc(size_t number, size_t size) {
  return ++count, __libc_calloc(number, size);
}
void* realloc(void* old, size_t size) {
  return ++count, __libc_realloc(old, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
  return ++count, __libc_memalign(alignment, size);
}
int posix_memalign(void** memory, size_t alignment, size_t size) {
  *memory = aligned_alloc(alignment, size);
  return *memory ? 0 : ENOMEM;
}
