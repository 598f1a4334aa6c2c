"""Runs the target under Frida with one of the probes, as JavaScript or as a CModule.

    frida_probe.py js|c PROBE FUNCTION COMMAND...
"""

import sys
import threading

import frida

JAVASCRIPT = {
    "count": ("let n = 0;", "n++;"),
    "statistics": (
        "let n = 0, sum = 0, low = Infinity, high = -Infinity;",
        "const a = args[0].toInt32(); n++; sum += a;"
        " if (a < low) low = a; if (a > high) high = a;",
    ),
    "map": ("const c = [0,0,0,0,0,0,0,0];", "c[args[0].toInt32() & 7]++;"),
    "return": ("let n = 0;", "n++;"),
}

# A CModule's own data can't be written, so the state is memory that JavaScript allocates.
C = {
    "count": "state[0]++;",
    "statistics": (
        "long a = (int) (size_t) gum_invocation_context_get_nth_argument (ic, 0);"
        " state[0]++; state[1] += a;"
        " if (a < state[2]) state[2] = a; if (a > state[3]) state[3] = a;"
    ),
    "map": "state[(size_t) gum_invocation_context_get_nth_argument (ic, 0) & 7]++;",
    "return": "state[0]++;",
}


def source(kind, probe, function):
    event = "onLeave" if probe == "return" else "onEnter"
    find = f"Process.mainModule.enumerateSymbols().find(s => s.name === '{function}').address"
    if kind == "js":
        state, body = JAVASCRIPT[probe]
        return f"{state} Interceptor.attach({find}, {{ {event}(args) {{ {body} }} }});"
    module = (
        "#include <gum/guminterceptor.h>\n"
        "extern long state[];\n"
        f"void {event} (GumInvocationContext * ic) {{ {C[probe]} }}\n"
    )
    return (
        "const state = Memory.alloc(64);"
        f"const module = new CModule(`{module}`, {{ state }});"
        f"Interceptor.attach({find}, {{ {event}: module.{event} }});"
    )


def main():
    kind, probe, function, *command = sys.argv[1:]
    device = frida.get_local_device()
    pid = device.spawn(command)
    session = device.attach(pid)
    ended = threading.Event()
    session.on("detached", lambda *_: ended.set())
    errors = []
    script = session.create_script(source(kind, probe, function))
    script.on("message", lambda message, _: errors.append(str(message)))
    script.load()
    device.resume(pid)
    ended.wait()
    if errors:
        sys.exit(errors[0])


main()
