/* The program that every contender probes.
 *
 *   target MODE THREADS CALLS BURST RESULT
 *
 * Each of THREADS threads calls one function CALLS times and measures it:
 *   function  work(a, b)
 *   mark      marked(a), which holds a mark with one argument (LTTng's tracepoint in the
 *             build with WITH_LTTNG)
 *   string    named(a, "...")
 *   deep      work(a, b), below twenty other functions
 *   syscall   getppid()
 * BURST 0 runs without a pause; otherwise every thread makes BURST calls in each millisecond
 * and only they are timed. RESULT receives one line: nanoseconds of processor time per call,
 * nanoseconds of elapsed time per call and thread, and the number of calls made in all,
 * warming up included.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifdef WITH_LTTNG
#include "lttng_event.h"
#define MARK(a) lttng_ust_tracepoint(bench, hit, a)
#else
#include <sys/sdt.h>
#define MARK(a) STAP_PROBE1(bench, hit, a)
#endif

#define APART __attribute__((noinline, noclone))

/* The empty assembly keeps the compiler from moving a call out of the loop. */
APART int work(int a, int b)
{
    __asm__ volatile("" : "+r"(a), "+r"(b));
    return a * 31 + (b >> 3);
}

APART int marked(int a)
{
    __asm__ volatile("" : "+r"(a));
    MARK(a);
    return a * 31 + 7;
}

APART int named(int a, const char *s)
{
    __asm__ volatile("" : "+r"(a), "+r"(s));
    return a * 31 + s[0];
}

enum mode { FUNCTION, MARKED, STRING, DEEP, SYSCALL };

static enum mode mode;
static long calls, burst, warming;
static pthread_barrier_t ready;
static volatile int sink;

struct timing {
    double processor, elapsed;
};

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

/* The loop, so many frames below its caller. */
APART int below(int frames, long count)
{
    int sum = 0;
    if (frames > 0)
        sum = below(frames - 1, count) + 1;
    else
        for (long i = 0; i < count; i++)
            sum += work((int)i, sum);
    __asm__ volatile("" : "+r"(sum));
    return sum;
}

static int call(long count)
{
    int sum = 0;
    switch (mode) {
    case FUNCTION:
        for (long i = 0; i < count; i++)
            sum += work((int)i, sum);
        break;
    case MARKED:
        for (long i = 0; i < count; i++)
            sum += marked((int)i);
        break;
    case STRING:
        for (long i = 0; i < count; i++)
            sum += named((int)i, "a string of 24 characters");
        break;
    case DEEP:
        sum = below(18, count);
        break;
    case SYSCALL:
        for (long i = 0; i < count; i++)
            sum += getppid();
        break;
    }
    return sum;
}

static void timed(long count, struct timing *timing)
{
    double elapsed = now(CLOCK_MONOTONIC);
    double processor = now(CLOCK_THREAD_CPUTIME_ID);
    sink = call(count);
    timing->processor += now(CLOCK_THREAD_CPUTIME_ID) - processor;
    timing->elapsed += now(CLOCK_MONOTONIC) - elapsed;
}

static void *run(void *argument)
{
    struct timing *timing = argument;
    struct timespec next;
    sink = call(warming);
    pthread_barrier_wait(&ready);
    if (burst == 0) {
        timed(calls, timing);
        return NULL;
    }
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (long done = 0; done < calls; done += burst) {
        timed(burst, timing);
        next.tv_nsec += 1000000;
        if (next.tv_nsec >= 1000000000) {
            next.tv_nsec -= 1000000000;
            next.tv_sec++;
        }
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: target MODE THREADS CALLS BURST RESULT\n");
        return 2;
    }
    static const char *const names[] = {"function", "mark", "string", "deep", "syscall"};
    while (strcmp(argv[1], names[mode]))
        if (++mode > SYSCALL)
            return 2;
    int threads = atoi(argv[2]);
    calls = atol(argv[3]);
    burst = atol(argv[4]);
    if (burst > 0)
        calls -= calls % burst;
    warming = burst > 0 ? burst : calls / 20;
    pthread_t *ids = calloc(threads, sizeof *ids);
    /* A cache line apart, so that the threads do not share what they measure with. */
    struct timing(*timings)[8] = calloc(threads, sizeof *timings);
    pthread_barrier_init(&ready, NULL, threads);
    for (int i = 0; i < threads; i++)
        pthread_create(&ids[i], NULL, run, timings[i]);
    double processor = 0, elapsed = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        processor += timings[i]->processor;
        elapsed += timings[i]->elapsed;
    }
    double all = (double)calls * threads;
    FILE *result = fopen(argv[5], "w");
    if (!result)
        return 1;
    fprintf(result, "%.3f %.3f %ld\n", processor / all, elapsed / all,
            (calls + warming) * threads);
    return fclose(result) != 0;
}
