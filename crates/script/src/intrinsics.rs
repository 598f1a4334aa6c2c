//! The operations that the run time provides to tapset functions. A tapset file binds one with a body of the form
//! `%{ intrinsic NAME %}`; the parameters and the result must agree with the table here.

use crate::ir::Type;

/// An operation of the run time.
#[derive(Debug, PartialEq, Eq)]
pub struct Intrinsic {
    /// Its name, by which code generation knows it.
    pub name: &'static str,
    /// Parameter types.
    pub params: &'static [Type],
    /// Result type.
    pub result: Type,
    /// No effect besides its result: an unused call may be dropped.
    pub pure: bool,
}

macro_rules! table {
    ($($name:ident($($p:ident),*) -> $r:ident $($pure:ident)?;)*) => {
        /// All of them, by name.
        pub static INTRINSICS: &[Intrinsic] = &[$(Intrinsic {
            name: stringify!($name), params: &[$(Type::$p),*], result: Type::$r, pure: false $(|| table!(@$pure))?,
        },)*];
    };
    (@pure) => { true };
}

table! {
    // Identity of process and thread.
    pid() -> Long pure; tid() -> Long pure; ppid() -> Long pure; pgrp() -> Long pure; sid() -> Long pure;
    uid() -> Long pure; euid() -> Long pure; gid() -> Long pure; egid() -> Long pure;
    execname() -> String pure; pexecname() -> String pure; cmdline_str() -> String pure; target() -> Long pure;
    cpu() -> Long pure; env_var(String) -> String pure;
    // Place of the hit.
    pp() -> String pure; probefunc() -> String pure; probe_type() -> String pure; pn() -> String pure; modname() -> String pure;
    uaddr() -> Long pure; is_return() -> Long pure; registers_valid() -> Long pure;
    print_regs() -> Unit; u_register(String) -> Long pure; s_register(String) -> Long pure; register(String) -> Long pure;
    arg_long(Long) -> Long pure;
    set_arg_long(Long, Long) -> Unit; set_arg_int(Long, Long) -> Unit; set_arg_uint(Long, Long) -> Unit;
    // Time.
    gettimeofday_ns() -> Long pure; monotonic_ns() -> Long pure; boottime_ns() -> Long pure; get_cycles() -> Long pure;
    // Target memory. `err` forms raise stap's fault error; the others give the last argument instead.
    user_string(Long) -> String; user_string2(Long, String) -> String;
    user_string_n(Long, Long) -> String; user_string_n2(Long, Long, String) -> String;
    user_string_quoted(Long) -> String; user_string_n_quoted(Long, Long, Long) -> String;
    user_long(Long) -> Long; user_int(Long) -> Long; user_short(Long) -> Long; user_char(Long) -> Long;
    user_int8(Long) -> Long; user_int16(Long) -> Long; user_int32(Long) -> Long; user_int64(Long) -> Long;
    user_uint8(Long) -> Long; user_uint16(Long) -> Long; user_uint32(Long) -> Long; user_uint64(Long) -> Long;
    user_ulong(Long) -> Long; user_ushort(Long) -> Long;
    // Strings.
    strlen(String) -> Long pure; substr(String, Long, Long) -> String pure; stringat(String, Long) -> Long pure;
    strtol(String, Long) -> Long pure; isinstr(String, String) -> Long pure; strpos(String, String) -> Long pure;
    str_replace(String, String, String) -> String pure; text_str(String) -> String pure;
    text_strn(String, Long, Long) -> String pure; tokenize(String, String) -> String; isdigit(String) -> Long pure;
    // Session.
    exit() -> Unit; abort() -> Unit; error(String) -> Unit; warn(String) -> Unit; ftrace(String) -> Unit;
    print_char(Long) -> Unit; randint(Long) -> Long;
    // Per-thread indentation of `thread_indent`: depth change in, text out.
    thread_indent(Long) -> String; thread_indent_depth(Long) -> Long; indent(Long) -> String; indent_depth(Long) -> Long;
    // Stacks and names of addresses.
    print_ubacktrace() -> Unit; print_ubacktrace_brief() -> Unit; print_ubacktrace_fileline() -> Unit;
    print_ubacktrace_at(Long, Long, Long) -> Unit; print_ubacktrace_fileline_at(Long, Long, Long) -> Unit;
    ubacktrace() -> String pure; sprint_ubacktrace() -> String pure; ucallers(Long) -> String; ustack(Long) -> Long;
    print_usyms(String) -> Unit; sprint_usyms(String) -> String pure;
    usymname(Long) -> String pure; usymdata(Long) -> String pure; umodname(Long) -> String;
    umodaddr(Long) -> Long; umodbuildid(Long) -> String;
    usymline(Long) -> String pure; usymfile(Long) -> String pure; usymfileline(Long) -> String pure;
    // Regular expressions.
    matched(Long) -> String pure; ngroups() -> Long pure;
    // Floating point: numbers hold the bits of binary64.
    fp_add(Long, Long) -> Long pure; fp_sub(Long, Long) -> Long pure; fp_mul(Long, Long) -> Long pure;
    fp_div(Long, Long) -> Long pure; fp_rem(Long, Long) -> Long pure; fp_sqrt(Long) -> Long pure;
    fp_eq(Long, Long) -> Long pure; fp_le(Long, Long) -> Long pure; fp_lt(Long, Long) -> Long pure;
    long_to_fp(Long) -> Long pure; fp32_to_fp64(Long) -> Long pure; fp_to_long(Long, Long, Long) -> Long pure;
    fp_to_string(Long, Long) -> String pure; string_to_fp(String) -> Long pure;
    // Wide texts and buffers of the target; writing to it.
    user_string_utf16(Long) -> String; user_string_utf32(Long) -> String;
    user_string2_utf16(Long, String) -> String; user_string2_utf32(Long, String) -> String;
    user_string_quoted_utf16(Long) -> String; user_string_quoted_utf32(Long) -> String;
    user_buffer_quoted(Long, Long, Long) -> String; user_buffer_quoted_error(Long, Long, Long) -> String;
    set_user_char(Long, Long) -> Unit; set_user_short(Long, Long) -> Unit; set_user_int(Long, Long) -> Unit;
    set_user_long(Long, Long) -> Unit; set_user_string(Long, String) -> Unit;
    set_user_string_n(Long, Long, String) -> Unit;
    // The session as such.
    max_string_length() -> Long pure;
    system(String) -> Unit; raise(Long) -> Unit; switch_file() -> Unit; stp_pid() -> Long pure; target_set_pid(Long) -> Long pure;
    tz_gmtoff() -> Long pure; tz_name() -> String pure; udelay(Long) -> Unit; cmdline_arg(Long) -> String pure;
    // `procfs` probes: what was written to the file, and what its reader is to get.
    procfs_value() -> String; procfs_set(String) -> Unit; procfs_append(String) -> Unit;
    // Files of proc(5): a word by path, key and number, a link, how many entries.
    file_word(String, String, Long) -> String pure; file_link(String) -> String pure; file_entries(String) -> Long pure;
    // Numbers to text used by tapset code.
    errno_str(Long) -> String pure; ctime(Long) -> String pure;
}

/// The operation of that name.
pub fn find(name: &str) -> Option<&'static Intrinsic> {
    INTRINSICS.iter().find(|i| i.name == name)
}
