/* Threads that do all that a patcher may get wrong, check every result, and say "wrong" and what at the first that is
   not as arithmetic has it. Ends when its standard input does, and says how many rounds were right. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROBED __attribute__((noinline, noclone)) long
#define KEEP __asm__ volatile("" ::: "memory")

static atomic_int over;
static atomic_long rounds;

static void wrong(const char *what, long got, long expected) {
  printf("wrong %s: %ld, not %ld\n", what, got, expected);
  fflush(stdout);
  _exit(1);
}
#define IS(call, expected) do { long g = (call), e = (expected); if (g != e) wrong(#call, g, e); } while (0)

PROBED leaf(long a) { KEEP; return a + 1; }
PROBED tail(long a) { KEEP; return leaf(a * 2); }
PROBED recurse(long n) { KEEP; return n < 2 ? n : recurse(n - 1) + recurse(n - 2); }
PROBED loop(long n) { long s = 0; do { KEEP; s += n; } while (--n > 0); return s; }
PROBED choose(long n) {
  switch (n) {
  case 0: KEEP; return 11;
  case 1: KEEP; return 7;
  case 2: KEEP; return leaf(100);
  case 3: KEEP; return -5;
  case 4: KEEP; return 1 << 20;
  case 5: KEEP; return n * 9;
  case 6: KEEP; return 77 - n;
  default: KEEP; return n;
  }
}
__attribute__((noinline, noclone)) double scale(double a, double b) { KEEP; return a * 3 + b; }
PROBED many(long a, long b, long c, long d, long e, long f, long g, long h) { KEEP; return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h; }
PROBED sum(int count, ...) {
  va_list list;
  long s = 0;
  va_start(list, count);
  while (count--) s += va_arg(list, long);
  va_end(list);
  return s;
}
/* A leaf that keeps its things below the stack pointer. */
PROBED below(long a) {
  volatile long kept[12];
  for (int i = 0; i < 12; i++) kept[i] = a + i;
  long s = 0;
  for (int i = 0; i < 12; i++) s += kept[i];
  return s;
}
struct pair { long first, second; };
__attribute__((noinline, noclone)) struct pair swap(struct pair p) { KEEP; return (struct pair){p.second, p.first}; }
static __thread jmp_buf back;
PROBED thrower(long a) { KEEP; longjmp(back, (int)a); }
PROBED catcher(long a) { int r = setjmp(back); return r ? r + 1 : thrower(a); }
/* Shorter than a jump, with and without padding behind. */
__asm__(".text\n .p2align 4\n .globl same\n .type same,@function\nsame: mov %rdi,%rax\n ret\n .size same,.-same\n"
        ".p2align 4\n .globl negate\n .type negate,@function\nnegate: mov %rdi,%rax\n neg %rax\n ret\n .size negate,.-negate\n"
        ".globl crowded\n .type crowded,@function\ncrowded: push $3\n pop %rax\n ret\n .size crowded,.-crowded\n"
        ".globl crowding\n .type crowding,@function\ncrowding: push $4\n pop %rax\n ret\n .size crowding,.-crowding\n"
        /* Entered in the middle of its first five bytes by its own loop. */
        ".p2align 4\n .globl tight\n .type tight,@function\ntight: xor %eax,%eax\n1: add %rdi,%rax\n dec %rdi\n jnz 1b\n ret\n"
        ".size tight,.-tight\n");
long same(long), negate(long), crowded(void), crowding(void), tight(long);

static __thread volatile long signalled;
PROBED on_signal_called(long a) { KEEP; return a + 5; }
static void on_signal(int number) { signalled = on_signal_called(number); }
static long (*volatile by_pointer[])(long) = {leaf, tail, loop, same, negate};

PROBED nap(long microseconds) {
  struct timespec t = {0, microseconds * 1000};
  /* Nothing of ours sends signals here: an interrupted call would be a leak of somebody's stops. */
  return nanosleep(&t, 0) ? errno : 0;
}

/* Threads that end soon have stacks of their own size, as many from the start as ever are in use: mappings change no more. */
static pthread_attr_t small;
static pthread_barrier_t together;
static void *waiting(void *p) { pthread_barrier_wait(&together); return p; }
static void prepare_stacks(void) {
  enum { MANY = 80 };
  pthread_t threads[MANY];
  IS(pthread_attr_init(&small), 0);
  IS(pthread_attr_setstacksize(&small, 128 << 10), 0);
  pthread_barrier_init(&together, 0, MANY);
  for (int i = 0; i < MANY; i++) IS(pthread_create(&threads[i], &small, waiting, 0), 0);
  for (int i = 0; i < MANY; i++) IS(pthread_join(threads[i], 0), 0);
}
static void *brief(void *p) { return (void *)(leaf((long)p) + tight(10)); }

PROBED child(long a) {
  pid_t pid = fork();
  if (pid == 0) _exit((int)(leaf(a) + choose(1)));
  int status = -1;
  while (waitpid(pid, &status, 0) != pid) if (errno != EINTR) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -status;
}

static void once(long seed) {
  long i = seed % 7;
  IS(leaf(seed), seed + 1);
  IS(tail(seed), 2 * seed + 1);
  IS(recurse(9), 34);
  IS(loop(i + 3), (i + 3) * (i + 4) / 2);
  IS(choose(i), ((long[]){11, 7, 101, -5, 1048576, 45, 71})[i]);
  IS(scale((double)i, 0.5) * 2, i * 6 + 1);
  IS(many(i, 1, 2, 3, 4, 5, 6, 7), i + 168);
  IS(sum(3, seed, 4L, 5L), seed + 9);
  IS(below(seed), 12 * seed + 66);
  struct pair p = swap((struct pair){seed, 3});
  IS(p.first * 1000 + p.second, 3000 + seed);
  IS(catcher(i + 1), i + 2);
  IS(same(seed), seed);
  IS(negate(seed), -seed);
  IS(crowded() * 10 + crowding(), 34);
  IS(tight(6), 21);
  IS(by_pointer[i % 5](6), ((long[]){7, 13, 21, 6, -6})[i % 5]);
  IS(raise(SIGUSR1), 0);
  IS(signalled, SIGUSR1 + 5);
  signalled = 0;
}

static void *worker(void *p) {
  long number = (long)p;
  for (long round = 0; !over; round++) {
    once(number * 1000 + round % 1000);
    /* Threads that end, a child, a library that comes and goes. */
    if (number % 16 == 1) {
      pthread_t t;
      void *result = 0;
      IS(pthread_create(&t, &small, brief, (void *)round), 0);
      IS(pthread_join(t, &result), 0);
      IS((long)result, round + 56);
    }
    if (number == 2 && round % 8 == 0) IS(child(round % 100), round % 100 + 8);
    if (number == 3) {
      void *library = dlopen(getenv("SOAK_LIBRARY"), RTLD_NOW);
      if (!library) wrong(dlerror(), 0, 1);
      long (*other)(long) = (long (*)(long))dlsym(library, "other");
      IS(other(round), 3 * round);
      IS(dlclose(library), 0);
    }
    /* Few are busy, so that two processors serve them all. */
    IS(nap(number < 6 ? 50 : 2000 + number * 37), 0);
    rounds++;
  }
  return 0;
}

int main(int count, char **words) {
  enum { MOST = 1024 };
  static pthread_t threads[MOST];
  long n = count > 1 ? atol(words[1]) : 64;
  if (n > MOST) return 2;
  signal(SIGUSR1, on_signal);
  prepare_stacks();
  for (long i = 1; i < n; i++) IS(pthread_create(&threads[i], 0, worker, (void *)i), 0);
  while (rounds < 4 * n) usleep(1000);
  puts("ready");
  fflush(stdout);
  char byte;
  while (read(0, &byte, 1) < 0 && errno == EINTR) {}
  over = 1;
  for (long i = 1; i < n; i++) pthread_join(threads[i], 0);
  printf("right %ld\n", (long)rounds);
  return 0;
}
