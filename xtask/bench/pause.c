/* How long an attach stops a program: it has 1000 functions to probe, and looks for the
 * longest time between two readings of the clock. Its other threads sleep and call the
 * functions now and then.
 *
 *   pause MILLISECONDS RESULT THREADS
 *
 * The first line of RESULT, "ready", appears when it has started to measure; the second is the longest
 * gap in nanoseconds.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define FUNCTION(n)                                                                              \
    __attribute__((noinline, noclone)) int victim_##n(int a, int b)                              \
    {                                                                                            \
        __asm__ volatile("" : "+r"(a), "+r"(b));                                                 \
        return a * 31 + (b >> 3) + 1##n;                                                         \
    }
#define TEN(x, n) x(n##0) x(n##1) x(n##2) x(n##3) x(n##4) x(n##5) x(n##6) x(n##7) x(n##8) x(n##9)
#define HUNDRED(x, n)                                                                            \
    TEN(x, n##0) TEN(x, n##1) TEN(x, n##2) TEN(x, n##3) TEN(x, n##4)                             \
    TEN(x, n##5) TEN(x, n##6) TEN(x, n##7) TEN(x, n##8) TEN(x, n##9)
#define THOUSAND(x)                                                                              \
    HUNDRED(x, 0) HUNDRED(x, 1) HUNDRED(x, 2) HUNDRED(x, 3) HUNDRED(x, 4)                        \
    HUNDRED(x, 5) HUNDRED(x, 6) HUNDRED(x, 7) HUNDRED(x, 8) HUNDRED(x, 9)
#define NAME(n) victim_##n,

THOUSAND(FUNCTION)
static int (*const victims[])(int, int) = {THOUSAND(NAME)};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static void *sleeper(void *argument)
{
    const struct timespec pause = {0, 20000000};
    volatile int sum = 0;
    for (unsigned i = (unsigned)(size_t)argument;; i++) {
        sum += victims[i % 1000](i, sum);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 1 << 18);
    for (long i = 1; i < atol(argv[3]); i++) {
        pthread_t thread;
        if (pthread_create(&thread, &attributes, sleeper, (void *)i))
            return 1;
    }
    FILE *result = fopen(argv[2], "w");
    if (!result)
        return 1;
    double start = now(), last = start, longest = 0, length = atof(argv[1]) * 1e6;
    volatile int sum = 0;
    fprintf(result, "ready\n");
    fflush(result);
    last = now();
    for (unsigned i = 0; last - start < length; i++) {
        sum += victims[i % 1000](i, sum);
        double t = now();
        if (t - last > longest)
            longest = t - last;
        last = t;
    }
    fprintf(result, "%.0f\n", longest);
    return fclose(result) != 0;
}
