/* SPDX-License-Identifier: GPL-3.0-or-later
 * Behind cuda_runtime.h: fibers, barriers, warps and shared memory (memory and copies: runtime.cc). A fiber
 * is never on two OS threads, and a launch runs on the thread that makes it, so nothing here is locked. This
 * file itself is compiled without a sanitizer; it tells whichever one runs what it does, through the
 * sanitizers' own calls, which are there or not (weak). */
#include "emulator.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <sys/mman.h>
#include <vector>
#ifndef __x86_64__
#include <ucontext.h>
#endif

extern "C" {
void __sanitizer_start_switch_fiber(void **save, const void *bottom, size_t size) __attribute__((weak));
void __sanitizer_finish_switch_fiber(void *save, const void **bottom, size_t *size) __attribute__((weak));
void *__tsan_get_current_fiber() __attribute__((weak));
void *__tsan_create_fiber(unsigned flags) __attribute__((weak));
void __tsan_destroy_fiber(void *fiber) __attribute__((weak));
void __tsan_switch_to_fiber(void *fiber, unsigned flags) __attribute__((weak));
void __tsan_acquire(void *address) __attribute__((weak));
void __tsan_release(void *address) __attribute__((weak));
}

thread_local gw_emu_place gw_emu_here;

#ifdef __x86_64__
extern "C" void gw_emu_switch(void **save, void *to); /* below */
#endif

namespace
{

enum { STACK_BYTES = 256 << 10, GUARD_BYTES = 64 << 10 };

/* ---- Switching stacks ---- */

#ifdef __x86_64__
struct context {
    void *sp;
};
asm(".text\n"
    ".globl gw_emu_switch\n"
    ".type gw_emu_switch,@function\n"
    "gw_emu_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n"
    ".size gw_emu_switch, .-gw_emu_switch\n");

void start_context(context *c, char *stack, size_t bytes, void (*entry)())
{
    void **top = reinterpret_cast<void **>(stack + bytes);
    *--top = nullptr; /* where a return address would be: entry finds the stack as a call leaves it */
    *--top = reinterpret_cast<void *>(entry);
    for (int i = 0; i < 6; i++)
        *--top = nullptr;
    c->sp = top;
}

void switch_context(context *from, context *to)
{
    gw_emu_switch(&from->sp, to->sp);
}
#else
typedef ucontext_t context;

void start_context(context *c, char *stack, size_t bytes, void (*entry)())
{
    getcontext(c);
    c->uc_stack.ss_sp = stack;
    c->uc_stack.ss_size = bytes;
    c->uc_link = nullptr;
    makecontext(c, entry, 0);
}

void switch_context(context *from, context *to)
{
    swapcontext(from, to);
}
#endif

/* ---- A block at work ---- */

struct warp {
    unsigned arrived, generation;
    const char *file;
    int line;
    unsigned mask[2]; /* by generation: the next operation cannot end before all have read this one */
    uint64_t value[2][32];
};

struct fiber {
    context self;
    char *stack;
    void *asan_save, *tsan;
    gw_emu_place place;
    unsigned number, generation; /* of its last warp operation */
    bool alive;
};

struct scheduler { /* of one OS thread */
    context self;
    void *asan_save;
    const void *stack;
    size_t stack_bytes;
    std::vector<fiber *> fibers;
    std::vector<warp> warps;
    std::vector<unsigned> ready, waiting;
    std::map<const void *, std::pair<void *, size_t>> shared;
    std::vector<void *> kept; /* shared memory of blocks that are over, until the launch is */
    size_t dyn_shared;
    fiber *now;
    unsigned n_threads, n_alive;
    size_t first; /* fiber of the block: under ThreadSanitizer each block of a launch has stacks of its own */
    const char *barrier_file;
    int barrier_line, votes[2];
    unsigned barrier_generation;
    void (*body)(void *);
    void *arg;
    uint64_t random;
    void *tsan_self;
    /* Addresses to tell ThreadSanitizer of order by: for each block, for its barriers and each warp's
     * operations, even and odd ones: who leaves one is not ordered behind who has come to the next. */
    std::vector<uint64_t> orders;
    uint64_t *order, shared_order;
    bool busy;

    ~scheduler()
    {
        for (fiber *f : fibers) {
            munmap(f->stack - GUARD_BYTES, STACK_BYTES + GUARD_BYTES);
            delete f;
        }
    }
};
thread_local scheduler here;

unsigned draw(unsigned n) /* splitmix64 */
{
    uint64_t z = here.random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return unsigned((z >> 32) * n >> 32);
}

void shuffle(std::vector<unsigned> &v)
{
    for (size_t i = v.size(); i > 1; i--)
        std::swap(v[i - 1], v[draw(unsigned(i))]);
}

void to_scheduler()
{
    fiber *f = here.now;
    if (__sanitizer_start_switch_fiber)
        __sanitizer_start_switch_fiber(&f->asan_save, here.stack, here.stack_bytes);
    switch_context(&f->self, &here.self);
    if (__sanitizer_finish_switch_fiber)
        __sanitizer_finish_switch_fiber(f->asan_save, &here.stack, &here.stack_bytes);
}

/* A fiber lives as long as its OS thread and runs one thread of a block after another. */
void live()
{
    if (__sanitizer_finish_switch_fiber)
        __sanitizer_finish_switch_fiber(nullptr, &here.stack, &here.stack_bytes);
    for (;;) {
        here.body(here.arg);
        here.now->alive = false;
        here.n_alive--;
        to_scheduler();
    }
}

void run(fiber *f)
{
    here.now = f;
    gw_emu_here = f->place;
    if (__sanitizer_start_switch_fiber)
        __sanitizer_start_switch_fiber(&here.asan_save, f->stack, STACK_BYTES);
    if (__tsan_switch_to_fiber)
        __tsan_switch_to_fiber(f->tsan, 1); /* 1: a switch orders nothing */
    switch_context(&here.self, &f->self);
    if (__tsan_switch_to_fiber)
        __tsan_switch_to_fiber(here.tsan_self, 1);
    if (__sanitizer_finish_switch_fiber)
        __sanitizer_finish_switch_fiber(here.asan_save, nullptr, nullptr);
}

void grow_fibers(size_t n)
{
    while (here.fibers.size() < n) {
        fiber *f = new fiber();
        char *p = static_cast<char *>(mmap(nullptr, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        if (p == MAP_FAILED || mprotect(p, GUARD_BYTES, PROT_NONE) != 0)
            gw_emu_die("no memory for the stack of a thread");
        f->stack = p + GUARD_BYTES;
        start_context(&f->self, f->stack, STACK_BYTES, live);
        here.fibers.push_back(f);
    }
}

void run_block(dim3 index, dim3 grid, dim3 block, std::vector<void *> &tsan_fibers)
{
    const unsigned n = here.n_threads = here.n_alive = block.x * block.y * block.z;
    here.warps.assign((n + 31) / 32, warp());
    here.ready.clear();
    here.waiting.clear();
    here.votes[0] = here.votes[1] = 0;
    here.ready.reserve(n); /* nothing is allocated inside a fiber */
    here.waiting.reserve(n);
    for (unsigned i = 0; i < n; i++) {
        fiber *f = here.fibers[here.first + i];
        f->number = i;
        f->alive = true;
        f->generation = 0;
        f->place = {dim3(i % block.x, i / block.x % block.y, i / block.x / block.y), index, block, grid};
        if (__tsan_create_fiber) /* a new one for each thread of each block: nothing orders blocks */
            tsan_fibers.push_back(f->tsan = __tsan_create_fiber(0));
        here.ready.push_back(i);
    }
    while (here.n_alive > 0) {
        if (here.ready.empty())
            gw_emu_die(here.waiting.empty() ? "a warp operation waits for lanes that do not come, from"
                                            : "not all threads of the block come to the barrier",
                       here.waiting.empty() ? nullptr : here.barrier_file, here.barrier_line);
        std::swap(here.ready[draw(unsigned(here.ready.size()))], here.ready.back());
        const unsigned i = here.ready.back();
        here.ready.pop_back();
        run(here.fibers[here.first + i]);
    }
    for (auto &s : here.shared)
        here.kept.push_back(s.second.first);
    here.shared.clear();
    if (!__tsan_create_fiber) { /* under ThreadSanitizer another block must not get the same addresses */
        for (void *p : here.kept)
            free(p);
        here.kept.clear();
    }
}

unsigned barrier(int value, const char *file, int line)
{
    if (here.waiting.empty()) {
        here.barrier_file = file;
        here.barrier_line = line;
    } else if (line != here.barrier_line || strcmp(file, here.barrier_file) != 0) {
        gw_emu_die("threads of one block wait at two barriers, one of them", file, line);
    }
    const unsigned generation = here.barrier_generation;
    if (__tsan_release)
        __tsan_release(&here.order[generation & 1]);
    here.votes[generation & 1] |= value != 0;
    here.waiting.push_back(here.now->number);
    if (here.waiting.size() == here.n_threads) {
        for (unsigned i : here.waiting) /* one by one: ThreadSanitizer sees a memmove */
            here.ready.push_back(i);
        here.waiting.clear();
        here.barrier_generation++;
        here.votes[here.barrier_generation & 1] = 0;
    }
    to_scheduler();
    if (__tsan_acquire)
        __tsan_acquire(&here.order[generation & 1]);
    return generation;
}

} // namespace

void gw_emu_die(const char *what, const char *file, int line)
{
    const dim3 t = gw_emu_here.thread, b = gw_emu_here.block;
    fprintf(stderr, "emulator: %s", what);
    if (file)
        fprintf(stderr, " at %s:%d", file, line);
    fprintf(stderr, " (block %u,%u,%u thread %u,%u,%u)\n", b.x, b.y, b.z, t.x, t.y, t.z);
    abort();
}

/* ---- What kernels call ---- */

void gw_emu_launch(const void *kernel, const char *name, dim3 grid, dim3 block, size_t dyn_shared,
                   void (*body)(void *), void *arg)
{
    if (here.busy)
        gw_emu_die("a kernel launches a kernel");
    if (uint64_t(block.x) * block.y * block.z - 1 > 1023 || block.z > 64 || grid.x == 0 ||
        grid.y - 1 > 65534 || grid.z - 1 > 65534)
        gw_emu_die("a grid or block that no GPU takes", name);
    if (dyn_shared > gw_emu_most_dyn_shared(kernel))
        gw_emu_die("more dynamic shared memory than the kernel was allowed", name);
    static const char *seed = getenv("GW_EMULATE_SEED");
    if (here.random == 0)
        here.random = seed ? strtoull(seed, nullptr, 10) + 1 : 1;

    const gw_emu_opened memory;
    here.busy = true;
    here.body = body;
    here.arg = arg;
    here.dyn_shared = dyn_shared;
    std::vector<unsigned> blocks(size_t(grid.x) * grid.y * grid.z);
    for (unsigned i = 0; i < blocks.size(); i++)
        blocks[i] = i;
    shuffle(blocks);
    std::vector<void *> tsan_fibers;
    here.tsan_self = __tsan_get_current_fiber ? __tsan_get_current_fiber() : nullptr;
    const size_t orders = 2 + (block.x * block.y * block.z + 31) / 32 * 2;
    here.orders.assign(__tsan_create_fiber ? orders * blocks.size() + 1 : orders, 0);
    here.first = 0;
    for (unsigned i : blocks) {
        grow_fibers(here.first + block.x * block.y * block.z);
        here.order = here.orders.data() + (__tsan_create_fiber ? orders * i : 0);
        run_block(dim3(i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y), grid, block, tsan_fibers);
        if (__tsan_create_fiber)
            here.first += block.x * block.y * block.z;
    }
    if (__tsan_create_fiber) { /* what comes after the launch comes after all its threads */
        for (void *f : tsan_fibers) {
            __tsan_switch_to_fiber(f, 1);
            __tsan_release(&here.orders.back());
            __tsan_switch_to_fiber(here.tsan_self, 1);
        }
        __tsan_acquire(&here.orders.back());
        for (void *f : tsan_fibers)
            __tsan_destroy_fiber(f);
        for (void *p : here.kept)
            free(p);
        here.kept.clear();
    }
    here.busy = false;
}

static void *shared_new(const void *key, size_t bytes)
{
    auto found = here.shared.find(key);
    if (found != here.shared.end()) {
        if (found->second.second != bytes)
            gw_emu_die("one piece of shared memory with two sizes");
        return found->second.first;
    }
    void *p;
    if (posix_memalign(&p, 16, bytes) != 0)
        gw_emu_die("no memory for shared memory");
    memset(p, 0xff, bytes); /* NaN, as float and double */
    here.shared[key] = {p, bytes};
    size_t total = 0;
    for (auto &s : here.shared)
        total += s.second.second;
    if (total > GW_EMU_MOST_SHARED)
        gw_emu_die("more shared memory than a block can have");
    return p;
}

void *gw_emu_shared(const void *key, size_t bytes)
{
    if (!__tsan_create_fiber)
        return shared_new(key, bytes);
    __tsan_switch_to_fiber(here.tsan_self, 1); /* it was there before the block began */
    void *p = shared_new(key, bytes);
    __tsan_release(&here.shared_order);
    __tsan_switch_to_fiber(here.now->tsan, 1);
    __tsan_acquire(&here.shared_order);
    return p;
}

void *gw_emu_dyn_shared()
{
    static const char key = 0;
    return gw_emu_shared(&key, here.dyn_shared);
}

void gw_emu_barrier(const char *file, int line)
{
    barrier(0, file, line);
}

int gw_emu_barrier_or(int value, const char *file, int line)
{
    const unsigned generation = barrier(value, file, line);
    return here.votes[generation & 1];
}

unsigned gw_emu_lane_id()
{
    return here.now->number % 32;
}

void gw_emu_warp(unsigned mask, uint64_t value, const char *file, int line)
{
    fiber *f = here.now;
    warp *w = &here.warps[f->number / 32];
    const unsigned lane = f->number % 32, lanes = here.n_threads - f->number / 32 * 32;
    if (!(mask >> lane & 1))
        gw_emu_die("a lane that is not in the mask of its own warp operation", file, line);
    if (lanes < 32 && mask >> lanes)
        gw_emu_die("a warp operation whose mask names lanes beyond the block", file, line);
    if (w->arrived == 0) {
        w->mask[w->generation & 1] = mask;
        w->file = file;
        w->line = line;
    } else if (mask != w->mask[w->generation & 1] || line != w->line || strcmp(file, w->file) != 0) {
        gw_emu_die("lanes of one warp in two operations, or with two masks, one of them", file, line);
    }
    f->generation = w->generation;
    uint64_t *order = here.order + 2 + f->number / 32 * 2 + (f->generation & 1);
    if (__tsan_release)
        __tsan_release(order);
    w->value[w->generation & 1][lane] = value;
    w->arrived |= 1u << lane;
    if (w->arrived == mask) {
        w->arrived = 0;
        w->generation++;
        for (unsigned i = 0; i < 32; i++)
            if (mask >> i & 1)
                here.ready.push_back(f->number / 32 * 32 + i);
    }
    to_scheduler();
    if (__tsan_acquire)
        __tsan_acquire(order);
}

uint64_t gw_emu_lane(unsigned lane)
{
    const warp *w = &here.warps[here.now->number / 32];
    const unsigned generation = here.now->generation & 1;
    if (!(w->mask[generation] >> lane & 1))
        gw_emu_die("a value from a lane that took no part");
    return w->value[generation][lane];
}

unsigned gw_emu_ballot(unsigned mask, int value, const char *file, int line)
{
    gw_emu_warp(mask, value != 0, file, line);
    unsigned votes = 0;
    for (unsigned i = 0; i < 32; i++)
        if (mask >> i & 1)
            votes |= unsigned(gw_emu_lane(i)) << i;
    return votes;
}
