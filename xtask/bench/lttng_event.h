/* LTTng's tracepoint with one integer, the nearest thing to a mark with one argument. */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER bench

#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "./lttng_event.h"

#if !defined(BENCH_LTTNG_EVENT_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define BENCH_LTTNG_EVENT_H

#include <lttng/tracepoint.h>

LTTNG_UST_TRACEPOINT_EVENT(bench, hit, LTTNG_UST_TP_ARGS(int, a),
                           LTTNG_UST_TP_FIELDS(lttng_ust_field_integer(int, a, a)))

#endif

#include <lttng/tracepoint-event.h>
