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
    /// An unused call is dropped, as stap does: its library says so of these. Reads of memory that might fail are among
    /// them, and arithmetic that can't is not.
    pub pure: bool,
}

/// Functions of the library that stap drops (true) or keeps when nobody uses their result, whatever is in their bodies
/// here: in stap's library they are of other make.
static DECLARED: &[(&str, bool)] = &[
    ("get_loadavg_index", true),
    ("regparm", false),
    ("returnstr", true),
    ("returnval", true),
    ("signal_str", true),
    ("sock_fam_num2str", true),
    ("sock_fam_str2num", true),
    ("sock_prot_num2str", true),
    ("sock_prot_str2num", true),
    ("sock_state_num2str", true),
    ("sock_state_str2num", true),
    ("sprint_ustack", false),
    ("uarch_bytes", false),
    ("user_char_error", true),
    ("user_int16_error", true),
    ("user_int32_error", true),
    ("user_int64_error", true),
    ("user_int8_error", true),
    ("user_int_error", true),
    ("user_long_error", true),
    ("user_short_error", true),
    ("user_string2_n_warn", true),
    ("user_string2_warn", true),
    ("user_string_n_warn", true),
    ("user_string_warn", true),
    ("user_uint16_error", true),
    ("user_uint32_error", true),
    ("user_uint64_error", true),
    ("user_uint8_error", true),
    ("user_uint_error", true),
    ("user_ulong_error", true),
    ("user_ushort_error", true),
];

/// Whether an unused call of this function of the library is dropped, where that does not follow from its body.
pub fn declared_pure(name: &str) -> Option<bool> {
    let at = DECLARED.binary_search_by_key(&name, |(n, _)| n).ok()?;
    DECLARED.get(at).map(|(_, pure)| *pure)
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
    print_regs() -> Unit; u_register(String) -> Long; s_register(String) -> Long; register(String) -> Long;
    arg_long(Long) -> Long pure;
    set_arg_long(Long, Long) -> Unit; set_arg_int(Long, Long) -> Unit; set_arg_uint(Long, Long) -> Unit;
    // Time.
    gettimeofday_ns() -> Long pure; monotonic_ns() -> Long pure; boottime_ns() -> Long pure; get_cycles() -> Long pure;
    // Target memory. `err` forms raise stap's fault error; the others give the last argument instead.
    user_string(Long) -> String pure; user_string2(Long, String) -> String pure;
    user_string_n(Long, Long) -> String pure; user_string_n2(Long, Long, String) -> String pure;
    user_string_quoted(Long) -> String pure; user_string_n_quoted(Long, Long, Long) -> String pure;
    user_long(Long) -> Long pure; user_int(Long) -> Long pure; user_short(Long) -> Long pure; user_char(Long) -> Long pure;
    user_int8(Long) -> Long pure; user_int16(Long) -> Long pure; user_int32(Long) -> Long pure; user_int64(Long) -> Long pure;
    user_uint8(Long) -> Long pure; user_uint16(Long) -> Long pure; user_uint32(Long) -> Long pure; user_uint64(Long) -> Long pure;
    user_ulong(Long) -> Long pure; user_ushort(Long) -> Long pure;
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
    print_usyms(String) -> Unit; sprint_usyms(String) -> String;
    usymname(Long) -> String pure; usymdata(Long) -> String pure; umodname(Long) -> String pure;
    umodaddr(Long) -> Long; umodbuildid(Long) -> String;
    usymline(Long) -> String pure; usymfile(Long) -> String pure; usymfileline(Long) -> String pure;
    // Regular expressions.
    matched(Long) -> String pure; ngroups() -> Long pure;
    // Floating point: numbers hold the bits of binary64.
    fp_add(Long, Long) -> Long; fp_sub(Long, Long) -> Long; fp_mul(Long, Long) -> Long;
    fp_div(Long, Long) -> Long; fp_rem(Long, Long) -> Long; fp_sqrt(Long) -> Long;
    fp_eq(Long, Long) -> Long; fp_le(Long, Long) -> Long; fp_lt(Long, Long) -> Long;
    long_to_fp(Long) -> Long; fp32_to_fp64(Long) -> Long; fp_to_long(Long, Long, Long) -> Long;
    fp_to_string(Long, Long) -> String; string_to_fp(String) -> Long;
    // Wide texts and buffers of the target; writing to it.
    user_string_utf16(Long) -> String pure; user_string_utf32(Long) -> String pure;
    user_string2_utf16(Long, String) -> String pure; user_string2_utf32(Long, String) -> String pure;
    user_string_quoted_utf16(Long) -> String pure; user_string_quoted_utf32(Long) -> String pure;
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
