//! The operations of `script::intrinsics`: a call of the run time, or code in place.

use runtime::raise::Canned;

/// How an argument of a run-time function is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arg {
    /// The arena's address.
    Arena,
    /// The slot's address.
    Slot,
    /// The frame's address; the handler is taken to read every register.
    Frame,
    /// The address of the process's tables for walking stacks.
    Tables,
    /// The script's n-th argument, a number.
    Long(u8),
    /// The script's n-th argument, a string: two words.
    Str(u8),
    /// A buffer for the result: address and capacity.
    Buffer,
    /// A constant.
    Constant(i64),
}

/// What a run-time function gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gives {
    Nothing,
    Long,
    /// The length of what it wrote to the buffer.
    Buffer,
}

/// How an intrinsic is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A call; the flag says that it may raise an error.
    Call(&'static str, &'static [Arg], Gives, bool),
    /// A string of the site.
    Site(i64),
    /// `uaddr()`.
    InstructionPointer,
    /// `is_return()`.
    IsReturn,
    /// `registers_valid()`.
    HasRegisters,
    /// `arg_long(n)`.
    Argument,
    /// `set_arg_long(n, value)`; of 32 bits, signed or not.
    SetArgument(Option<bool>),
    /// `strlen(s)`.
    Length,
    /// `abort()`.
    Abort,
    /// MAXSTRINGLEN.
    MaxStringLength,
}

use Arg::{Arena, Buffer, Constant, Frame, Long, Slot, Str, Tables};

const fn fact(name: &'static str) -> Action {
    Action::Call(name, &[Arena, Slot], Gives::Long, false)
}

const fn load(kind: &'static [Arg]) -> Action {
    Action::Call("load_user_or", kind, Gives::Long, false)
}

const fn text(name: &'static str, args: &'static [Arg]) -> Action {
    Action::Call(name, args, Gives::Buffer, false)
}

const fn print_stack(layout: &'static [Arg]) -> Action {
    Action::Call("stack_print", layout, Gives::Nothing, false)
}

const fn name_of(style: &'static [Arg], raises: bool) -> Action {
    Action::Call("address_name", style, Gives::Buffer, raises)
}

const fn line_of(style: &'static [Arg]) -> Action {
    Action::Call("address_line", style, Gives::Buffer, false)
}

const fn float(args: &'static [Arg]) -> Action {
    Action::Call("float_operation", args, Gives::Long, false)
}

const fn wide(args: &'static [Arg]) -> Action {
    Action::Call("user_wide", args, Gives::Buffer, true)
}

const fn store(args: &'static [Arg]) -> Action {
    Action::Call("store_user", args, Gives::Nothing, true)
}

/// What is done for an intrinsic; `None` for an unknown one.
pub(crate) fn action(name: &str) -> Option<Action> {
    use Action::Call;
    use Gives::Nothing;
    const I8: Arg = Constant(0x101);
    const I16: Arg = Constant(0x102);
    const I32: Arg = Constant(0x104);
    const I64: Arg = Constant(0x108);
    const U8: Arg = Constant(1);
    const U16: Arg = Constant(2);
    const U32: Arg = Constant(4);
    const U64: Arg = Constant(8);
    const ZERO: Arg = Constant(0);
    Some(match name {
        "pid" => fact("pid"),
        "tid" => fact("tid"),
        "ppid" => fact("ppid"),
        "pgrp" => fact("pgrp"),
        "sid" => fact("sid"),
        "uid" => fact("uid"),
        "euid" => fact("euid"),
        "gid" => fact("gid"),
        "egid" => fact("egid"),
        "cpu" => Call("cpu", &[], Gives::Long, false),
        "target" => Call("target", &[Arena], Gives::Long, false),
        "execname" => text("execname", &[Arena, Slot, Buffer]),
        "pexecname" => text("pexecname", &[Arena, Slot, Buffer]),
        "cmdline_str" => text("cmdline_str", &[Arena, Slot, Buffer]),
        "env_var" => text("env_var", &[Arena, Slot, Buffer, Str(0)]),

        "pp" => Action::Site(0),
        "pn" => Action::Site(1),
        "probefunc" => Action::Site(2),
        "modname" => Action::Site(3),
        "probe_type" => Action::Site(6),
        "uaddr" => Action::InstructionPointer,
        "is_return" => Action::IsReturn,
        "registers_valid" => Action::HasRegisters,
        "print_regs" => Call("print_regs", &[Arena, Slot, Frame], Nothing, false),
        "u_register" | "register" => Call(
            "register_value",
            &[Slot, Frame, Str(0), Constant(0)],
            Gives::Long,
            true,
        ),
        "s_register" => Call(
            "register_value",
            &[Slot, Frame, Str(0), Constant(1)],
            Gives::Long,
            true,
        ),
        "arg_long" => Action::Argument,
        "set_arg_long" => Action::SetArgument(None),
        "set_arg_int" => Action::SetArgument(Some(true)),
        "set_arg_uint" => Action::SetArgument(Some(false)),

        "gettimeofday_ns" => Call("gettimeofday_ns", &[], Gives::Long, false),
        "monotonic_ns" => Call("monotonic_ns", &[], Gives::Long, false),
        "boottime_ns" => Call("boottime_ns", &[], Gives::Long, false),
        "get_cycles" => Call("get_cycles", &[], Gives::Long, false),

        "user_string" => Call(
            "user_string",
            &[Arena, Slot, Long(0), Buffer],
            Gives::Buffer,
            true,
        ),
        "user_string2" => text("user_string2", &[Arena, Slot, Long(0), Buffer, Str(1)]),
        "user_string_n" => Call(
            "user_string_n",
            &[Arena, Slot, Long(0), Long(1), Buffer],
            Gives::Buffer,
            true,
        ),
        "user_string_n2" => text(
            "user_string_n2",
            &[Arena, Slot, Long(0), Long(1), Buffer, Str(2)],
        ),
        "user_string_quoted" => text("user_string_quoted", &[Arena, Slot, Long(0), Buffer]),
        "user_string_n_quoted" => text(
            "user_string_n_quoted",
            &[Arena, Slot, Long(0), Long(1), Long(2), Buffer],
        ),
        "user_char" | "user_int8" => load(&[Arena, Slot, Long(0), I8, ZERO]),
        "user_short" | "user_int16" => load(&[Arena, Slot, Long(0), I16, ZERO]),
        "user_int" | "user_int32" => load(&[Arena, Slot, Long(0), I32, ZERO]),
        "user_long" | "user_int64" => load(&[Arena, Slot, Long(0), I64, ZERO]),
        "user_uint8" => load(&[Arena, Slot, Long(0), U8, ZERO]),
        "user_uint16" | "user_ushort" => load(&[Arena, Slot, Long(0), U16, ZERO]),
        "user_uint32" => load(&[Arena, Slot, Long(0), U32, ZERO]),
        "user_uint64" | "user_ulong" => load(&[Arena, Slot, Long(0), U64, ZERO]),

        "strlen" => Action::Length,
        "substr" => text("substr", &[Buffer, Str(0), Long(1), Long(2)]),
        "stringat" => Call("stringat", &[Slot, Str(0), Long(1)], Gives::Long, true),
        "strtol" => Call("strtol", &[Str(0), Long(1)], Gives::Long, false),
        "isinstr" => Call("isinstr", &[Str(0), Str(1)], Gives::Long, false),
        "strpos" => Call("strpos", &[Str(0), Str(1)], Gives::Long, false),
        "str_replace" => text("str_replace", &[Buffer, Str(0), Str(1), Str(2)]),
        "text_str" => text("text_str", &[Buffer, Str(0)]),
        "text_strn" => text("text_strn", &[Buffer, Str(0), Long(1), Long(2)]),
        "tokenize" => text("tokenize", &[Arena, Slot, Buffer, Str(0), Str(1)]),
        "isdigit" => Call("isdigit", &[Str(0)], Gives::Long, false),

        "exit" => Call("exit", &[Arena, Slot], Nothing, false),
        "abort" => Action::Abort,
        "max_string_length" => Action::MaxStringLength,
        "error" => Call("error", &[Slot, Str(0)], Nothing, true),
        "warn" => Call("warn", &[Arena, Slot, Str(0)], Nothing, false),
        "ftrace" => Call("log", &[Arena, Slot, Str(0)], Nothing, false),
        "print_char" => Call("print_char", &[Arena, Slot, Long(0)], Nothing, false),
        "randint" => Call("randint", &[Arena, Long(0)], Gives::Long, false),

        "thread_indent" => text("thread_indent", &[Arena, Slot, Long(0), Buffer]),
        "thread_indent_depth" => Call(
            "thread_indent_depth",
            &[Arena, Slot, Long(0)],
            Gives::Long,
            false,
        ),
        "indent" => text("indent", &[Arena, Slot, Long(0), Buffer]),
        "indent_depth" => Call("indent_depth", &[Arena, Slot, Long(0)], Gives::Long, false),

        "print_ubacktrace" => print_stack(&[Arena, Slot, Frame, Tables, ZERO]),
        "print_ubacktrace_brief" => print_stack(&[Arena, Slot, Frame, Tables, Constant(1)]),
        "print_ubacktrace_fileline" => print_stack(&[Arena, Slot, Frame, Tables, Constant(2)]),
        "print_ubacktrace_at" => Call(
            "stack_print_at",
            &[Arena, Slot, Tables, ZERO, Long(0), Long(1), Long(2)],
            Nothing,
            false,
        ),
        "print_ubacktrace_fileline_at" => Call(
            "stack_print_at",
            &[Arena, Slot, Tables, Constant(2), Long(0), Long(1), Long(2)],
            Nothing,
            false,
        ),
        "ubacktrace" => text("stack_text", &[Arena, Slot, Frame, Tables, Buffer]),
        "sprint_ubacktrace" => text("stack_names", &[Arena, Slot, Frame, Tables, Buffer]),
        "ucallers" => Call(
            "stack_callers",
            &[Arena, Slot, Frame, Tables, Long(0), Buffer],
            Gives::Buffer,
            true,
        ),
        "ustack" => Call(
            "stack_frame",
            &[Arena, Slot, Frame, Tables, Long(0)],
            Gives::Long,
            true,
        ),
        "print_usyms" => Call("addresses_print", &[Arena, Slot, Str(0)], Nothing, false),
        "sprint_usyms" => text("addresses_names", &[Tables, Str(0), Buffer]),
        "usymname" => name_of(&[Slot, Tables, Long(0), ZERO, Buffer], false),
        "usymdata" => name_of(&[Slot, Tables, Long(0), Constant(1), Buffer], false),
        "umodname" => name_of(&[Slot, Tables, Long(0), Constant(3), Buffer], true),
        "umodbuildid" => name_of(&[Slot, Tables, Long(0), Constant(7), Buffer], true),
        "umodaddr" => Call(
            "address_in_module",
            &[Slot, Tables, Long(0)],
            Gives::Long,
            true,
        ),
        "usymline" => line_of(&[Slot, Tables, Long(0), Constant(4), Buffer]),
        "usymfile" => line_of(&[Slot, Tables, Long(0), Constant(5), Buffer]),
        "usymfileline" => line_of(&[Slot, Tables, Long(0), Constant(6), Buffer]),
        "matched" => Call(
            "matched",
            &[Arena, Slot, Long(0), Buffer],
            Gives::Buffer,
            true,
        ),
        "ngroups" => Call("ngroups", &[Arena, Slot], Gives::Long, true),

        "fp_add" => float(&[Constant(0), Long(0), Long(1)]),
        "fp_sub" => float(&[Constant(1), Long(0), Long(1)]),
        "fp_mul" => float(&[Constant(2), Long(0), Long(1)]),
        "fp_div" => float(&[Constant(3), Long(0), Long(1)]),
        "fp_rem" => float(&[Constant(4), Long(0), Long(1)]),
        "fp_sqrt" => float(&[Constant(5), Long(0), ZERO]),
        "fp_eq" => float(&[Constant(6), Long(0), Long(1)]),
        "fp_le" => float(&[Constant(7), Long(0), Long(1)]),
        "fp_lt" => float(&[Constant(8), Long(0), Long(1)]),
        "long_to_fp" => float(&[Constant(9), Long(0), ZERO]),
        "fp32_to_fp64" => float(&[Constant(10), Long(0), ZERO]),
        "fp_to_long" => Call("float_to_long", &[Long(0), Long(1)], Gives::Long, false),
        "fp_to_string" => text("float_to_text", &[Buffer, Long(0), Long(1)]),
        "string_to_fp" => Call("float_from_text", &[Slot, Str(0)], Gives::Long, true),

        "user_string_utf16" => wide(&[Arena, Slot, Long(0), Constant(2), Buffer]),
        "user_string_utf32" => wide(&[Arena, Slot, Long(0), Constant(4), Buffer]),
        "user_string2_utf16" => text(
            "user_wide2",
            &[Arena, Slot, Long(0), Constant(2), Buffer, Str(1)],
        ),
        "user_string2_utf32" => text(
            "user_wide2",
            &[Arena, Slot, Long(0), Constant(4), Buffer, Str(1)],
        ),
        "user_string_quoted_utf16" => text(
            "user_wide_quoted",
            &[Arena, Slot, Long(0), Constant(2), Buffer],
        ),
        "user_string_quoted_utf32" => text(
            "user_wide_quoted",
            &[Arena, Slot, Long(0), Constant(4), Buffer],
        ),
        "user_buffer_quoted" => text(
            "user_buffer_quoted",
            &[Arena, Slot, Long(0), Long(1), Long(2), Buffer],
        ),
        "user_buffer_quoted_error" => Call(
            "user_buffer_quoted_error",
            &[Arena, Slot, Long(0), Long(1), Long(2), Buffer],
            Gives::Buffer,
            true,
        ),
        "set_user_char" => store(&[Arena, Slot, Long(0), U8, Long(1)]),
        "set_user_short" => store(&[Arena, Slot, Long(0), U16, Long(1)]),
        "set_user_int" => store(&[Arena, Slot, Long(0), U32, Long(1)]),
        "set_user_long" => store(&[Arena, Slot, Long(0), U64, Long(1)]),
        "set_user_string" => Call(
            "store_user_string",
            &[Arena, Slot, Long(0), Str(1), Constant(i64::MAX)],
            Nothing,
            true,
        ),
        "set_user_string_n" => Call(
            "store_user_string",
            &[Arena, Slot, Long(0), Str(2), Long(1)],
            Nothing,
            true,
        ),

        "system" => Call("system", &[Arena, Slot, Str(0)], Nothing, false),
        "raise" => Call("raise_signal", &[Arena, Slot, Long(0)], Nothing, false),
        "switch_file" => Call("switch_file", &[Arena, Slot], Nothing, false),
        "stp_pid" => Call("tracer_pid", &[Arena], Gives::Long, false),
        "target_set_pid" => Call("target_set_has", &[Arena, Long(0)], Gives::Long, false),
        "tz_gmtoff" => Call("seconds_west", &[Arena], Gives::Long, false),
        "tz_name" => text("zone", &[Arena, Buffer]),
        "udelay" => Call("delay", &[Long(0)], Nothing, false),
        "cmdline_arg" => text("cmdline_arg", &[Buffer, Long(0)]),

        "procfs_value" => text("given_text", &[Tables, Buffer]),
        "procfs_set" => Call("file_set", &[Arena, Slot, Str(0)], Nothing, false),
        "procfs_append" => Call("file_append", &[Arena, Slot, Str(0)], Nothing, false),
        "file_word" => text("file_word", &[Buffer, Str(0), Str(1), Long(2)]),
        "file_link" => text("file_link", &[Buffer, Str(0)]),
        "file_entries" => Call("file_entries", &[Str(0)], Gives::Long, false),

        "errno_str" => text("errno_str", &[Buffer, Long(0)]),
        "ctime" => Call("ctime", &[Slot, Buffer, Long(0)], Gives::Buffer, true),
        _ => return None,
    })
}

/// The run time's number of a fixed error.
pub(crate) fn canned(which: &str) -> i64 {
    (match which {
        "division" => Canned::DivisionByZero,
        "max_action" => Canned::MaxAction,
        "nesting" => Canned::MaxNesting,
        "exhausted" => Canned::Exhausted,
        "unknown_caller" => Canned::UnknownCaller,
        _ => Canned::StringStack,
    }) as i64
}

#[cfg(test)]
mod tests {
    use super::{Action, Arg, Gives, action};
    use script::intrinsics::INTRINSICS;
    use script::ir::Type;

    #[test]
    fn none_is_missing_and_calls_agree() {
        for intrinsic in INTRINSICS {
            let action =
                action(intrinsic.name).unwrap_or_else(|| panic!("{} is missing", intrinsic.name));
            let Action::Call(name, args, gives, _) = action else {
                continue;
            };
            let f =
                runtime::abi::find(name).unwrap_or_else(|| panic!("{name} is not in the run time"));
            let words: usize = args
                .iter()
                .map(|a| {
                    if matches!(a, Arg::Str(_) | Arg::Buffer) {
                        2
                    } else {
                        1
                    }
                })
                .sum();
            assert_eq!(words, f.params, "parameters of {name}");
            assert_eq!(
                usize::from(gives != Gives::Nothing),
                f.results,
                "results of {name}"
            );
            let expected = match intrinsic.result {
                Type::Long => Gives::Long,
                Type::String => Gives::Buffer,
                Type::Unit => Gives::Nothing,
            };
            assert_eq!(gives, expected, "result of {}", intrinsic.name);
            for arg in args {
                match *arg {
                    Arg::Long(n) => assert_eq!(intrinsic.params[n as usize], Type::Long, "{name}"),
                    Arg::Str(n) => assert_eq!(intrinsic.params[n as usize], Type::String, "{name}"),
                    _ => {}
                }
            }
        }
    }
}
